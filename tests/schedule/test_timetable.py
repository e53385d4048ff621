"""The window in force is the one that a reader of the clock on the wall would name, on the days too when it is set."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from drainer.schedule.time_zone import zone_of
from drainer.schedule.timetable import Change, Timetable, timetable_of
from drainer.schedule.windows import Window, window_of

BERLIN, NEW_YORK, LORD_HOWE = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York"), ZoneInfo("Australia/Lord_Howe")
NIGHT = ("22:00-06:00 unlimited", "else 20/s")


def at(text: str, zone: ZoneInfo, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).timestamp()


def shown(change: Change | None, zone: ZoneInfo) -> tuple[str, str] | None:
    """When by the wall, and which window from then on."""
    if change is None:
        return None
    when = datetime.fromtimestamp(change.at_s, zone)
    return f"{when:%a %d %b %H:%M %Z}", change.window.text if change.window else ""


def course(table: Timetable, zone: ZoneInfo, since: str, until: str) -> list[tuple[str, str] | None]:
    return [shown(change, zone) for change in table.changes(at(since, zone), at(until, zone))]


def test_first_window_that_covers_the_moment_is_in_force() -> None:
    table = Timetable(tuple(map(window_of, ("Sat,Sun 1/s", "22:00-06:00 unlimited"))), BERLIN)
    named = {
        when: (window.text if (window := table.at(at(when, BERLIN))) else "")
        for when in ("2026-11-27T12:00", "2026-11-27T22:00", "2026-11-27T23:59", "2026-11-28T03:00", "2026-11-30T05:59")
    }
    assert named == {
        "2026-11-27T12:00": "",
        "2026-11-27T22:00": "22:00-06:00",
        "2026-11-27T23:59": "22:00-06:00",
        "2026-11-28T03:00": "Sat,Sun",
        "2026-11-30T05:59": "22:00-06:00",
    }


def test_window_over_midnight_belongs_to_the_day_on_which_it_begins() -> None:
    table = timetable_of(["Fri 22:00-06:00 unlimited"], "Europe/Berlin")
    assert course(table, BERLIN, "2026-11-26T00:00", "2026-12-03T00:00") == [
        ("Fri 27 Nov 22:00 CET", "Fri 22:00-06:00"),
        ("Sat 28 Nov 06:00 CET", ""),
    ]


def test_summer_time_shortens_and_lengthens_the_night() -> None:
    table = timetable_of(NIGHT, "Europe/Berlin")
    spring = list(table.changes(at("2026-03-28T12:00", BERLIN), at("2026-03-29T12:00", BERLIN)))
    autumn = list(table.changes(at("2026-10-24T12:00", BERLIN), at("2026-10-25T12:00", BERLIN)))
    assert [shown(change, BERLIN) for change in (*spring, *autumn)] == [
        ("Sat 28 Mar 22:00 CET", "22:00-06:00"),
        ("Sun 29 Mar 06:00 CEST", "else"),
        ("Sat 24 Oct 22:00 CEST", "22:00-06:00"),
        ("Sun 25 Oct 06:00 CET", "else"),
    ]
    assert [(last.at_s - first.at_s) / 3600 for first, last in (spring, autumn)] == [7, 9]


def test_times_that_the_clock_leaves_out_do_not_come() -> None:
    hidden = timetable_of(["02:15-02:45 pause"], "Europe/Berlin")
    assert course(hidden, BERLIN, "2026-03-28T12:00", "2026-03-29T12:00") == []
    half = timetable_of(["02:30-03:30 pause"], "Europe/Berlin")
    assert course(half, BERLIN, "2026-03-28T12:00", "2026-03-29T12:00") == [
        ("Sun 29 Mar 03:00 CEST", "02:30-03:30"),
        ("Sun 29 Mar 03:30 CEST", ""),
    ]


def test_times_that_come_twice_are_in_the_window_twice() -> None:
    for zone, day in ((BERLIN, "2026-10-25"), (NEW_YORK, "2026-11-01")):
        hour = 2 if zone is BERLIN else 1
        table = Timetable((window_of(f"0{hour}:15-0{hour}:45 pause"),), zone)
        names = ("CEST", "CET") if zone is BERLIN else ("EDT", "EST")
        found = course(table, zone, f"{day}T00:00", f"{day}T12:00")
        assert [one and one[0][-10:] for one in found] == [
            f"0{hour}:{minute} {name}".rjust(10) for name in names for minute in (15, 45)
        ]


def test_day_whose_midnight_is_left_out_begins_with_its_first_moment() -> None:
    cairo = ZoneInfo("Africa/Cairo")  # 24 April 2026: 00:00 becomes 01:00
    table = Timetable((window_of("Fri pause"),), cairo)
    assert shown(table.next_change(at("2026-04-23T12:00", cairo)), cairo) == ("Fri 24 Apr 01:00 EEST", "Fri")


def test_one_window_for_the_whole_week_never_changes() -> None:
    assert timetable_of(["else 1/s"], "").next_change(1.8e9) is None
    assert timetable_of([], "").next_change(1.8e9) is None


def test_unknown_zone_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ValueError, match='right would be "Europe/Berlin"'):
        zone_of("Europe/Berlln")
    for name in ("../etc/passwd", "/etc/localtime", "CEST", "\0"):
        with pytest.raises(ValueError, match="right would be"):
            zone_of(name)


QUARTERS = st.integers(0, 95).map(lambda quarter: f"{quarter // 4:02d}:{quarter % 4 * 15:02d}")
DAYS = st.sampled_from(["", "", "Sun ", "Sat,Sun ", "Mon-Fri ", "Fri-Mon ", "Wed "])
WINDOWS = st.lists(
    st.tuples(DAYS, QUARTERS, QUARTERS)
    .filter(lambda one: one[1] != one[2])
    .map(lambda one: window_of(f"{one[0]}{one[1]}-{one[2]} 1/s")),
    min_size=1,
    max_size=4,
)
SUNDAYS = [
    *(at(f"2026-{day}T00:00", BERLIN) for day in ("03-29", "10-25")),
    *(at(f"2026-{day}T00:00", NEW_YORK) for day in ("03-08", "11-01")),
    *(at(f"2026-{day}T00:00", LORD_HOWE) for day in ("04-05", "10-04")),
]
MOMENTS = st.one_of(
    st.integers(int(1.7e9), int(1.9e9)),
    st.builds(lambda day, hours: int(day) + hours, st.sampled_from(SUNDAYS), st.integers(-30 * 3600, 30 * 3600)),
)


def read_off_the_wall(windows: list[Window], moment_s: float, zone: ZoneInfo) -> Window | None:
    """As a person would."""
    wall = datetime.fromtimestamp(moment_s, zone)
    clock = f"{wall:%H:%M}"
    for window in windows:
        begins, ends = (f"{minute // 60:02d}:{minute % 60:02d}" for minute in (window.from_min, window.to_min))
        yesterday = (wall.replace(tzinfo=None) - timedelta(days=1)).weekday()
        if begins < ends:
            is_in = wall.weekday() in window.days and begins <= clock < ends
        else:
            is_in = (wall.weekday() in window.days and clock >= begins) or (yesterday in window.days and clock < ends)
        if is_in:
            return window
    return None


@settings(max_examples=150)
@given(WINDOWS, MOMENTS, st.sampled_from([BERLIN, NEW_YORK, LORD_HOWE]))
@example([window_of("02:15-02:45 1/s")], int(at("2026-10-24T12:00", BERLIN)), BERLIN)
def test_window_in_force_and_its_next_change_agree_with_the_clock_on_the_wall(
    windows: list[Window], moment_s: int, zone: ZoneInfo
) -> None:
    table = Timetable(tuple(windows), zone)
    now = table.at(moment_s)
    assert now is read_off_the_wall(windows, moment_s, zone)
    change = table.next_change(moment_s)
    quarter_s = moment_s - moment_s % 900 + 900
    end_s = change.at_s if change else moment_s + 8 * 86_400
    while quarter_s < end_s:
        assert table.at(quarter_s) is now, "the next change is the first"
        quarter_s += 900
    if change is not None:
        assert change.window is read_off_the_wall(windows, change.at_s, zone)
        assert change.window is not now
        assert read_off_the_wall(windows, change.at_s - 1, zone) is now
