"""The text of `drainer status`: true, complete, and within the width."""

from __future__ import annotations

from datetime import UTC
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drainer.estimate.eta import EtaState, ServiceState
from drainer.report.snapshot import Snapshot
from drainer.report.terminal.status import status_lines
from drainer.report.words import progress, state_word, status_line
from drainer.text.columns import columns

NOW_S = 1_772_536_000.0  # 2026-03-03 11:06:40 UTC


def snapshot(**changes: Any) -> Snapshot:
    base: dict[str, Any] = {
        "version": "0",
        "at": NOW_S,
        "pid": 1,
        "state": "draining",
        "since": NOW_S - 7500,
        "backlog": {
            "entries": 12345,
            "recipients": 1234567,
            "bytes": 85 * 2**20,
            "oldest_age_s": 187200,
            "deferred_recipients": 1200,
            "in_doubt_recipients": 3,
            "held_entries": 4,
            "dsns_owed": 2,
            "next_due_s": NOW_S + 840,
            "duplicate_entries": 120,
            "duplicate_recipients": 11000,
        },
        "done": {
            "delivered_entries": 5000,
            "delivered_recipients": 400000,
            "suppressed_entries": 80,
            "suppressed_recipients": 9000,
            "bounced_recipients": 7,
            "dsns_sent": 5,
            "transactions": 5100,
            "since": NOW_S - 7500,
        },
        "rate": {
            "limit_messages_per_s": 20.0,
            "messages_per_s": 18.4,
            "recipients_per_s": 1820.0,
            "arrivals_recipients_per_s": 31.0,
            "binding": "limit on messages",
        },
        "eta": {
            "state": "draining",
            "finish": NOW_S + 7440,
            "seconds": 7440.0,
            "low_s": 6000.0,
            "high_s": 9900.0,
            "confidence": 0.8,
        },
        "guards": [
            {"name": "ledger_bytes", "verdict": "go", "value": 13e9, "limit": 64 * 2**20},
            {
                "name": "mta_queue",
                "verdict": "slow",
                "reason": "the MTA's queue is long",
                "value": 9000,
                "limit": 10000,
            },
        ],
        "mta": {"host": "127.0.0.1", "port": 25, "state": "up", "sessions": 20},
        "mailman": {
            "flavour": "mailman3",
            "queue_dir": "/var/lib/mailman3/queue",
            "runners": [{"name": "in", "pid": 812}],
            "queues": [{"name": "retry", "entries": 1700, "oldest_age_s": 7200}, {"name": "bad", "entries": 0}],
            "outgoing_runner_competes": True,
            "master_running": True,
            "missing_runners": ["out", "retry"],
        },
        "lists": [
            {
                "list": f"list-{at}@example.org",
                "entries": at,
                "recipients": at * 100,
                "oldest_age_s": 60.0 * at,
                "finish": NOW_S + 600 * at,
                "paused": at == 13,
            }
            for at in range(1, 15)
        ],
    }
    return Snapshot.model_validate({**base, **changes})


def text(width: int = 80, **changes: Any) -> str:
    return "\n".join(status_lines(snapshot(**changes), width, zone=UTC))


def flat(width: int = 80, **changes: Any) -> str:
    return " ".join(text(width, **changes).split())


@pytest.mark.parametrize("width", [76, 80, 120, 200])
def test_everything_an_operator_asks_for_is_there_within_the_width(width: int) -> None:
    said = flat(width)
    for part in (
        "DRAINING since 09:01 UTC (2 h 05 min)",
        "12,345 entries, 1,234,567 recipients, 85 MiB; oldest 2 d 04 h",
        "expected to be duplicates: 120 entries, 11,000 recipients",
        "about 2 h 05 min, at 13:10 UTC (80 %: 1 h 40 min to 2 h 45 min)",
        "18.4/s messages, 1,820/s recipients; arriving: 31/s recipients",
        "held down by: limit on messages (20/s messages, unlimited recipients)",
        "suppressed: 80 entries, 9,000 recipients",
        "Deferred 1,200 recipients, the next due at 11:20 UTC, in 14 min",
        "In doubt 3 recipients",
        "held: 4 entries",
        "Bounced 7 recipients; DSNs: 2 to send, 5 sent",
        "SLOW mta_queue 9,000 (limit 10,000): the MTA's queue is long",
        "go: ledger_bytes 12 GiB (limit 64 MiB)",
        "127.0.0.1:25 up, 20 sessions open",
        "runners missing: out, retry",
        "runners: in",
        "takes entries from the same queue",
        "retry 1,700 (oldest 2 h 00 min) empty: bad",
        "list-14@example.org 14 1,400 14 min 13:26",
        "list-13@example.org 13 1,300 13 min paused",
        "and 4 other lists 10 1,000",
    ):
        assert part in said
    assert max(len(line) for line in text(width).splitlines()) <= width


def test_state_and_reason_come_first() -> None:
    first = text(state="stopped_by_guard", reason="disk_bytes: 12 MiB free").splitlines()[0]
    assert first == "STOPPED BY A GUARD since 09:01 UTC (2 h 05 min): disk_bytes: 12 MiB free"


