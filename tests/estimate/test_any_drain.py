"""Whatever a drain does, the estimate is a forecast or a word why there is none: the service that asks it feeds mail."""

from __future__ import annotations

import math
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from drainer.backlog.work import Work
from drainer.estimate.ceilings import Ceilings
from drainer.estimate.eta import Eta, ServiceState
from drainer.estimate.forecaster import Forecaster, Left
from drainer.estimate.per_list import ListLeft
from drainer.estimate.rates import Counts, RateSeries
from drainer.observe.finish import Drain

NOW_S = 1_772_500_000.0

_some = st.one_of(st.just(0), st.integers(0, 50), st.integers(0, 10_000_000))
_seconds = st.one_of(st.just(0.0), st.floats(1e-3, 30), st.floats(30, 1e6))
_limit = st.one_of(st.none(), st.just(0.0), st.floats(1e-3, 1e6))
_spans = st.tuples(
    st.tuples(_seconds, _some, _some, _some, _some, st.booleans(), st.booleans()),
    st.builds(
        lambda messages, each, octets: Left(messages or None, (messages or 1) * each, octets if each else 0),
        st.one_of(st.none(), st.integers(1, 1_000_000)),
        st.one_of(st.just(0), st.integers(1, 50)),
        _some,
    ),
    st.builds(Ceilings, _limit, _limit, st.one_of(st.just(0.0), st.floats(0, 1e9))),
    st.integers(1, 25),
)
_states = st.sampled_from(("scanning", "draining", "paused", "stopped_by_guard", "mta_down", "idle"))


def is_told_of(eta: Eta | None) -> bool:
    """No figure, or figures in their order that can be shown."""
    if eta is None or eta.seconds is None:
        return eta is None or eta.low_s is None is eta.finish
    figures = (0.0, eta.low_s, eta.seconds, eta.high_s)
    known = [figure for figure in figures if figure is not None]
    return known == sorted(known) and all(map(math.isfinite, known)) and eta.finish is not None


@settings(max_examples=100, deadline=None)
@given(st.lists(_spans, max_size=8), _states)
def test_no_course_of_a_drain_leaves_an_estimate_that_cannot_be_shown(
    spans: list[tuple[tuple[float, int, int, int, int, bool, bool], Left, Ceilings, int]], state: ServiceState
) -> None:
    seen, rates, counts = Forecaster(), RateSeries(), Counts(0.0, 0, 0)
    for (seconds, recipients, messages, octets, arrived, feeding, nothing_due), left, ceilings, times in spans:
        for _ in range(times):
            counts = Counts(
                counts.at_s + seconds,
                counts.serviced_recipients + recipients,
                counts.serviced_messages + messages,
                counts.arrived_recipients + arrived,
                feeding,
                nothing_due,
                counts.serviced_octets + octets,
            )
            rates.observe(counts)
            seen.observe(counts, left, ceilings)
        messages_left = left.recipients / 3 if left.messages is None else left.messages
        recipients = int(left.recipients)
        work = Work(recipients, messages=messages_left, octets=left.octets)
        lists = {"choir": ListLeft(1, recipients)} if recipients else {}
        drain = Drain(work, seen, rates.measured(), ceilings, state, NOW_S, lists, frozenset(), "fair", ())
        assert is_told_of(drain.eta), drain.eta
        assert is_told_of(drain.if_resumed), drain.if_resumed
        assert is_told_of(replace(drain, state="paused").if_resumed)
        drain.list_finishes(drain.eta)


def test_octets_that_are_known_of_the_rest_only_measure_nothing() -> None:
    """As while Mailman's own runner delivers, whose transactions are not counted."""
    with_octets, without = Forecaster(), Forecaster()
    for at in range(400):
        counts = Counts(float(at), 12 * at + at % 7 * 40, at + at % 5)
        with_octets.observe(counts, Left(900, 10_000, 5_000_000), Ceilings())
        without.observe(counts, Left(900, 10_000), Ceilings())
    assert without.forecast is not None
    assert with_octets.forecast == without.forecast
