"""Header and footer: what their text becomes, and where it goes."""

from __future__ import annotations

import base64
import dataclasses
import quopri

import pytest

from drainer.compose.mailman2_decorate import decorated, decoration
from drainer.compose.mailman2_flatten import flattened
from drainer.compose.mailman2_part import Part, part_of_plaintext
from drainer.compose.mailman2_site import ListSettings, SiteSettings

_LIST = ListSettings(
    "kites",
    real_name="Kites",
    host_name="lists.example.org",
    web_page_url="http://lists.example.org/mailman/",
    description="Build kites",
    available_languages=("en", "de", "ru"),
    members={"ann@x.example": "Ann@x.example", "jo~e+a@x.example": 0},
    passwords={"ann@x.example": "secret", "jo~e+a@x.example": "p"},
    usernames={"ann@x.example": "Ann Example"},
)
_SITE = SiteSettings()


def _footer(template: str, recipient: str | None = None, **changes: object) -> str:
    settings = dataclasses.replace(_LIST, msg_footer=template, **changes)  # type: ignore[arg-type]
    return decoration(settings, _SITE, {}, recipient)[1]


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("%(real_name)s at %(host_name)s", "Kites at lists.example.org\n"),
        ("%(list_name)s %(_internal_name)s|%(cgiext)s|", "kites kites||\n"),
        ("100%% of %(no_such_key)s", "100% of %(no_such_key)s\n"),
        ("stray % sign %(real_name)s", "stray % sign %(real_name)s\n"),
        ("number %(real_name)d", "number %(real_name)d\n"),
        ("bare %s", "bare %s\n"),
        ("python 3 %(real_name)a", "python 3 %(real_name)a\n"),
        ("%(real_name)99999999999s", "%(real_name)99999999999s\n"),
        ("blanks   \n-- \nend  \r\n", "blanks\n-- \nend\n"),
        ("raw blanks  \n% \r\n", "raw blanks  \n% \r\n"),
        (" \n\t ", ""),
        ("", ""),
    ],
)
def test_percent_template_is_filled_as_mailman_fills_it(template: str, text: str) -> None:
    assert _footer(template) == text


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("$real_name ${host_name}", "Kites lists.example.org\n"),
        ("$$5 for 100% of %(real_name)s", "$5 for 100% of %(real_name)s\n"),
        ("$unknown", "%(unknown)s\n"),
    ],
)
def test_dollar_template_is_filled_as_mailman_fills_it(template: str, text: str) -> None:
    assert _footer(template, use_dollar_strings=True) == text


def test_member_gets_its_own_values_and_a_stranger_only_the_address() -> None:
    template = "%(user_address)s %(user_delivered_to)s %(user_password)s %(user_language)s %(user_name)s"
    assert _footer(template, "ANN@x.example") == "ann@x.example Ann@x.example secret en Ann Example\n"
    assert _footer(template, "Who@y.example").startswith("who@y.example %(user_delivered_to)s %(user_password)s")


def test_options_page_quotes_the_address_as_python_2_does() -> None:
    assert _footer("%(user_optionsurl)s", "Jo~e+a@x.example") == (
        "http://lists.example.org/mailman/options/kites/jo%7Ee%2Ba%40x.example\n"
    )


@pytest.mark.parametrize(
    ("name", "language", "shown"),
    [
        ("Jürke", "en", "ann@x.example"),
        ("Jürke", "de", "J\udcfcrke"),
        ("J\udcfcrke", "de", "ann@x.example"),
        ("", "en", "ann@x.example"),
    ],
)
def test_name_is_shown_only_where_the_members_language_can_write_it(name: str, language: str, shown: str) -> None:
    changes = {"usernames": {"ann@x.example": name}, "language": {"ann@x.example": language}}
    assert _footer("%(user_name)s", "ann@x.example", **changes) == shown + "\n"


def test_entrys_own_decoration_data_come_last() -> None:
    settings = dataclasses.replace(_LIST, msg_footer="%(real_name)s %(extra)s")
    assert decoration(settings, _SITE, {"decoration-data": {"real_name": "Other", "extra": 5}})[1] == "Other 5\n"


def _mail(head: str, body: bytes) -> Part:
    return part_of_plaintext(f"From: a@b.example\n{head}\n".encode() + body)


def _written(part: Part) -> bytes:
    message = flattened(part)
    return b"".join(line for _, line in message.lines) + b"\n" + message.body


def test_plain_text_gets_both_into_its_body_and_its_fields_anew_at_the_end() -> None:
    mail = _mail("Content-Type: text/plain; name=x; charset=US-ASCII\nX-Last: 1\n", b"body")
    assert _written(decorated(mail, "head\n", "foot\n", "us-ascii")) == (
        b"From: a@b.example\nX-Last: 1\nMIME-Version: 1.0\n"
        b'Content-Type: text/plain; charset="us-ascii"\nContent-Transfer-Encoding: 7bit\n\nhead\nbody\nfoot\n'
    )


