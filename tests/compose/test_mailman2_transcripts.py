"""Every entry that genuine Mailman 2.1 delivered, composed by us and compared with what it said to the MTA."""

from __future__ import annotations

import base64
import json

import pytest

from drainer.compose.mailman2_site import site_settings
from drainer.compose.wire import ComposedMessage
from drainer.errors import ComposeError, ComposerFailed, NoSuchList
from drainer.queuedir.read import read_entry
from tests.compose import mailman2_samples as samples

KNOWN_DIFFERENCES = {
    "duplicate_recips": "a recipient named twice gets one copy from us, two from Mailman",
    "undelivered_multi_chunk_with_verp": "Mailman piles the recipients up in its senders and adds a second footer",
}


def test_all_but_the_known_entries_come_out_byte_for_byte_as_mailman_delivered_them() -> None:
    delivered = [file for file, recorded in samples.transcripts().items() if recorded["outcome"] == "delivered"]
    differing = set()
    for file in delivered:
        entry = read_entry(samples.SAMPLES / "qfiles" / file)
        if samples.deliveries_of_ours(samples.composed(entry)) != samples.deliveries_of_mailman(file):
            differing.add(samples.labels()[file]["case"])
    assert len(delivered) == 340
    assert differing == set(KNOWN_DIFFERENCES)


def test_site_with_an_early_python_gets_what_mailman_writes_there() -> None:
    site = site_settings({"PYTHON": "2.7.3"})
    differing = set()
    for file in samples.transcripts("2.7.3"):
        entry = read_entry(samples.SAMPLES / "qfiles" / file)
        ours = samples.deliveries_of_ours(samples.composed(entry, settings_of_site=site))
        if ours != samples.deliveries_of_mailman(file, "2.7.3"):
            differing.add(samples.labels()[file]["case"])
    # Python 2.7.3 takes x@y@z for x@y, another address; later versions refuse it, and so do we.
    assert differing == {"odd_recips"}


_FAILURES = sorted((samples.SAMPLES / "failures").iterdir())


def test_entry_and_its_retry_come_out_as_mailmans_first_attempt() -> None:
    compared = retried = 0
    for case in _FAILURES:
        (first,) = case.glob("entry--*")
        attempt = {_sent(message) for message in samples.composed(read_entry(first))}
        recorded = json.loads((case / "result.json").read_text())["transactions"]
        contents = {
            (one["mail_from"], samples.numbered_boundaries(base64.b64decode(one["data"])))
            for one in recorded
            if one["data"]
        }
        assert contents <= attempt
        compared += len(contents)
        for retry in case.glob("retry--*"):
            messages = samples.composed(read_entry(retry))
            assert {_sent(message) for message in messages} <= attempt
            retried += len(messages)
    assert compared > 10
    assert retried > 10


def _sent(message: ComposedMessage) -> tuple[str, bytes]:
    return message.envelope.reverse_path, samples.numbered_boundaries(message.content)


def test_recipient_named_twice_gets_the_same_mail_once() -> None:
    ours = samples.deliveries_of_ours(samples.composed_case("duplicate_recips"))
    mailmans = samples.deliveries_of_mailman(samples.file_of("duplicate_recips"))
    assert set(ours) == set(mailmans)
    assert max(mailmans.values()) == 2
    assert set(ours.values()) == {1}


def test_left_over_chunks_under_verp_carry_one_recipient_per_sender_and_one_footer() -> None:
    messages = samples.composed_case("undelivered_multi_chunk_with_verp")
    assert [message.envelope.reverse_path for message in messages] == [
        f"quietnews-bounces+{recipient.replace('@', '=')}@lists.example.org"
        for message in messages
        for recipient in message.owed_for
    ]
    assert len(messages) == 8
    assert {message.content.count(b"(end of a QuietNews item; no replies please)") for message in messages} == {1}


@pytest.mark.parametrize("case", ["mixed_no_boundary_param", "mixed_boundary_absent"])
def test_mixed_message_without_parts_is_wrapped_where_mailman_shunts_it(case: str) -> None:
    assert samples.transcripts()[samples.file_of(case)]["outcome"] == "shunted"
    entry = samples.entry_of(case)
    messages = samples.composed(entry)
    assert sorted(one for message in messages for one in message.owed_for) == sorted(entry.recipients)
    body = entry.message.attribute("_payload")
    assert isinstance(body, str)
    assert {message.content for message in messages} == {messages[0].content}
    assert body.encode("ascii", "surrogateescape").replace(b"\n", b"\r\n") in messages[0].content
    assert b"(circulated by Kite-Makers)" in messages[0].content
    assert b"You read this because you joined" in messages[0].content


@pytest.mark.parametrize(
    ("case", "error"),
    [
        ("missing_list", NoSuchList),
        ("listname_uppercase", NoSuchList),
        ("header_value_with_embedded_header", ComposerFailed),
    ],
)
def test_entry_mailman_shunts_is_refused_with_a_reason(case: str, error: type[ComposeError]) -> None:
    assert samples.transcripts()[samples.file_of(case)]["outcome"] == "shunted"
    with pytest.raises(error):
        samples.composed_case(case)