@pytest.mark.parametrize("state", get_args(ServiceState))
def test_every_state_has_its_words(state: ServiceState) -> None:
    assert text(state=state).split(" since ")[0].isupper()
    assert status_line(snapshot(state=state), UTC)


@pytest.mark.parametrize("word", ["paused", "stalled", "growing", "measuring"])
def test_without_an_estimate_there_is_a_reason_and_no_number(word: str) -> None:
    finish = next(line for line in text(eta={"state": word}).splitlines() if line.startswith("Finish"))
    assert "no finish time" in finish
    assert not any(character.isdigit() for character in finish)


def test_colour_marks_the_state_and_changes_no_text() -> None:
    plain, coloured = (status_lines(snapshot(), 80, colour=colour, zone=UTC) for colour in (False, True))
    assert coloured[0].startswith("\x1b[1;32mDRAINING\x1b[0m since")
    assert [
        line.replace("\x1b[1;32m", "").replace("\x1b[1;33m", "").replace("\x1b[0m", "") for line in coloured
    ] == plain


def test_words_of_strangers_cannot_steer_the_terminal() -> None:
    hostile = "\x1b[2J\x9b31m\u202egnp\r\n"
    said = text(
        reason=hostile,
        mta={"host": "h", "port": 25, "state": "down", "reason": hostile},
        lists=[{"list": hostile, "entries": 1, "recipients": 1}],
        guards=[{"name": hostile, "verdict": "stop", "reason": hostile}],
    )
    assert not {"\x1b", "\x9b", "\u202e", "\r"} & set(said)
    assert not {"\x1b", "\x9b", "\n"} & set(status_line(snapshot(reason=hostile), UTC))


@pytest.mark.parametrize(
    ("recipients", "unread", "line", "row"),
    [
        (0, 2900, "2,900 entries left, recipients not counted yet", "2,900 entries, recipients not counted yet, "),
        (12, 2899, "2,900 entries left, at least 12 recipients", "2,900 entries, at least 12 recipients, "),
        (5072, 0, "2,900 entries, 5,072 recipients left", "2,900 entries, 5,072 recipients, "),
    ],
)
def test_recipients_that_nobody_has_counted_yet_are_never_none(
    recipients: int, unread: int, line: str, row: str
) -> None:
    backlog = {"entries": 2900, "recipients": recipients, "unread_entries": unread, "bytes": 5}
    assert f"; {line}; " in status_line(snapshot(backlog=backlog), UTC)
    assert f"Backlog {row}" in flat(backlog=backlog)


def test_progress_counts_recipients_settled_and_those_of_unread_entries() -> None:
    done = {"delivered_recipients": 50, "bounced_recipients": 20, "suppressed_recipients": 30}
    assert progress(snapshot(done=done, backlog={"entries": 3, "recipients": 300})) == 0.25
    assert progress(snapshot(done=done, backlog={"entries": 4, "recipients": 150, "unread_entries": 2})) == 0.25
    assert progress(snapshot(done=done, backlog={"entries": 4, "recipients": 0, "unread_entries": 4})) is None
    assert progress(snapshot(done={}, backlog={}, eta={"state": "done"})) == 1.0


def test_hundred_percent_is_shown_only_when_nothing_is_left() -> None:
    done = {"delivered_recipients": 999_999}
    assert " 99 %" in text(done=done, backlog={"entries": 1, "recipients": 1})
    assert " 100 %" in text(done=done, backlog={}, eta={"state": "done"})


_ANY_TEXT = st.text(st.characters(), max_size=120)
_ANY_NUMBER = st.integers(0, 10**13)
_ANY_SECONDS = st.none() | st.floats(0, 1e12)
_ANY_SNAPSHOT = st.fixed_dictionaries(
    {
        "state": st.sampled_from(get_args(ServiceState)),
        "reason": _ANY_TEXT,
        "since": st.floats(0, NOW_S),
        "backlog": st.fixed_dictionaries(
            dict.fromkeys(
                (*"entries recipients bytes deferred_recipients in_doubt_recipients held_entries".split(),
                 *"unread_entries duplicate_entries duplicate_recipients dsns_owed".split()), _ANY_NUMBER,
            )
            | {"oldest_age_s": _ANY_SECONDS, "next_due_s": _ANY_SECONDS}
        ),
        "eta": st.fixed_dictionaries(
            {"state": st.sampled_from(get_args(EtaState)), "seconds": _ANY_SECONDS, "low_s": _ANY_SECONDS,
             "high_s": _ANY_SECONDS, "confidence": st.none() | st.just(0.8)}
        ),
        "rate": st.fixed_dictionaries(
            {"messages_per_s": _ANY_SECONDS, "recipients_per_s": _ANY_SECONDS, "binding": _ANY_TEXT}
        ),
        "guards": st.lists(
            st.fixed_dictionaries(
                {"name": _ANY_TEXT | st.just("ledger_bytes"), "verdict": st.sampled_from(["go", "slow", "stop"]),
                 "reason": _ANY_TEXT, "value": _ANY_SECONDS, "limit": _ANY_SECONDS}
            ),
            max_size=4,
        ),
        "mta": st.fixed_dictionaries(
            {"host": _ANY_TEXT, "port": st.just(25), "state": st.sampled_from(["up", "down", "unknown"]),
             "reason": _ANY_TEXT, "next_try_s": _ANY_SECONDS}
        ),
        "mailman": st.fixed_dictionaries(
            {"queue_dir": _ANY_TEXT, "missing_runners": st.lists(_ANY_TEXT, max_size=5),
             "queues": st.lists(st.fixed_dictionaries({"name": _ANY_TEXT, "entries": _ANY_NUMBER}), max_size=4)}
        ),
        "lists": st.lists(
            st.fixed_dictionaries(
                {"list": _ANY_TEXT, "entries": _ANY_NUMBER, "recipients": _ANY_NUMBER, "oldest_age_s": _ANY_SECONDS,
                 "finish": _ANY_SECONDS, "paused": st.booleans()}
            ),
            max_size=30,
        ),
        "pauses": st.lists(
            st.fixed_dictionaries(
                {"list": _ANY_TEXT, "by": _ANY_TEXT, "reason": _ANY_TEXT, "since": st.just(0.0), "until": _ANY_SECONDS}
            ),
            max_size=5,
        ),
    }
)  # fmt: skip