def test_flowed_text_stays_flowed_and_loses_other_parameters() -> None:
    mail = _mail("MIME-Version: 1.0\nContent-Type: text/plain; format=flowed; delsp=yes; name=x\n", b"a \nb\n")
    head, _, _ = _written(decorated(mail, "", "foot\n", "us-ascii")).partition(b"\n\n")
    assert head.endswith(
        b'Content-Transfer-Encoding: 7bit\nContent-Type: text/plain; charset="us-ascii"; Format="flowed"; DelSp="yes"'
    )


@pytest.mark.parametrize(
    ("message_charset", "list_charset", "text", "charset", "encoding"),
    [
        ("utf-8", "us-ascii", "Grüße\n", "utf-8", "base64"),
        ("utf-8", "iso-8859-1", "Grüße\n", "iso-8859-1", "quoted-printable"),
        ("utf-16", "us-ascii", "plain\n", "us-ascii", "7bit"),
        ("koi8-r", "us-ascii", "Жук\n", "koi8-r", "base64"),
        ("iso-8859-1", "utf-8", "é\n", "utf-8", "base64"),
        ("iso-2022-jp", "euc-jp", "日本\n", "iso-2022-jp", "7bit"),
    ],
)
def test_lists_charset_is_tried_before_the_messages(
    message_charset: str, list_charset: str, text: str, charset: str, encoding: str
) -> None:
    head = f"MIME-Version: 1.0\nContent-Type: text/plain; charset={message_charset}\n"
    mail = _mail(head + "Content-Transfer-Encoding: base64\n", base64.encodebytes(text.encode(message_charset)))
    done = decorated(mail, "", "foot\n", list_charset)
    assert done.get(b"content-type") == f'text/plain; charset="{charset}"'.encode()
    assert done.get(b"content-transfer-encoding") == encoding.encode()
    assert isinstance(done.payload, bytes)
    decoders = {"base64": base64.decodebytes, "quoted-printable": quopri.decodestring}
    assert decoders.get(encoding, bytes)(done.payload).decode(charset) == text + "foot\n"


@pytest.mark.parametrize(
    ("head", "body"),
    [
        ("", b"8-bit without a charset: \xe4\n"),
        ("Content-Type: text/plain; charset=x-nobody-knows\n", b"text\n"),
        ("Content-Type: text/html\n", b"<p>text</p>\n"),
        ("Content-Type: application/pdf\nContent-Disposition: attachment\n", b"%PDF\n"),
        ("Content-Type: multipart/alternative; boundary=B\n", b"--B\n\none\n--B--\n"),
    ],
)
def test_anything_else_is_wrapped_unchanged_between_header_and_footer(head: str, body: bytes) -> None:
    mail = _mail(head, body)
    done = decorated(mail, "head\n", "foot\n", "us-ascii")
    assert done.content_type.full == "multipart/mixed"
    assert isinstance(done.payload, tuple)
    first, inner, last = done.payload
    assert (first.payload, last.payload) == (b"head\n", b"foot\n")
    assert inner.payload == mail.payload
    assert inner.get(b"content-type") == (mail.get(b"content-type") or b"text/plain")
    assert done.get(b"content-disposition") is None


def test_footer_that_the_lists_charset_cannot_hold_goes_out_in_utf_8() -> None:
    done = decorated(_mail("Content-Type: text/html\n", b"<p>\n"), "", "über\n", "us-ascii")
    assert isinstance(done.payload, tuple)
    footer = done.payload[-1]
    assert isinstance(footer.payload, bytes)
    assert footer.content_type.charset == "utf-8"
    assert base64.decodebytes(footer.payload).decode() == "über\n"


def test_greek_lists_footer_part_has_its_fields_in_pythons_odd_order() -> None:
    done = decorated(_mail("Content-Type: text/html\n", b"<p>\n"), "", "f\n", "iso-8859-7")
    assert isinstance(done.payload, tuple)
    assert done.payload[-1].headers[:2] == (
        (b"MIME-Version", b"1.0"),
        (b"Content-Type", b'text/plain; charset="iso8859-7"'),
    )


def test_nothing_changes_where_header_and_footer_are_empty() -> None:
    mail = _mail("Content-Type: text/plain; name=x\n", b"body")
    assert decorated(mail, "", "", "us-ascii") is mail


def test_parts_nested_to_the_limit_can_be_written() -> None:
    part = Part((), b"innermost\n")
    for depth in range(150):
        part = Part(((b"Content-Type", b"multipart/mixed; boundary=B%d" % depth),), (part,))
    assert b"innermost" in _written(part)
