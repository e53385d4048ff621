"""What keeps the identity of a message, and what must not."""

from __future__ import annotations

import email.utils
import tracemalloc
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drainer.duplicates.canonical import canonical_date
from drainer.duplicates.fingerprint import RULES, fingerprint
from drainer.duplicates.summary import summarise
from drainer.ledger.records import recipient_key
from drainer.pickles.standins import Charset, Header, Message
from drainer.queuedir.entry import Flavour, QueueEntry
from drainer.queuedir.read import read_entry
from tests.duplicates.labelled import SAMPLES
from tests.duplicates.mails import Mail, Post

MAILMAN3 = SAMPLES.parent / "mailman3"
WORDS = st.text(st.sampled_from("abc äß€ 19,.-\n"), min_size=1, max_size=200).filter(lambda text: text.strip() != "")


def same(one: QueueEntry, other: QueueEntry) -> bool:
    return bool(set(fingerprint(one).identity) & set(fingerprint(other).identity))


@settings(max_examples=150, deadline=None)
@given(
    text=WORDS,
    attachment=st.none() | st.binary(min_size=1, max_size=100),
    encodings=st.tuples(*[st.sampled_from(["8bit", "quoted-printable", "base64"])] * 2),
    line_end=st.sampled_from([b"\n", b"\r\n"]),
    at_end=st.sampled_from([b"", b"\n", b"\n\n"]),
    reverse=st.booleans(),
    has_id=st.booleans(),
)
def test_changes_by_relays_keep_the_identity_of_a_mail(
    text: str,
    attachment: bytes | None,
    encodings: tuple[str, str],
    line_end: bytes,
    at_end: bytes,
    reverse: bool,
    has_id: bool,
) -> None:
    mail = Mail(text=text + "\n", attachment=attachment, message_id="<1@sender.example>" if has_id else "")
    relayed = replace(
        mail,
        trace=("from b.example by lists.example.org id 77; Mon, 23 Mar 2026 12:40:57 +0000", *mail.trace),
        headers=(("X-Spam-Score", "-0.8"), ("Delivery-Date", "Mon, 23 Mar 2026 12:40:57 +0000")),
        date="Sun, 22 Mar 2026 21:38:15 +0100",
    )
    first = Post(mail.octets(encodings[0]))
    second = Post(relayed.octets(encodings[1], line_end, at_end, reverse)).later()
    assert same(first.entry(), second.entry())


@settings(max_examples=150, deadline=None)
@given(text=WORDS, other=WORDS, attachment=st.none() | st.binary(min_size=1, max_size=50))
def test_other_words_make_another_message_even_under_the_same_message_id(
    text: str, other: str, attachment: bytes | None
) -> None:
    def normal(words: str) -> str:
        return "\n".join(line.rstrip(" ") for line in words.split("\n")).rstrip()

    if normal(text) == normal(other):
        return
    mail = Mail(text=text + "\n", attachment=attachment)
    assert not same(Post(mail.octets()).entry(), Post(replace(mail, text=other + "\n").octets()).later().entry())


@given(attachment=st.binary(min_size=1, max_size=50), other=st.binary(min_size=1, max_size=50))
@settings(deadline=None)
def test_another_attachment_makes_another_message(attachment: bytes, other: bytes) -> None:
    if attachment == other:
        return
    mail = Mail(attachment=attachment)
    assert not same(Post(mail.octets()).entry(), Post(replace(mail, attachment=other).octets()).later().entry())


@pytest.mark.parametrize(
    "change",
    [
        {"text": "Meet at the slipway on Friday.\nBring 58 lanterns.\n"},
        {"attachment": b"x", "attachment_name": "other.bin"},
        {"attachment": None},
        {"date": "Mon, 23 Mar 2026 20:38:15 +0000"},
    ],
    ids=["a figure", "a file name", "an attachment gone", "the date: a device reuses its Message-ID day after day"],
)
def test_any_of_these_makes_another_message(change: dict[str, Any]) -> None:
    mail = Mail(attachment=b"x")
    assert not same(Post(mail.octets()).entry(), Post(replace(mail, **change).octets()).later().entry())


def test_the_same_mail_on_two_lists_is_two_messages() -> None:
    octets = Mail().octets()
    assert not same(Post(octets).entry(), Post(octets, list_id="news").entry())


def test_the_same_mail_to_a_list_and_to_its_owners_is_two_messages() -> None:
    octets = Mail().octets()
    assert not same(Post(octets).entry(), Post(octets, metadata={"toowner": 1, "nodecorate": 1}).entry())


