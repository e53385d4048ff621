"""Composes what Mailman 2.1's own delivery would send to the MTA for a queue entry.

In    a readable entry, the settings of its list and site, the recipients still owed
Out   composed transactions, one after the other: bulk delivery shares one content among all of them, VERP and
      personalised delivery has one for each recipient
Pure  no file, no clock, no randomness

Source  MAILMAN21.md §4 to §6. Intended differences to Mailman:
  - a recipient named twice in an entry gets one copy
  - left-over chunks (`undelivered`) delivered one by one: each sender contains its own recipient only, while Mailman's
    contains all recipients so far; a message that is decorated already is not decorated a second time
  - VERP with a sender without `@` keeps that sender, while Mailman shunts the entry
  - header and footer: see mailman2_decorate.py
  - boundaries invented at delivery are a digest of the text, not random numbers
A header field with another one inside its value, and a message that cannot be serialised, raise ComposerFailed; Mailman
shunts them.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping, Sequence

from drainer.compose.mailman2_charset import charset_named
from drainer.compose.mailman2_decorate import decorated, decoration, depends_on_recipient, is_decorated, readable
from drainer.compose.mailman2_envelope import envelope_sender, verp_sender, wire_address, wire_addresses
from drainer.compose.mailman2_flatten import FlatMessage, flattened
from drainer.compose.mailman2_header import HeaderValue, encoded, encoded_text
from drainer.compose.mailman2_part import Part, octets, part_of_message, part_of_plaintext
from drainer.compose.mailman2_site import ListSettings, SiteSettings
from drainer.compose.python27_codecs import decode
from drainer.compose.transactions import bulk_chunks, left_over_chunks
from drainer.compose.wire import ComposedMessage, Envelope
from drainer.errors import ComposerFailed, MembersElsewhere
from drainer.queuedir.entry import QueueEntry

_SPECIALS = re.compile(rb'[][\\()<>@,:;".]')
_ESCAPED = re.compile(rb'[][\\()"]')


def compose_transactions(
    entry: QueueEntry, settings: ListSettings, site: SiteSettings, recipients: Sequence[str], max_recipients: int = 0
) -> Iterator[ComposedMessage]:
    """Compose an entry for some of its recipients; lazily, so that the copies are not in memory all at once.

    max_recipients  most recipients in a transaction, besides SMTP_MAX_RCPTS; 0: no limit of our own
    Raises  ComposerFailed, MembersElsewhere
    """
    owed = tuple(dict.fromkeys(recipients))
    if settings.is_extended and asks_for_members(settings, entry.metadata):
        raise MembersElsewhere(f"members of this list are not in config.pck (extend.py); list {settings.internal_name}")
    part = message_part(entry)
    if goes_one_by_one(settings, entry.metadata):
        yield from _one_by_one(entry, part, settings, site, owed)
    else:
        yield from _bulk(entry, part, settings, site, _chunks(entry.metadata, owed, site, max_recipients))


def message_part(entry: QueueEntry) -> Part:
    """The entry's message as octets. Raises ComposerFailed."""
    return part_of_message(entry.message) if entry.plaintext is None else part_of_plaintext(entry.plaintext)


def goes_one_by_one(settings: ListSettings, metadata: Mapping[str, object]) -> bool:
    """Whether every recipient gets its own transaction: VERP or a personalised list, unless `personalize` is 0."""
    if not metadata.get("personalize", True):
        return False
    return bool(metadata.get("verp")) or settings.personalize in (1, 2)


def asks_for_members(settings: ListSettings, metadata: Mapping[str, object]) -> bool:
    """Whether Mailman looks up recipients among the list's members: for the header and footer of a single copy, and for the
    name in its To."""
    return goes_one_by_one(settings, metadata) and (settings.personalize == 2 or is_decorated(metadata))


def bulk_decoration(settings: ListSettings, site: SiteSettings, entry: QueueEntry) -> tuple[str, str]:
    """The texts of header and footer that bulk delivery puts into this message; "" for none.

    For an entry that contains them already (`decorated`): the texts to look for in its body.
    """
    if not is_decorated(entry.metadata):
        return "", ""
    charset = site.charset(settings.preferred_language)
    header, footer = decoration(settings, site, entry.metadata)
    return readable(header, charset), readable(footer, charset)


def _chunks(
    metadata: Mapping[str, object], owed: tuple[str, ...], site: SiteSettings, max_recipients: int
) -> list[tuple[str, ...]]:
    left_over = metadata.get("undelivered")
    if not isinstance(left_over, list):
        return bulk_chunks(owed, site.smtp_max_rcpts, max_recipients)
    chunks = [[one for one in chunk if isinstance(one, str)] for chunk in left_over if isinstance(chunk, list | tuple)]
    return left_over_chunks(chunks, owed, max_recipients)


