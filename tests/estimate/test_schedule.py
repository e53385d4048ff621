"""The finish time under windows and caps, against drains that are carried out in virtual time."""

from __future__ import annotations

import itertools
import math
import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drainer.backlog.work import Work
from drainer.estimate.ahead import LONGEST_S, Ahead, CapAhead, Pace
from drainer.estimate.ceilings import Ceilings
from drainer.estimate.drain_time import by_time, drain_model, drain_time, what_if
from drainer.estimate.eta import Eta
from drainer.estimate.forecaster import Forecaster, Left
from drainer.estimate.per_list import list_finishes
from drainer.estimate.rates import Counts
from drainer.schedule.timetable import timetable_of

STEP_S = 60.0
EACH = 4
"""Recipients of a message."""
MIDNIGHT_S = 1_795_996_800.0
HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Site:
    """mta_per_s: recipients that the MTA takes, on average."""

    windows: tuple[str, ...] = ()
    messages_per_s: float | None = None
    hourly: int = 0
    daily: int = 0
    mta_per_s: float = 40.0
    from_h: float = 18.0


class SimulatedDrain:
    """Mail goes whenever windows and caps let it, as fast as the MTA takes it. What the forecaster sees is what the service
    would show it."""

    def __init__(self, site: Site, recipients: int, seed: int = 1) -> None:
        self.site = site
        self.left = float(recipients)
        self.now_s = MIDNIGHT_S + site.from_h * HOUR_S
        self.seen = Forecaster()
        self._timetable = timetable_of(site.windows, "UTC")
        self._chance = random.Random(seed)
        self._caps = {most: (window_s, deque[tuple[float, float]]()) for most, window_s in
                      ((site.hourly, HOUR_S), (site.daily, 24 * HOUR_S)) if most}  # fmt: skip
        self._used = dict.fromkeys(self._caps, 0.0)
        self._done = 0.0
        self._changes = [
            (change.at_s, self.limit(change.at_s))
            for change in self._timetable.changes(self.now_s, self.now_s + LONGEST_S)
        ]

    def limit(self, at_s: float) -> float | None:
        window = self._timetable.at(at_s)
        return window.messages_per_s if window else self.site.messages_per_s

    def ceilings(self) -> Ceilings:
        caps = (
            CapAhead(most, window_s, tuple((at_s + window_s - self.now_s, amount) for at_s, amount in sent))
            for most, (window_s, sent) in self._caps.items()
        )
        windows: tuple[tuple[float, float | None], ...] = ()
        if self.site.windows:
            coming = ((at_s - self.now_s, limit) for at_s, limit in self._changes if at_s > self.now_s)
            windows = ((0.0, self.limit(self.now_s)), *coming)
        return Ceilings(self.limit(self.now_s), None, ahead=Ahead(windows, tuple(caps)))

    def work(self) -> Work:
        return Work(round(self.left), messages=self.left / EACH)

    def step(self) -> None:
        limit = self.limit(self.now_s)
        could = self.site.mta_per_s * STEP_S * self._chance.lognormvariate(0, 0.15)
        if limit is not None:
            could = min(could, limit * EACH * STEP_S)
        room = math.inf
        for most, (window_s, sent) in self._caps.items():
            while sent and sent[0][0] + window_s <= self.now_s:
                self._used[most] -= sent.popleft()[1]
            room = min(room, most - self._used[most])
        amount = min(could, room, self.left)
        self.now_s += STEP_S
        if amount > 0:
            for most, (_, sent) in self._caps.items():
                sent.append((self.now_s, amount))
                self._used[most] += amount
        self.left -= amount
        self._done += amount
        stands_still = limit == 0 or room < 1
        counts = Counts(self.now_s, round(self._done), round(self._done / EACH), nothing_due=stands_still)
        goes_on = Ahead(((0.0, limit), (1.0, None))) if self.site.windows else Ahead()
        left = Left(max(self.left, 1.0) / EACH, max(self.left, 1.0))
        self.seen.observe(counts, left, Ceilings(limit, None, ahead=goes_on))

    def eta(self) -> Eta:
        return drain_time(self.work(), self.seen, self.ceilings(), "draining", self.now_s)


def forecasts(site: Site, recipients: int, seed: int = 1) -> Iterator[tuple[float, Eta]]:
    """(seconds that were really left, what was said) at nine moments of the drain."""
    whole = SimulatedDrain(site, recipients, seed)
    begun_s = whole.now_s
    while whole.left > 0:
        whole.step()
    length_s = whole.now_s - begun_s
    again = SimulatedDrain(site, recipients, seed)
    for tenth in range(1, 10):
        while again.now_s < begun_s + tenth / 10 * length_s:
            again.step()
        yield whole.now_s - again.now_s, again.eta()


SITES = {
    "a night that was seen": (Site(("22:00-06:00 unlimited", "else 1/s"), from_h=23.0), 2_000_000),
    "a night never seen, with a limit": (Site(("22:00-06:00 9/s", "else 2/s"), mta_per_s=100.0), 400_000),
    "office hours": (Site(("Mon-Fri 08:00-18:00 pause",), from_h=6.0), 700_000),
    "hourly": (Site(hourly=300), 2_900),
    "hourly, half used": (Site(hourly=30_000, mta_per_s=10.0), 200_000),
    "hourly and daily": (Site(hourly=600, daily=4000), 9_000),
    "nights and daily": (Site(("22:00-06:00 unlimited", "else pause"), daily=100_000, from_h=22.5), 250_000),
}