def test_copies_of_a_persons_mail_that_got_new_message_ids_are_recognised() -> None:
    first = Mail()
    second = replace(first, message_id="<0C4BFC5CF568AA@lists.example.org>")
    assert same(Post(first.octets()).entry(), Post(second.octets()).later().entry())


def test_a_program_that_says_the_same_twice_in_a_second_is_two_messages() -> None:
    first = Mail(sender="root@db.example.net", message_id="<1@db.example.net>")
    second = replace(first, message_id="<2@db.example.net>")
    author = "root@db.example.net"
    assert not same(Post(first.octets(), author=author).entry(), Post(second.octets(), author=author).later(1).entry())


@pytest.mark.parametrize("made", ["", "<mailman.7.1774216230.42.talk@lists.example.org>", "<77AB@lists.example.org>"])
def test_a_programs_mail_without_a_message_id_of_its_own_is_recognised(made: str) -> None:
    first = Mail(sender="cron@db.example.net", message_id="")
    author = "cron@db.example.net"
    one, other = Post(first.octets(), author=author), Post(replace(first, message_id=made).octets(), author=author)
    assert same(one.entry(), other.later().entry())


def test_two_people_who_write_the_same_through_one_address_in_one_second_are_two_messages() -> None:
    one = Mail(sender="Ann via Forum <forum@site.example>", message_id="<1@site.example>", text="+1\n")
    other = replace(one, sender="Ben via Forum <forum@site.example>", message_id="<2@site.example>")
    author = "forum@site.example"
    assert not same(Post(one.octets(), author=author).entry(), Post(other.octets(), author=author).later(1).entry())


def test_notices_of_one_text_in_one_second_to_one_person_are_many_messages() -> None:
    notice: dict[str, object] = {"nodecorate": 1, "reduced_list_headers": 1}
    one = Mail(message_id="<mailman.27.1774231334.4242.talk@lists.example.org>")
    other = replace(one, message_id="<mailman.28.1774231334.4242.talk@lists.example.org>")
    assert not same(
        Post(one.octets(), metadata=notice).entry(), Post(other.octets(), metadata=notice).later(0.02).entry()
    )


def test_notice_without_identifying_headers_is_a_copy_only_of_itself() -> None:
    bare = Mail(message_id="", date="", sender="")
    first = Post(bare.octets(), flavour=Flavour.MAILMAN3, author="", metadata={"nodecorate": True})
    assert fingerprint(first.entry()).identity
    assert same(first.entry(), first.entry())
    assert not same(first.entry(), first.later(0.001).entry())


def test_post_without_date_and_message_id_is_a_copy_of_no_other_mail() -> None:
    bare = Mail(message_id="", date="")
    assert not same(Post(bare.octets()).entry(), Post(bare.octets()).later(5).entry())


def test_the_same_received_time_is_the_same_enqueueing_even_if_the_text_was_decorated() -> None:
    mail = Mail()
    retried = replace(mail, text="(from the list)\n" + mail.text + "____\nfooter\n")
    decorated: dict[str, object] = {"tolist": 1, "decorated": True}
    assert same(Post(mail.octets()).entry(), Post(retried.octets(), digest="cd34", metadata=decorated).entry())


def test_mailman_3_gives_a_retried_post_the_received_time_it_came_with() -> None:
    came: dict[str, object] = {"to_list": True, "received_time": datetime(2026, 3, 22, 20, 38, 15, 77)}
    mail = Mail()
    retried = replace(mail, text=mail.text + "____\nfooter\n")
    first = Post(mail.octets(), flavour=Flavour.MAILMAN3, metadata=came)
    second = Post(retried.octets(), flavour=Flavour.MAILMAN3, metadata={**came, "nodecorate": True}).later()
    assert same(first.entry(), second.entry())
    assert summarise(second.entry()).decorated and not summarise(first.entry()).decorated


def test_resends_share_the_resend_digest_and_no_identity() -> None:
    first = Mail()
    second = replace(
        first, message_id="<2@sender.example>", date="Tue, 24 Mar 2026 06:43:47 +0000", text=first.text[:-1] + "  \n\n"
    )
    one, other = Post(first.octets()).entry(), Post(second.octets()).later().entry()
    assert fingerprint(one).resend == fingerprint(other).resend is not None
    assert not same(one, other)


@pytest.mark.parametrize("change", [{"subject": "Correction: Plan"}, {"text": "Sorry if twice.\nMeet."}])
def test_another_subject_or_text_is_no_resend(change: dict[str, Any]) -> None:
    mail = Mail()
    changed = replace(mail, message_id="<2@sender.example>", **change)
    assert fingerprint(Post(mail.octets()).entry()).resend != fingerprint(Post(changed.octets()).entry()).resend


