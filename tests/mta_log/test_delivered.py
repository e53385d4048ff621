"""What logs tell of deliveries made before."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drainer.duplicates.known_from_log import lists_named, lists_named_by
from drainer.mta_log.delivered import Delivered, DeliveriesInLog
from drainer.mta_log.file import file_lines
from drainer.mta_log.lines import parse_line

SAMPLES = Path(__file__).parents[1] / "samples" / "mta_logs"
MAILMAN_LOGS = SAMPLES.with_name("mailman_logs")
LATEST_S = datetime(2026, 12, 1, tzinfo=UTC).timestamp()
CHOIR = ("choir", "choir.lists.test")


def deliveries_of(name: str) -> tuple[dict[str, set[str]], DeliveriesInLog]:
    found = DeliveriesInLog()
    found.feed(file_lines(SAMPLES / name, LATEST_S, UTC))
    deliveries = list(found.deliveries())
    assert {one.lists for one in deliveries} == {CHOIR}
    return {one.message_id: set(one.recipients) for one in deliveries}, found


@pytest.mark.parametrize("name", ["exim-plain.log", "exim-recipients.log", "exim-all.log"])
def test_exim_log_tells_who_had_it_and_who_is_still_in_its_queue(name: str) -> None:
    had, found = deliveries_of(name)
    one = {"a@relay.test", "b@relay.test", "c@local.test", "f@alias.test", "A.Upper@Relay.TEST"}
    assert had["<one@example.test>"] == one, "the alias under the name the client used, and not who was refused"
    assert had["<later@example.test>"] == {"e@later.test", "g@relay.test"}
    assert had["<verp@example.test>"] == {"a@relay.test", "b@relay.test"}
    assert len(had["<forty@example.test>"]) == 40
    assert not had.keys() & {"<hung@example.test>", "<refused@example.test>", "<null@example.test>"}
    unused = found.unused
    assert (unused.refused_recipients, unused.undelivered_recipients) == (1, 0)
    assert unused.mails_without_message_id == 2 and unused.mails_of_no_list >= 1


@pytest.mark.parametrize("name", ["postfix.log", "journal.export.gz"])
def test_postfix_log_tells_who_had_it(name: str) -> None:
    had, _ = deliveries_of(name)
    assert {"a@relay.test", "b@relay.test", "c@local.test"} < had["<one@example.test>"]
    assert had["<verp@example.test>"] == {"a@relay.test", "b@relay.test"}
    assert "<null@example.test>" not in had


def postfix(*texts: str) -> list[Delivered]:
    found = DeliveriesInLog()
    lines = (parse_line(f"2026-03-05T12:00:00Z h postfix/{text}", LATEST_S) for text in texts)
    found.feed(line for line in lines if line is not None)
    return list(found.deliveries())


ACCEPTED = (
    "cleanup[1]: 4ABCD1: message-id=<1@x>",
    "qmgr[1]: 4ABCD1: from=<choir-bounces+a=x@lists.test>, size=1, nrcpt=1 (queue active)",
)
DEFERRED = "smtp[1]: 4ABCD1: to=<a@x>, relay=none, delay=1, delays=0/0/0/1, dsn=4.0.0, status=deferred (later)"


def test_who_is_deferred_had_it_as_long_as_the_mta_goes_on_with_it() -> None:
    (one,) = postfix(*ACCEPTED, DEFERRED)
    assert (one.lists, one.recipients) == (CHOIR, ("a@x",))
    assert postfix(*ACCEPTED, DEFERRED, "postsuper[1]: 4ABCD1: removed") == []
    assert postfix(*ACCEPTED, DEFERRED.replace("status=deferred", "status=expired")) == []


def test_log_of_mailman_tells_how_many_and_who_was_refused() -> None:
    found = DeliveriesInLog()
    found.feed_mailman(
        [
            "Nov 22 06:13:01 2026 (1234) <1@x> smtp to choir@lists.test for 3 recips, completed in 0.1 seconds\n",
            "Nov 22 06:13:01 2026 (1234) <1@x> post to choir@lists.test from a@x, 9 bytes, 1 failures\n",
            "Nov 22 06:13:01 2026 (1234) <1@x> delivery to bob@x failed with code 550, b'no'\n",
            "Nov 22 06:13:02 2026 (1234) <2@x> post to choir from a@x, size=1, success\n",
            "something else\n",
        ]
    )
    (one,) = found.deliveries()
    assert (one.lists, one.message_id, one.recipients, one.carried) == (("choir.lists.test",), "<1@x>", ("bob@x",), 3)


def test_mailmans_log_of_a_time_with_the_mta_down_shows_no_delivery() -> None:
    """Its lines say "completed" all the same."""
    found = DeliveriesInLog()
    found.feed_mailman((MAILMAN_LOGS / "mailman3-mta-down.log").read_text().splitlines())
    assert list(found.deliveries()) == []
    assert (found.unused.failed_deliveries, found.unused.unclear_deliveries) == (40, 0)
    found = DeliveriesInLog()
    found.feed_mailman((MAILMAN_LOGS / "mailman3-partly-refused.log").read_text().splitlines())
    had = {one.message_id: one for one in found.deliveries()}
    assert had["<mail-2@example.com>"].carried == 12
    assert set(had["<mail-2@example.com>"].recipients) == {
        "m11@example.org", "m1@example.net", "m5@example.org", "m8@example.org", "m2@example.org",
    }  # fmt: skip
    assert "<mail-1@example.com>" not in had, "its content was refused for now, so everybody was"


def test_log_of_21_proves_nothing_without_the_one_that_tells_of_refused_content() -> None:
    found = DeliveriesInLog()
    found.feed_mailman(
        [
            "Nov 22 06:13:01 2026 (1234) <1@x> smtp to choir for 3 recips, completed in 0.100 seconds\n",
            "Nov 22 06:13:01 2026 (1234) post to choir from a@x, size=9, message-id=<1@x>, success\n",
        ]
    )
    assert [one.carried for one in found.deliveries(has_failure_log=True)] == [3]
    assert list(found.deliveries(has_failure_log=False)) == []
    assert found.unused.unclear_deliveries == 1


@pytest.mark.parametrize(
    ("reverse_path", "lists"),
    [
        ("Choir-bounces@Lists.test", CHOIR),
        ("choir-bounces+ann=example.org@lists.test", CHOIR),
        ("no-bounces-please@lists.test", ()),
        ("ann@lists.test", ()),
        ("", ()),
    ],
    ids=["plain", "verp", "no_bounces", "person", "null"],
)
def test_reverse_path_names_the_list(reverse_path: str, lists: tuple[str, ...]) -> None:
    assert lists_named_by(reverse_path) == lists


def test_name_in_the_log_of_either_mailman_is_the_entry_s() -> None:
    assert (lists_named("choir"), lists_named("choir@lists.test")) == (("choir",), ("choir.lists.test",))


@given(st.text())
def test_any_reverse_path_names_lists_or_none(text: str) -> None:
    assert len(lists_named_by(text)) in (0, 2)