@pytest.mark.parametrize("name", SITES)
def test_finish_time_knows_the_schedule(name: str) -> None:
    found = list(forecasts(*SITES[name]))
    assert {eta.state for _, eta in found} == {"draining"}
    errors = sorted(abs((eta.seconds or 0.0) - really_s) / really_s for really_s, eta in found)
    assert (errors[4] < 0.05, errors[-1] < 0.25) == (True, True), errors
    assert sum(holds(eta, really_s) for really_s, eta in found) >= 7


def holds(eta: Eta, really_s: float) -> bool:
    return eta.low_s is not None and eta.high_s is not None and eta.low_s <= really_s <= eta.high_s


def test_interval_is_wide_before_the_first_night_without_a_limit_and_narrow_after_it_was_seen() -> None:
    """How fast the MTA is without a limit is not known before; the interval says so, and holds."""
    found = list(forecasts(Site(("22:00-06:00 unlimited", "else 1/s")), 500_000))
    assert all(holds(eta, really_s) for really_s, eta in found)
    width = [((eta.high_s or 0.0) - (eta.low_s or 0.0)) / really_s for really_s, eta in found]
    assert min(width[:5]) > 2.0
    assert max(width[6:]) < 0.5


def capped() -> SimulatedDrain:
    """300 an hour are used up, 850 recipients are left."""
    drain = SimulatedDrain(Site(hourly=300), 1150)
    while drain.left > 850:
        drain.step()
    return drain


def test_cap_that_is_used_up_gives_a_finish_time_before_any_rate_is_measured() -> None:
    eta = capped().eta()
    assert eta.state == "draining"
    assert eta.seconds == pytest.approx(3 * HOUR_S, rel=0.03)


def test_another_rate_is_computed_with_the_caps_that_stay_in_force() -> None:
    drain = capped()
    asked = what_if(drain.work(), drain.seen, 1000.0, drain.now_s, ceilings=drain.ceilings())
    assert asked.seconds == pytest.approx(3 * HOUR_S, rel=0.03)
    free = what_if(drain.work(), drain.seen, 1000.0, drain.now_s)
    assert free.seconds == pytest.approx(0.85, rel=0.1)


def test_time_before_which_the_caps_allow_no_end_is_impossible_and_a_later_one_likely() -> None:
    drain = capped()
    by = {hours: by_time(drain.work(), drain.seen, drain.ceilings(), hours * HOUR_S, None) for hours in (2, 4)}
    assert {hours: found.feasibility for hours, found in by.items()} == {2: "impossible", 4: "likely"}


def test_lists_are_done_in_the_hours_in_which_the_cap_lets_them_go() -> None:
    drain = capped()
    model = drain_model(drain.work(), drain.seen, drain.ceilings())
    assert model is not None
    found = list_finishes({"small": 0.25, "large": 1.0}, model)
    assert found["small"].seconds == pytest.approx(1 * HOUR_S, rel=0.35)
    assert found["large"].seconds == pytest.approx(3 * HOUR_S, rel=0.05)


def test_pause_of_a_window_is_no_pause_and_one_that_never_ends_is() -> None:
    drain = SimulatedDrain(Site(("19:00-07:00 pause",)), 1_000_000)
    while drain.limit(drain.now_s) != 0:
        drain.step()
    assert drain.eta().state == "draining"
    assert (drain.eta().seconds or 0.0) > 11.9 * HOUR_S
    for_ever = Ceilings(0.0, None, ahead=Ahead(((0.0, 0.0),)))
    assert drain_time(drain.work(), drain.seen, for_ever, "draining", drain.now_s).state == "paused"


RATES = st.floats(0.01, 1000)


@settings(max_examples=40, deadline=None)
@given(
    RATES,
    st.lists(st.tuples(st.floats(60, 50_000), st.none() | st.just(0.0) | RATES), max_size=5),
    st.none() | RATES,
    st.integers(1, 3000),
    st.lists(st.tuples(st.floats(1, 3600), st.integers(0, 300)), max_size=4),
    st.floats(1, 1e5),
)
def test_course_never_falls_nor_exceeds_rate_window_or_cap(
    rate: float,
    lengths: list[tuple[float, float | None]],
    first: float | None,
    most: int,
    leaving: list[tuple[float, int]],
    left: float,
) -> None:
    at_s, windows = 0.0, [(0.0, first)]
    for seconds, limit in lengths:
        at_s += seconds
        windows.append((at_s, limit))
    cap = CapAhead(float(most), HOUR_S, tuple((at, float(number)) for at, number in sorted(leaving)))
    pace = Pace(min(rate, first or rate), first)
    course = Ahead(tuple(windows), (cap,)).course(pace, left)
    steps = list(zip(course.times, course.done, strict=True))
    for (before_s, before), (after_s, after) in itertools.pairwise(steps):
        assert after >= before
        fastest = max(pace.under(limit) for at, limit in windows if at < after_s)
        assert after - before <= fastest * (after_s - before_s) * (1 + 1e-6) + 1e-6
    for after_s, after in steps:
        if after_s > HOUR_S and course.times[1] * 6 <= HOUR_S:
            assert after - course.by(after_s - HOUR_S) <= most * (1 + 1e-6) + 1e-6
    if course.done[-1] >= left:
        assert course.by(course.time_of(left)) == pytest.approx(left, rel=1e-6)
