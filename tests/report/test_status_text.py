"""The text of `drainer status`: true, complete, and within the width."""

from __future__ import annotations

from datetime import UTC
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drainer.report.snapshot import ServiceState, Snapshot
from drainer.report.status_text import progress, status_line, status_lines
from drainer.report.wording import clock_time, count, duration, quantised_s, rate, shown, size

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
            "duplicate_entries": 120,
            "duplicate_recipients": 11000,
        },
        "done": {
            "delivered_entries": 5000,
            "delivered_recipients": 400000,
            "suppressed_entries": 80,
            "suppressed_recipients": 9000,
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
            {"name": "disk_bytes", "verdict": "go"},
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
        },
        "lists": [
            {"list": f"list-{at}@example.org", "entries": at, "recipients": at * 100, "oldest_age_s": 60.0 * at}
            for at in range(1, 15)
        ],
    }
    return Snapshot.model_validate({**base, **changes})


def text(width: int = 80, **changes: Any) -> str:
    return "\n".join(status_lines(snapshot(**changes), width, zone=UTC))


def flat(width: int = 80, **changes: Any) -> str:
    return " ".join(text(width, **changes).split())


@pytest.mark.parametrize("width", [60, 80, 132])
def test_everything_an_operator_asks_for_is_there_within_the_width(width: int) -> None:
    said = flat(width)
    for part in (
        "DRAINING since 09:01 UTC (2 h 05 min)",
        "12,345 entries, 1,234,567 recipients, 85 MiB; oldest 2 d 04 h",
        "expected to be duplicates: 120 entries, 11,000 recipients",
        "about 2 h 05 min (1 h 40 min to 2 h 45 min in 80 % of cases), at 13:11 UTC",
        "18.4/s messages, 1,820/s recipients; arriving: 31/s recipients",
        "limit: 20/s messages, unlimited recipients",
        "held down by: limit on messages",
        "suppressed: 80 entries, 9,000 recipients",
        "deferred: 1,200 recipients; in doubt: 3 recipients",
        "held: 4 entries",
        "SLOW mta_queue: the MTA's queue is long (9,000, limit 10,000)",
        "go: disk_bytes",
        "127.0.0.1:25 up, 20 sessions open",
        "runners: in (pid 812)",
        "takes entries from the same queue",
        "retry 1,700 (oldest 2 h 00 min), bad 0",
        "list-14@example.org 14 1,400 14 min",
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


@settings(deadline=None)
@given(st.integers(-5, 300), st.text(max_size=200), st.text(max_size=80))
def test_any_width_and_any_text_give_lines_that_fit(width: int, reason: str, name: str) -> None:
    said = status_lines(
        snapshot(reason=reason, lists=[{"list": name, "entries": 10**6, "recipients": 10**8}]), width, zone=UTC
    )
    assert max(len(line) for line in said) <= max(60, width)


def test_numbers_as_people_read_them() -> None:
    assert [duration(one) for one in (0, 42, 59.6, 310, 1500, 3599, 7500, 86399, 100 * 3600)] == [
        "0 s", "42 s", "1 min", "5 min 10 s", "25 min", "1 h 00 min", "2 h 05 min", "1 d 00 h", "4 d 04 h",
    ]  # fmt: skip
    assert [rate(one) for one in (1820, 18.4, 20, 2.5, 0.25, 0.025, 0)] == [
        "1,820/s", "18.4/s", "20/s", "2.5/s", "0.25/s", "90/h", "0/s",
    ]  # fmt: skip
    assert [size(one) for one in (0, 812, 4300, 64 * 2**20, 3 * 2**40)] == [
        "0 B",
        "812 B",
        "4.2 KiB",
        "64 MiB",
        "3.0 TiB",
    ]
    assert [count(1, "entry", "entries"), count(12345, "entry", "entries")] == ["1 entry", "12,345 entries"]
    assert shown("caf\u00e9 \x07") == "caf\u00e9 ?"


def test_clock_time_names_the_day_when_it_is_another() -> None:
    assert clock_time(NOW_S, NOW_S, UTC) == "11:06 UTC"
    assert clock_time(NOW_S + 86400, NOW_S, UTC) == "Wed 4 Mar 11:06 UTC"
    assert clock_time(NOW_S + 400 * 86400, NOW_S, UTC) == "Wed 7 Apr 2027 11:06 UTC"


@given(st.floats(0, 1e7))
def test_quantised_estimate_stays_close(seconds: float) -> None:
    assert abs(quantised_s(seconds) - seconds) <= max(10.0, seconds * 0.05)
