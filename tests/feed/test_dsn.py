"""What a DSN says, and that nothing a server or an address says becomes more than text in it."""

from __future__ import annotations

import email
from email.message import Message
from email.policy import default

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drainer.compose.wire import ComposedMessage, Envelope
from drainer.feed.dsn import EXPIRED, HEADERS_BYTES, dsn_message, message_id, owed_dsn, status_of
from drainer.ledger.records import MessageRecord, NewDsn, OwedDsn
from drainer.ledger.states import DsnState

FILEBASE = "1772438466.0116487+" + "a" * 40
BOUNCES = "choir-bounces@lists.example.org"
ANN, BEN = "ann@example.org", "ben@example.net"
MAIL = b"From: poster@example.org\r\nSubject: Kites\r\nMessage-ID: <1@example.org>\r\n\r\nbody\r\n"
NO_SUCH_USER = "550 5.1.1 no such user"
AT = 1_772_438_999.5


def new(
    replies: dict[str, str],
    content: bytes = MAIL,
    reverse_path: str = BOUNCES,
    parameters: tuple[str, ...] = (),
    sent: tuple[str, ...] = (),
    status: str = "",
) -> tuple[NewDsn, ...]:
    recipients = tuple(replies)
    composed = ComposedMessage(Envelope(reverse_path, sent or recipients, parameters), content, recipients)
    return owed_dsn(composed, FILEBASE, MessageRecord((b"x",), "choir", "<1@example.org>"), replies, AT, status)


def kept(dsn: NewDsn, dsn_id: int = 7) -> OwedDsn:
    return OwedDsn(
        dsn_id, DsnState.OWED, dsn.filebase, dsn.message.list_id, dsn.message.message_id, dsn.reverse_path,
        dsn.recipients, dsn.headers, dsn.envelope_id, dsn.at_s, None, dsn.at_s, 0,
    )  # fmt: skip


def sent_as(dsns: tuple[NewDsn, ...], smtputf8: bool = False) -> bytes:
    (dsn,) = dsns
    return dsn_message(kept(dsn), "lists.example.org", "192.0.2.25", smtputf8).content


def blocks(content: bytes) -> list[Message]:
    part = email.message_from_bytes(content).get_payload(1)
    assert isinstance(part, Message)
    found = part.get_payload()
    assert isinstance(found, list) and all(isinstance(block, Message) for block in found)
    return [block for block in found if isinstance(block, Message)]


def fields(block: Message) -> dict[str, str]:
    return {name: " ".join(str(value).split()) for name, value in block.items()}


def test_report_has_the_parts_and_fields_of_rfc_3464() -> None:
    content = sent_as(new({ANN: NO_SUCH_USER, BEN: "554 content refused"}, parameters=("ENVID=a+2Bb",)))
    report = email.message_from_bytes(content, policy=default)
    assert report.get_content_type() == "multipart/report" and not report.defects
    assert dict(report["Content-Type"].params)["report-type"] == "delivery-status"
    assert [part.get_content_type() for part in report.iter_parts()] == [
        "text/plain", "message/delivery-status", "text/rfc822-headers",
    ]  # fmt: skip
    assert {name: report[name] for name in ("To", "From", "Date", "Auto-Submitted", "MIME-Version")} == {
        "To": BOUNCES,
        "From": "Mail Delivery System <MAILER-DAEMON@lists.example.org>",
        "Date": "Mon, 02 Mar 2026 08:09:59 +0000",
        "Auto-Submitted": "auto-replied",
        "MIME-Version": "1.0",
    }
    per_message, ann, ben = map(fields, blocks(content))
    assert per_message == {
        "Original-Envelope-Id": "a+b",
        "Reporting-MTA": "dns; lists.example.org",
        "Arrival-Date": "Mon, 02 Mar 2026 08:01:06 +0000",
    }
    assert ann == {
        "Final-Recipient": f"rfc822; {ANN}",
        "Action": "failed",
        "Status": "5.1.1",
        "Remote-MTA": "dns; [192.0.2.25]",
        "Diagnostic-Code": f"smtp; {NO_SUCH_USER}",
        "Last-Attempt-Date": "Mon, 02 Mar 2026 08:09:59 +0000",
    }
    assert (ben["Final-Recipient"], ben["Status"]) == (f"rfc822; {BEN}", "5.0.0")
    assert b"Subject: Kites\r\n" in content and b"body" not in content


def test_null_reverse_path_or_no_failure_owes_no_dsn() -> None:
    assert new({ANN: NO_SUCH_USER}, reverse_path="") == ()
    composed = ComposedMessage(Envelope(BOUNCES, (ANN,)), MAIL, (ANN,))
    assert owed_dsn(composed, FILEBASE, MessageRecord((b"x",), "", ""), {}, AT) == ()


def test_dsn_is_the_same_at_every_try_and_has_the_null_reverse_path() -> None:
    (dsn,) = new({ANN: NO_SUCH_USER})
    first, second = (dsn_message(kept(dsn), "a.example.org", "b.example.org", False) for _ in range(2))
    assert first == second and first.envelope == Envelope("", (BOUNCES,)) and first.owed_for == (BOUNCES,)
    assert message_id(kept(dsn)).encode() in dsn_message(kept(dsn), "other.example.org", "x", False).content
    assert message_id(kept(dsn)) != message_id(kept(dsn, 8))


def test_recipient_given_up_is_reported_with_its_last_reply() -> None:
    _, ann = map(fields, blocks(sent_as(new({ANN: "451 4.2.0 busy"}, status=EXPIRED))))
    assert (ann["Action"], ann["Status"], ann["Diagnostic-Code"]) == ("failed", "4.4.7", "smtp; 451 4.2.0 busy")


