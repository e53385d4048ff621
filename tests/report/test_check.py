"""Ranges, states and output as the monitoring-plugins guidelines have them."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drainer.report.check import (
    DEFAULTS,
    Measure,
    PluginState,
    QueueSeen,
    check_result,
    judged,
    parse_range,
    seen_now,
    thresholds,
)

NAMES = st.sampled_from(sorted(DEFAULTS))


@pytest.mark.parametrize(
    ("text", "unit", "fine", "alerting"),
    [
        ("10", "", (0, 10), (-1, 10.1)),
        ("10:", "", (10, 1e9), (9.9, -3)),
        ("~:10", "", (-1e9, 10), (10.5,)),
        ("10:20", "", (10, 20), (9, 21)),
        ("@10:20", "", (9, 21), (10, 15, 20)),
        ("@10", "", (11, -1), (0, 10)),
        ("-5:-1", "", (-5, -1), (0, -6)),
        ("2h", "s", (7200,), (7201,)),
        ("90s:1d", "s", (90, 86400), (89, 86401)),
        ("300", "s", (300,), (301,)),
        ("5%:", "%", (5,), (4.9,)),
        ("0", "", (0,), (1,)),
    ],
)
def test_range_alerts_as_the_guidelines_say(
    text: str, unit: str, fine: tuple[float, ...], alerting: tuple[float, ...]
) -> None:
    limit = parse_range(text, unit)
    assert not any(map(limit.alerts, fine)) and all(map(limit.alerts, alerting))
    assert parse_range(limit.text) == limit


@pytest.mark.parametrize("text", ["", ":", "abc", "20:10", "1:2:3", "nan", "inf", "10 apples", "@", "5x:", "~"])
def test_text_that_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a range"):
        parse_range(text)


@settings(deadline=None)
@given(st.text(max_size=12), st.sampled_from(["", "s", "%"]))
def test_any_text_is_a_range_or_refused(text: str, unit: str) -> None:
    try:
        limit = parse_range(text, unit)
    except ValueError:
        return
    assert limit.low <= limit.high and not math.isnan(limit.low)


@pytest.mark.parametrize("option", ["out.entries", "=5", "nonsense=5", "out.size=5", "out.age=never", "out.age=10:5"])
def test_wrong_option_is_refused_with_what_would_be_right(option: str) -> None:
    with pytest.raises(ValueError, match=r"names are .*out\.entries|right would be|begins above"):
        thresholds([option], [])


def test_options_replace_defaults_and_an_empty_range_never_alerts() -> None:
    many = Measure("out.entries", 1500, "out 1,500 entries")
    assert judged(many, thresholds([], [])) is PluginState.WARNING
    assert judged(many, thresholds([], ["out.entries=1000"])) is PluginState.CRITICAL
    assert judged(many, thresholds(["out.entries="], [])) is PluginState.OK
    assert judged(Measure("lmtp.entries", 7, ""), thresholds(["lmtp.entries=5"], [])) is PluginState.WARNING


def test_worst_state_counts_and_unknown_hides_nothing() -> None:
    limits = thresholds([], [])
    fine, late = Measure("out.entries", 1, "out 1 entry"), Measure("out.age", 700, "out oldest 12 min")
    blind, bad = Measure("in.entries", None, "in cannot be listed"), Measure("out.age", 9000, "out oldest 2 h 30 min")
    assert check_result([fine], limits, "out 1 entry")[0] is PluginState.OK
    assert check_result([fine, blind], limits, "")[0] is PluginState.UNKNOWN
    assert check_result([fine, blind, late], limits, "")[0] is PluginState.WARNING
    assert check_result([fine, blind, bad], limits, "")[0] is PluginState.CRITICAL
    assert (
        check_result([Measure("in.entries", None, "")], thresholds(["in.entries="], ["in.entries="]), "")[0]
        is PluginState.OK
    )


def test_first_line_says_what_is_wrong_and_carries_performance_data() -> None:
    measures = [
        Measure("out.age", 42.0, "out oldest 42 s"),
        Measure("out.entries", 12_034, "out 12,034 entries"),
        Measure("queue.inodes", 1.25, "1.2 % of inodes free"),
        Measure("o'd d.entries", 3, "odd | name\n3"),
    ]
    state, lines = check_result(measures, thresholds([], ["out.age=@1d:"]), "fine")
    assert state is PluginState.CRITICAL
    assert lines[0] == (
        "DRAINER CRITICAL - out 12,034 entries (out.entries above 2000);"
        " 1.2 % of inodes free (queue.inodes below 5 %) | "
        "out.entries=12034;500;2000;0; queue.inodes=1.25%;10:;5:;0;100 out.age=42s;600;@86400:;0; 'o''d d.entries'=3;;;0;"
    )
    assert lines[1:] == [
        "[CRITICAL] out.entries: out 12,034 entries",
        "[CRITICAL] queue.inodes: 1.2 % of inodes free",
        "fine",
        "[OK] out.age: out oldest 42 s",
        "[OK] o'd d.entries: odd / name 3",
    ]


@settings(deadline=None)
@given(st.lists(st.builds(Measure, NAMES, st.none() | st.floats(0, 1e12), st.text(max_size=20)), max_size=8))
def test_output_is_lines_a_monitor_can_read_whatever_was_measured(measures: list[Measure]) -> None:
    _, lines = check_result(measures, thresholds([], []), "head|line\n")
    assert not any("\n" in line or "\r" in line for line in lines)
    text, _, performance = lines[0].partition(" | ")
    assert "|" not in text and not any("|" in line for line in lines[1:])
    for part in performance.split():
        assert re.fullmatch(r"[\w.]+=[\d.e+]+[s%]?;[@~:\d.e+]*;[@~:\d.e+]*;0;(100)?", part), part


def test_queue_stands_still_until_its_oldest_entry_or_any_has_left() -> None:
    first = seen_now(5, 100.0, 1000.0, None)
    assert seen_now(5, 100.0, 1060.0, first).since_s == 1000.0
    grown = seen_now(9, 100.0, 1120.0, first)
    assert grown == QueueSeen(9, 100.0, 1000.0)
    assert seen_now(8, 100.0, 1180.0, grown).since_s == 1180.0
    assert seen_now(9, 101.0, 1180.0, grown).since_s == 1180.0
    assert seen_now(0, None, 1180.0, QueueSeen(0, None, 1000.0)).since_s == 1180.0
    assert seen_now(5, 100.0, 900.0, first).since_s == 900.0
