"""Header and footer of a list: their text, and how they are inserted into a message.

In    a message, the list's and the site's settings, the recipient if each one gets its own copy
Out   the message with header and footer
Pure  values only

Source  MAILMAN21.md §5. In these cases Mailman shunts the entry or loses text, and this module delivers it:
  - a multipart/mixed whose payload is not a list of parts is wrapped
  - a template with a stray `%s`, for which Mailman inserts all settings of the list, goes out unchanged; so does one with a
    width of 10,000 or more
  - text that the list's charset cannot encode goes out in utf-8
  - a plain text in broken uuencode keeps its form
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import replace

from drainer.compose.mailman2_charset import (
    BASE64,
    QUOTED_PRINTABLE,
    Charset,
    body_in_base64,
    body_in_quoted_printable,
    charset_named,
)
from drainer.compose.mailman2_part import Part, decoded_body
from drainer.compose.mailman2_site import ListSettings, SiteSettings
from drainer.compose.python27_codecs import decode, encode

_BLANKS_AT_LINE_END = re.compile(r"(?m)(?<!^--) +(?=\n)")
_DOLLAR = re.compile(r"\$\$|\$([_a-z]\w*)|\$\{([_a-z]\w*)\}", re.IGNORECASE | re.ASCII)
_ASCII_REPR = re.compile(r"%(?:\([^)]*\))?[-+ #0]*[0-9*]*(?:\.[0-9*]*)?[hlL]?a")
_TOO_WIDE = re.compile(r"%(?:\([^)]*\))?[-+ #0]*(?:[0-9]{5,}|[0-9]*\.[0-9]{5,})")  # a footer of gigabytes
_MIME_VERSION = (b"MIME-Version", b"1.0")


class _Substitutions(Mapping[str, object]):
    """Leaves an unknown `%(key)s` as it is. It has no text form, so that a `%s` without a key is an error."""

    def __init__(self, values: Mapping[str, object]) -> None:
        self._values = values

    def __getitem__(self, key: str) -> object:
        return self._values.get(key, f"%({key})s")

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        raise ValueError("a conversion without a key")


def is_decorated(metadata: Mapping[str, object]) -> bool:
    """Whether delivery adds header and footer: not to digests and notices."""
    return not metadata.get("isdigest") and not metadata.get("nodecorate")


def decoration(
    settings: ListSettings, site: SiteSettings, metadata: Mapping[str, object], recipient: str | None = None
) -> tuple[str, str]:
    """The texts of header and footer, "" for none; octets in the list's charset are ASCII with surrogates.

    recipient  given if each recipient gets its own copy; adds the user_... substitutions
    """
    values: dict[str, object] = {
        "real_name": settings.real_name,
        "list_name": settings.internal_name,
        "_internal_name": settings.internal_name,
        "host_name": settings.host_name,
        "web_page_url": settings.web_page_url,
        "description": settings.description,
        "info": settings.info,
        "cgiext": site.cgiext,
    }
    if recipient is not None:
        values |= _member_values(settings, site, recipient)
    extra = metadata.get("decoration-data")
    if isinstance(extra, dict):
        values |= {key: value for key, value in extra.items() if isinstance(key, str)}
    return (
        _text(settings.msg_header, settings.use_dollar_strings, values),
        _text(settings.msg_footer, settings.use_dollar_strings, values),
    )


def depends_on_recipient(settings: ListSettings, metadata: Mapping[str, object]) -> bool:
    """Whether header or footer may differ from recipient to recipient."""
    extra = metadata.get("decoration-data")
    texts = [settings.msg_header, settings.msg_footer]
    if isinstance(extra, dict):
        texts += [value for value in extra.values() if isinstance(value, str)]
    return any("user_" in text for text in texts)


def _member_values(settings: ListSettings, site: SiteSettings, recipient: str) -> dict[str, object]:
    member = recipient.lower()
    values: dict[str, object] = {"user_address": member}
    if not settings.is_member(member):
        return values
    values["user_delivered_to"] = settings.address_as_written(member)
    if member not in settings.passwords:
        return values
    language = settings.member_language(member, site)
    quoted = urllib.parse.quote(member, errors="surrogateescape").replace("~", "%7E")
    return values | {
        "user_password": settings.passwords[member],
        "user_language": language,
        "user_name": _shown_name(settings.member_name(member), site.charset(language)) or member,
        "user_optionsurl": f"{settings.web_page_url}options{site.cgiext}/{settings.internal_name}/{quoted}",
    }


def _shown_name(name: str, charset: str) -> str:
    """The name as octets of the charset; "" if the charset cannot encode it, or it is neither unicode nor ASCII."""
    try:
        return encode(name, charset).decode("ascii", "surrogateescape")
    except (UnicodeError, LookupError):
        return ""


def _text(template: str, dollar_strings: bool, values: Mapping[str, object]) -> str:
    if not template.strip(" \t\n\r\f\v"):
        return ""
    if dollar_strings:
        template = _DOLLAR.sub(_percent_key, template.replace("%", "%%"))
    try:
        conversions = template.replace("%%", "")
        if _ASCII_REPR.search(conversions) or _TOO_WIDE.search(conversions):
            raise ValueError("not a conversion of Python 2, or not a sensible one")
        text = _unmixed(template % _Substitutions(values))
        text = _BLANKS_AT_LINE_END.sub("", text.replace("\r\n", "\n"))
    except (ValueError, TypeError):
        text = template
    return text if text.endswith("\n") else text + "\n"


def _percent_key(match: re.Match[str]) -> str:
    key = match[1] or match[2]
    return f"%({key})s" if key else "$"


def _unmixed(text: str) -> str:
    """The text. Raises ValueError if it mixes byte strings and unicode, which Python 2 cannot join."""
    if not text.isascii():
        has_octets = any(0xDC80 <= ord(character) <= 0xDCFF for character in text)
        if has_octets and any(character > "\x7f" and not 0xDC80 <= ord(character) <= 0xDCFF for character in text):
            raise ValueError("octets and unicode in one text")
    return text


def readable(text: str, charset: str) -> str:
    """A text of decoration() as characters, without octets that the charset cannot decode."""
    try:
        octets = text.encode("ascii", "surrogateescape")
    except UnicodeEncodeError:
        return text
    try:
        return decode(octets, charset, "ignore")
    except (LookupError, UnicodeError):
        return decode(octets, "ascii", "ignore")


def decorated(part: Part, header: str, footer: str, list_charset: str) -> Part:
    """The message with header and footer; unchanged if both are empty.

    They go into the body of a plain text, into multipart/mixed as parts of their own, and around everything else.
    """
    if not header and not footer:
        return part
    full = part.content_type.full
    if not part.is_multipart and full == "text/plain":
        in_the_body = _in_the_body(part, header, footer, list_charset)
        if in_the_body is not None:
            return in_the_body
    head = (_text_part(header, list_charset),) if header else ()
    foot = (_text_part(footer, list_charset),) if footer else ()
    if isinstance(part.payload, tuple) and full == "multipart/mixed":
        return replace(part, payload=(*head, *part.payload, *foot))
    inner = replace(part, headers=tuple(one for one in part.headers if one[0].lower().startswith(b"content-")))
    if not inner.headers:
        inner = inner.with_field(b"Content-Type", b"text/plain")
    outer = part.without(b"content-type", b"content-transfer-encoding", b"content-disposition")
    outer = _with_mime_version(outer).with_field(b"Content-Type", b"multipart/mixed")
    return replace(outer, payload=(*head, inner, *foot))


def _in_the_body(part: Part, header: str, footer: str, list_charset: str) -> Part | None:
    """None if the body cannot be decoded, or no charset can encode it together with header and footer."""
    kind = part.content_type
    message_charset = kind.charset or "us-ascii"
    try:
        body = decode(decoded_body(part), message_charset)
        header, footer = readable(header, list_charset), readable(footer, list_charset)
        joined = header + body + ("" if not footer or body.endswith("\n") else "\n") + footer
        charset, text = _first_fitting(joined, list_charset, message_charset)
        bare = part.without(b"content-type", b"content-transfer-encoding")
        done = with_text_payload(bare, text, charset_named(charset))
    except (UnicodeError, LookupError):
        return None
    parameters = [(b"Format", kind.flowed), (b"DelSp", kind.delete_sp)]
    flowed = b"".join(b'; %s="%s"' % (name, _escaped(value)) for name, value in parameters if value)
    if flowed:
        value = done.get(b"content-type") or b""
        done = done.without(b"content-type").with_field(b"Content-Type", value + flowed)
    return done


def _first_fitting(text: str, list_charset: str, message_charset: str) -> tuple[str, bytes]:
    try:
        return list_charset, encode(text, list_charset)
    except UnicodeError:
        return message_charset, encode(text, message_charset)


def _escaped(value: str) -> bytes:
    return value.replace("\\", "\\\\").replace('"', '\\"').encode("latin-1", "replace")


def _with_mime_version(part: Part) -> Part:
    return part if part.get(b"mime-version") is not None else part.with_field(*_MIME_VERSION)


def with_text_payload(part: Part, text: bytes, charset: Charset) -> Part:
    """A part without Content-Type, with this text as its body. The text is in the charset's input codec."""
    part = _with_mime_version(part)
    part = part.with_field(
        b"Content-Type", b'text/plain; charset="%s"' % charset.output_charset.encode("ascii", "replace")
    )
    if charset.input_charset != charset.output_charset:
        text = charset.convert(text)
    if charset.body_encoding == QUOTED_PRINTABLE:
        encoding, text = b"quoted-printable", body_in_quoted_printable(text)
    elif charset.body_encoding == BASE64:
        encoding, text = b"base64", body_in_base64(text)
    else:
        encoding = b"7bit" if text.isascii() else b"8bit"
    if part.get(b"content-transfer-encoding") is None:
        part = part.with_field(b"Content-Transfer-Encoding", encoding)
    return replace(part, payload=text)


def _text_part(text: str, list_charset: str) -> Part:
    """Header or footer as a part of its own; octets are inserted as they are, even if the list's charset lacks them."""
    name = list_charset
    try:
        part = with_text_payload(Part((), None), _octets(text, name), charset_named(name))
    except (UnicodeError, LookupError):
        name = "utf-8"
        part = with_text_payload(
            Part((), None), encode(readable(text, list_charset), name, "replace"), charset_named(name)
        )
    version, kind, *rest = part.headers
    # The email package writes Content-Type first, and writes it again at the end if it renames the charset.
    first = (kind, version) if charset_named(name).output_charset == name else (version, kind)
    return replace(part, headers=(*first, *rest)).with_field(b"Content-Disposition", b"inline")


def _octets(text: str, charset: str) -> bytes:
    try:
        return text.encode("ascii", "surrogateescape")
    except UnicodeEncodeError:
        return encode(text, charset)