def test_reason_of_our_own_is_not_put_into_the_mouth_of_the_mta() -> None:
    _, ann = map(fields, blocks(sent_as(new({ANN: "session lost at RCPT"}))))
    assert ann["Diagnostic-Code"] == "x-drainer; session lost at RCPT" and "Remote-MTA" not in ann


@pytest.mark.parametrize(
    ("owed", "sent", "original"),
    [("ann@old.org", ANN, "rfc822; ann@old.org"), (f"Ann <{ANN}>", ANN, None), ("x@y@z", ANN, None), (ANN, ANN, None)],
    ids=["other_address", "with_name", "two_ats", "same"],
)
def test_original_recipient_is_named_where_it_is_another_plain_address(
    owed: str, sent: str, original: str | None
) -> None:
    _, block = blocks(sent_as(new({owed: NO_SUCH_USER}, sent=(sent,))))
    assert (block["Original-Recipient"], block["Final-Recipient"]) == (original, f"rfc822; {sent}")


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        ("550 5.1.1 x", "5.1.1"), ("550 x", "5.2.0"), ("554", "5.0.0"), ("553 2.1.5 x", "5.1.3"), ("450 4.7.1 x", "4.7.1"),
        ("550 5.1.1234 x", "5.2.0"), ("hello", "5.0.0"), ("", "5.0.0"),
    ],
)  # fmt: skip
def test_status_is_the_enhanced_code_or_what_the_reply_code_stands_for(reply: str, status: str) -> None:
    assert status_of(reply) == status


def test_address_outside_ascii_is_reported_unchanged_or_in_seven_bits() -> None:
    dsns = new({"jörg@exämple.org": NO_SUCH_USER}, content="Subject: Grüße\r\n\r\n".encode())
    seven = sent_as(dsns)
    assert seven.isascii() and b"Final-Recipient: utf-8; j\\x{F6}rg@ex\\x{E4}mple.org\r\n" in seven
    eight = sent_as(dsns, smtputf8=True)
    assert "Final-Recipient: utf-8; jörg@exämple.org\r\n".encode() in eight and "Subject: Grüße\r\n".encode() in eight
    assert b"message/global-delivery-status" in eight and b"message/global-headers" in eight
    (dsn,) = dsns
    assert dsn_message(kept(dsn), "r", "m", True).envelope.mail_parameters == ("SMTPUTF8", "BODY=8BITMIME")


def test_long_lines_outside_ascii_stay_within_what_smtp_carries() -> None:
    address, header = "ö" * 400 + "@example.org", b"Subject: " + "ü".encode() * 1500 + b"\r\n"
    content = sent_as(new({address: NO_SUCH_USER + " é" * 2000}, content=header), smtputf8=True)
    assert max(map(len, content.split(b"\r\n"))) <= 998


def test_header_of_any_size_and_octets_comes_back_bounded_and_in_seven_bits() -> None:
    header = (
        b"Subject: caf\xe9 \x00\r\nX-Long: " + b"y" * 2000 + b"\r\n" + b"".join(b"X: %d\r\n" % n for n in range(9999))
    )
    content = sent_as(new({ANN: NO_SUCH_USER}, content=header + b"\r\nbody"))
    assert content.isascii() and len(content) < 4 * HEADERS_BYTES
    part = email.message_from_bytes(content).get_payload(2)
    assert isinstance(part, Message)
    returned = part.get_payload(decode=True)
    assert isinstance(returned, bytes)
    assert returned.replace(b"\r\n", b"\n").rstrip() == header[:HEADERS_BYTES].rpartition(b"\r\n")[0].replace(
        b"\r\n", b"\n"
    )


@given(reply=st.text(), address=st.text(), reverse_path=st.text(min_size=1), header=st.binary(), smtputf8=st.booleans())
def test_whatever_is_said_stays_inside_its_field(
    reply: str, address: str, reverse_path: str, header: bytes, smtputf8: bool
) -> None:
    content = sent_as(new({address: reply, ANN: NO_SUCH_USER}, header, reverse_path, sent=(address, ANN)), smtputf8)
    assert content.count(b"\r\n") == content.count(b"\n") == content.count(b"\r")
    assert max(map(len, content.split(b"\r\n"))) <= 998
    report = email.message_from_bytes(content)
    assert report.keys() == [
        "From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type",
    ]  # fmt: skip
    parts = report.get_payload()
    assert isinstance(parts, list) and len(parts) == 3 and isinstance(parts[1], Message)
    if parts[1].get_content_type() == "message/delivery-status":
        recipients = [block for block in blocks(content) if block["Final-Recipient"]]
        assert len(blocks(content)) == 3 and len(recipients) == 2
        assert fields(recipients[1])["Final-Recipient"] == f"rfc822; {ANN}"


@pytest.mark.parametrize(
    "reply",
    [
        "550 " + "x" * 65_536,
        "550 " + "y " * 32_768,
        "550 no\r\nAction: delivered\r\n\r\nFinal-Recipient: rfc822; eve@example.org",
        "550 \x00\x1b[31m\x85\u2028--=_",
    ],
    ids=["one_word_of_64_KB", "words_of_64_KB", "fields", "controls"],
)
def test_reply_of_any_length_and_shape_stays_one_diagnostic(reply: str) -> None:
    content = sent_as(new({ANN: reply}))
    _, ann = map(fields, blocks(content))
    assert ann["Action"] == "failed" and ann["Diagnostic-Code"].startswith("smtp; 550")
    assert len(content) < 10_000 and max(map(len, content.split(b"\r\n"))) <= 998