@settings(deadline=None)
@given(_ANY_SNAPSHOT, st.integers(40, 250), st.none() | st.integers(1, 60), st.integers(0, 500))
def test_no_line_is_wider_and_no_screen_higher_than_the_terminal(
    changes: dict[str, Any], width: int, height: int | None, lists: int
) -> None:
    said = status_lines(snapshot(**changes), width, height=height, lists=lists, zone=UTC)
    assert max(columns(line) for line in said) <= width
    assert height is None or len(said) <= height
    assert said[0].startswith(state_word(changes["state"])) or height == 1


@pytest.mark.parametrize("height", range(14, 40, 5))
def test_on_a_low_terminal_what_is_wrong_stays_and_what_is_calm_goes_first(height: int) -> None:
    low, whole = (
        " ".join(" ".join(status_lines(snapshot(), 80, height=rows, zone=UTC)).split()) for rows in (height, None)
    )
    wrong_things = (
        "DRAINING",
        "1,234,567 recipients",
        "13:10 UTC",
        "SLOW mta_queue",
        "In doubt 3",
        "missing: out, retry",
    )
    for wrong in wrong_things:
        assert wrong in low
    assert "empty: bad" in whole
    assert ("empty: bad" not in low) or height >= 30


def test_five_hundred_lists_with_names_of_any_length_take_the_rows_asked_for() -> None:
    lists = [{"list": f"{'x' * (at % 90)}{at}@lists.example.org", "entries": 1, "recipients": at} for at in range(500)]
    said = status_lines(snapshot(lists=lists), 80, lists=10, zone=UTC)
    at = next(number for number, line in enumerate(said) if line.startswith("List "))
    assert said[at + 11].split()[:4] == ["and", "490", "other", "lists"]
    assert all(len(line) <= 80 for line in said)
    assert ".." in said[at + 1]


def test_paused_says_when_it_would_end_if_resumed() -> None:
    resumed = {"state": "draining", "seconds": 600.0, "low_s": 500.0, "high_s": 900.0, "confidence": 0.8}
    said = flat(state="paused", eta={"state": "paused"}, if_resumed=resumed)
    assert "no finish time while paused if everything is resumed now: about 10 min, at 11:17 UTC (80 %:" in said


@pytest.mark.parametrize("state", ["paused", "mta_down", "stopped_by_guard"])
def test_rate_of_a_drain_that_stands_still_is_not_said_to_be_of_now(state: ServiceState) -> None:
    assert "Rate when it last sent: 18.4/s messages" in flat(state=state)
    assert "1,820/s" not in status_line(snapshot(state=state), UTC)
    assert "Rate 18.4/s messages" in flat() and "1,820/s recipients" in status_line(snapshot(), UTC)


def test_what_binds_the_rate_is_said_with_its_cause_and_since_when() -> None:
    rate = {"messages_per_s": 56.0, "recipients_per_s": 56.0, "binding_since": NOW_S - 125}
    rate["binding"] = "the MTA refuses more than 58.6 messages/s: 451 4.7.1 too much mail"  # type: ignore[assignment]
    mta = {"host": "127.0.0.1", "port": 25, "state": "up", "sessions": 6, "sessions_allowed": 6}
    why = "more sessions would only wait in the MTA"
    said = flat(120, rate=rate, mta=mta | {"sessions_why": why})
    assert "more than 58.6 messages/s: 451 4.7.1 too much mail, for 2 min 05 s" in said
    assert f"6 sessions open; at most 6: {why}" in said
    assert said.count("421 4.7.0") == 0 and flat(120, mta=mta | {"sessions_why": why, "reason": why}).count(why) == 1