def test_a_numbered_subject_prefix_does_not_hide_a_resend() -> None:
    first, second = Mail(subject="[Talk 9] Plan"), Mail(subject="[Talk 12] Plan", message_id="<2@sender.example>")
    as_received: dict[str, object] = {"tolist": 1, "origsubj": "Plan"}
    one, other = (Post(mail.octets(), metadata=as_received).entry() for mail in (first, second))
    assert fingerprint(one).resend == fingerprint(other).resend


@pytest.mark.parametrize(
    ("author", "headers"),
    [
        ("cron@db.example.net", ()),
        ("no-reply@shop.example", ()),
        ("nagios-alerts@db.example.net", ()),
        ("ann@example.net", (("Auto-Submitted", "auto-generated"),)),
        ("ann@example.net", (("Precedence", "bulk"),)),
        ("ann@example.net", (("Return-Path", "<>"),)),
    ],
)
def test_routine_mail_is_never_a_resend(author: str, headers: tuple[tuple[str, str], ...]) -> None:
    assert fingerprint(Post(Mail(headers=headers).octets(), author=author).entry()).resend is None


def test_two_members_of_an_anonymous_list_of_mailman_3_may_write_the_same_words() -> None:
    post = Post(
        Mail(sender="Confide <confide@example.org>", text="+1\n").octets(),
        list_id="confide.example.org",
        author="confide@example.org",
        flavour=Flavour.MAILMAN3,
        metadata={"to_list": True},
    )
    assert fingerprint(post.entry()).resend is None


def test_mailmans_own_precedence_and_auto_submitted_no_do_not_mark_a_program() -> None:
    headers = (("Precedence", "list"), ("Auto-Submitted", "no"))
    assert fingerprint(Post(Mail(headers=headers).octets()).entry()).resend is not None


def test_a_backup_of_an_entry_is_a_copy_and_a_resubmission_is_not() -> None:
    mail = Mail()
    entry = Post(mail.octets()).entry()
    assert fingerprint(Post(mail.octets()).later().entry()).copy == fingerprint(entry).copy
    again = replace(mail, trace=("from b.example by lists.example.org id 99; Mon, 23 Mar 2026 12:00:00 +0000",))
    assert fingerprint(Post(again.octets()).later().entry()).copy != fingerprint(entry).copy
    assert fingerprint(Post(mail.octets(), recipients=("new@example.org",)).entry()).copy != fingerprint(entry).copy


def test_digests_are_sixteen_bytes_and_begin_with_the_version_of_the_rules() -> None:
    print_ = fingerprint(Post(Mail().octets()).entry())
    digests = (*print_.identity, print_.resend, print_.message_id, print_.copy)
    assert all(digest is not None and len(digest) == 16 and digest[0] == RULES for digest in digests)


def test_summary_holds_one_key_per_recipient_and_readable_text() -> None:
    mail = Mail(subject="=?iso-8859-1?q?S=E4ge?= und\n Holz")
    summary = summarise(Post(mail.octets()).entry())
    assert summary.recipient_keys == recipient_key("ann@example.org") + recipient_key("ben@example.com")
    assert (summary.recipients, summary.subject, summary.message_id) == (2, "Säge und Holz", "<1@sender.example>")
    assert (summary.sender, summary.when_s) == ("ann@example.net", 1_774_212_196.25)


@pytest.mark.parametrize("file", sorted(MAILMAN3.glob("*.pck")), ids=lambda file: str(file.name[:18]))
def test_genuine_entries_of_mailman_3_are_copies_only_of_themselves(file: Path) -> None:
    entry = read_entry(file)
    kin = [
        other.name
        for other in MAILMAN3.glob("*.pck")
        if other != file and same(entry, read_entry(other)) and not is_recovered(other) and not is_recovered(file)
    ]
    assert kin == []
    assert same(entry, entry)


def is_recovered(file: Path) -> bool:
    """One of the sample's entries that Mailman's recovery wrote: the same mail as another, on purpose."""
    return "_bak_count" in read_entry(file).metadata


def entry_of(message: Message, metadata: dict[str, object] | None = None) -> QueueEntry:
    return QueueEntry(
        "1.5+ab", Flavour.MAILMAN2, "talk", ("a@b.example",), message, None, metadata or {}, b"x" * 500, 400
    )