def _bulk(
    entry: QueueEntry, part: Part, settings: ListSettings, site: SiteSettings, chunks: list[tuple[str, ...]]
) -> Iterator[ComposedMessage]:
    sender = envelope_sender(settings, entry.metadata)
    if is_decorated(entry.metadata) and not entry.metadata.get("decorated"):
        part = _decorated_for(entry, part, settings, site, None)
    message = _with_sender(flattened(part, site.closing_line), sender, settings)
    content, size = message.content, message.size
    reverse_path = wire_address(sender)
    for chunk in chunks:
        yield ComposedMessage(Envelope(reverse_path, wire_addresses(chunk), (), size), content, chunk)


def _one_by_one(
    entry: QueueEntry, part: Part, settings: ListSettings, site: SiteSettings, owed: tuple[str, ...]
) -> Iterator[ComposedMessage]:
    metadata = entry.metadata
    sender = envelope_sender(settings, metadata)
    decorates = is_decorated(metadata) and not metadata.get("decorated")
    shared = None
    if not decorates:
        shared = flattened(part, site.closing_line)
    elif not depends_on_recipient(settings, metadata):
        shared = flattened(_decorated_for(entry, part, settings, site, ""), site.closing_line)
    for recipient in owed:
        own_sender = verp_sender(sender, recipient, site) if metadata.get("verp") else sender
        if own_sender is None:
            continue
        message = shared or flattened(_decorated_for(entry, part, settings, site, recipient), site.closing_line)
        message = _personalised(message, settings, site, metadata, recipient)
        message = _with_sender(message, own_sender, settings)
        envelope = Envelope(wire_address(own_sender), (wire_address(recipient),), (), message.size)
        yield ComposedMessage(envelope, message.content, (recipient,))


def _decorated_for(
    entry: QueueEntry, part: Part, settings: ListSettings, site: SiteSettings, recipient: str | None
) -> Part:
    header, footer = decoration(settings, site, entry.metadata, recipient)
    return decorated(part, header, footer, site.charset(settings.preferred_language))


def _with_sender(message: FlatMessage, sender: str, settings: ListSettings) -> FlatMessage:
    errors_to = (b"Errors-To", _value(sender))
    if not settings.include_sender_header:
        return message.with_only(errors_to)
    return message.with_only(errors_to, (b"Sender", _value(f'"{settings.real_name}" <{sender}>')))


def _personalised(
    message: FlatMessage, settings: ListSettings, site: SiteSettings, metadata: Mapping[str, object], recipient: str
) -> FlatMessage:
    """The message with the To, X-Mailman-Copy and address field of this recipient."""
    if settings.personalize == 2:
        message = message.without(b"to").with_field(b"To", _to(settings, site, recipient))
    message = message.without(b"x-mailman-copy")
    had_it = metadata.get("add-dup-header")
    if isinstance(had_it, dict) and recipient in had_it:
        message = message.with_field(b"X-Mailman-Copy", b"yes")
    if site.rcpt_base64_header_name:
        name = site.rcpt_base64_header_name.encode("ascii", "replace")
        address = base64.b64encode(octets(recipient, "an address"))
        message = message.without(name.lower()).with_field(name, address)
    return message


def _to(settings: ListSettings, site: SiteSettings, recipient: str) -> bytes:
    address = octets(recipient, "an address")
    name = settings.member_name(recipient) if settings.is_member(recipient) else ""
    if not name:
        return address
    language_charset = site.charset(settings.member_language(recipient, site))
    charset = charset_named("iso-8859-1" if language_charset == "us-ascii" else language_charset)
    try:
        text = decode(name.encode("ascii", "surrogateescape"), charset.input_codec or "ascii", "replace")
    except UnicodeEncodeError:
        text = name
    phrase = encoded(encoded_text(text, charset))
    quote = b'"' if _SPECIALS.search(phrase) else b""
    return b"%s%s%s <%s>" % (quote, _ESCAPED.sub(rb"\\\g<0>", phrase), quote, address)


def _value(text: str) -> HeaderValue:
    try:
        return text.encode("ascii", "surrogateescape")
    except UnicodeEncodeError:
        if any(0xDC80 <= ord(character) <= 0xDCFF for character in text):
            raise ComposerFailed("octets and unicode in one header field") from None
        return encoded_text(text, charset_named("us-ascii"))