def message_of(**attributes: object) -> Message:
    message = Message()
    message.__setstate__(attributes)
    return message


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
        | st.builds(lambda payload, headers: message_of(_payload=payload, _headers=headers), inner, inner)
        | st.builds(lambda chunks: _header(chunks), inner)
    ),
    max_leaves=12,
)
HEADERS = st.lists(
    st.tuples(
        st.sampled_from(
            ["Content-Type", "Content-Transfer-Encoding", "Subject", "Date", "Message-ID", "From", "Received"]
        ),
        st.sampled_from(
            ["text/plain; charset=utf-16", "base64", "quoted-printable", "multipart/mixed; boundary=x", "=?x?b?"]
        )
        | st.sampled_from(["message/rfc822", "text/html; charset=unicode_escape", "Sun, 99 Foo 999999999999 +9999"])
        | JUNK,
    ),
    max_size=6,
)


def _header(chunks: object) -> Header:
    header, charset = Header(), Charset()
    charset.__setstate__({"input_charset": chunks})
    header.__setstate__({"_chunks": [(chunks, charset), ("ü\udce4", charset), chunks]})
    return header


@settings(max_examples=300, deadline=None)
@given(payload=JUNK, headers=HEADERS, metadata=st.dictionaries(st.text(max_size=9), JUNK, max_size=4))
def test_any_message_a_pickle_can_hold_has_a_fingerprint(
    payload: object, headers: object, metadata: dict[str, object]
) -> None:
    for key in ("received_time", "origsubj", "original_sender", "tolist"):
        metadata = {**metadata, key: payload}
    entry = entry_of(message_of(_payload=payload, _headers=headers), metadata)
    assert fingerprint(entry).identity
    assert summarise(entry) == summarise(entry)


def test_message_that_contains_itself_is_identified_by_its_bytes() -> None:
    message = message_of(_headers=[("Message-ID", "<1@a.example>")])
    message.__dict__["_payload"] = [message]
    entry = entry_of(message)
    assert same(entry, entry) and not same(entry, replace(entry, raw=b"y" * 500))


def test_a_small_file_that_stands_for_a_large_message_is_not_walked_to_its_end() -> None:
    message = message_of(_payload="x" * 100)
    for _ in range(80):
        message = message_of(_payload=[message, message])
    assert fingerprint(entry_of(message)).identity


def test_metadata_that_refers_to_one_list_many_times_is_not_walked_to_its_end() -> None:
    bomb: list[object] = ["x"]
    for _ in range(7):
        bomb = [bomb] * 400
    assert fingerprint(entry_of(message_of(_payload="x"), {"bomb": bomb})).copy


def test_headers_that_refer_to_one_long_text_many_times_are_not_written_out() -> None:
    text = "ü" * 100_000
    header = Header()
    header.__setstate__({"_chunks": [(text, None)] * 100_000})
    pairs = [(text, text)] * 100_000 + [("Subject", header), ("Message-ID", text)] * 1000
    report = message_of(_headers=[(f"n{number}", text) for number in range(5000)], _payload="x")
    message = message_of(
        _headers=pairs, _payload=[message_of(_headers=[("Content-Type", "message/x")], _payload=[report] * 5000)]
    )
    tracemalloc.start()
    try:
        assert fingerprint(entry_of(message)).identity
        assert tracemalloc.get_traced_memory()[1] < 50 * 2**20
    finally:
        tracemalloc.stop()


@settings(max_examples=400, deadline=None)
@given(
    day_name=st.sampled_from(["", "Sun, ", "Wed, ", "Sun "]),
    day=st.integers(0, 120),
    month=st.sampled_from(["Jan", "Feb", "Jun", "Dec", "jan", "January"]),
    year=st.integers(0, 10_000),
    time=st.tuples(*[st.integers(0, 99)] * 3),
    zone=st.from_regex(r"[+-](0000|[0-9]{4})( \([A-Za-z]{0,6}\))?", fullmatch=True)
    | st.sampled_from(["GMT", "-0000", ""]),
)
def test_usual_date_gives_the_same_result_as_the_email_package(
    day_name: str, day: int, month: str, year: int, time: tuple[int, int, int], zone: str
) -> None:
    date = f"{day_name}{day} {month} {year} {time[0]:02}:{time[1]:02}:{time[2]:02} {zone}"
    try:
        fields = email.utils.parsedate_tz(date)
        expected = str(email.utils.mktime_tz(fields)) if fields else date
    except (ValueError, OverflowError, TypeError, IndexError):
        expected = date
    assert canonical_date(date) == expected.encode()
