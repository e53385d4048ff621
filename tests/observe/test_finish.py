"""What is answered to "when does it end": of everything, of a list, at another rate, by a time."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drainer.backlog.work import Work
from drainer.control.messages.finish import EtaReply
from drainer.estimate.ceilings import Ceilings
from drainer.estimate.eta import Eta, ServiceState
from drainer.estimate.forecaster import Forecaster, Left
from drainer.estimate.per_list import ListLeft
from drainer.estimate.rates import Counts, RateSeries
from drainer.observe.finish import Drain, answer

NOW_S = 1_772_500_000.0
PER_S = 40
"""Recipients, of four to a message."""


def watched(seconds: int = 400) -> tuple[Forecaster, RateSeries]:
    seen, rates = Forecaster(), RateSeries()
    for at in range(seconds + 1):
        counts = Counts(1000.0 + at, PER_S * at, PER_S * at // 4)
        seen.observe(counts, Left(5_000, 20_000), Ceilings())
        rates.observe(counts)
    return seen, rates


SEEN, RATES = watched()
LISTS = {"choir": ListLeft(40, 160), "harbour": ListLeft(1000, 4_000), "announce": ListLeft(960, 3_840)}


def drain(
    lists: dict[str, ListLeft] = LISTS,
    paused: frozenset[str] = frozenset(),
    ceilings: Ceilings | None = None,
    state: ServiceState = "draining",
    order: str = "fair",
    seen: Forecaster = SEEN,
) -> Drain:
    going = sum(left.recipients for name, left in lists.items() if name not in paused)
    owed_paused = sum(left.recipients for name, left in lists.items() if name in paused)
    work = Work(going, messages=going / 4, paused_recipients=owed_paused, paused_messages=owed_paused / 4)
    return Drain(
        work, seen, RATES.measured(), ceilings or Ceilings(), state, NOW_S, lists, paused, order, ("choir", "harbour")
    )


def seconds(eta: Eta | None) -> float:
    assert eta is not None
    assert eta.seconds is not None, eta
    return eta.seconds


some_lists = st.dictionaries(
    st.sampled_from(["choir", "harbour", "announce", "board"]),
    st.builds(lambda entries, each: ListLeft(entries, entries * each), st.integers(1, 5000), st.integers(1, 50)),
    min_size=1,
)
a_drain = st.builds(
    drain,
    lists=some_lists,
    paused=st.frozensets(st.sampled_from(["choir", "harbour"])),
    ceilings=st.builds(Ceilings, *[st.none() | st.sampled_from([0.0, 0.5, 20.0, 1e6])] * 2),
    state=st.sampled_from(["draining", "paused", "mta_down", "scanning", "starting"]),
    order=st.sampled_from(["fair", "oldest", "fresh", "priority"]),
    seen=st.sampled_from([SEEN, Forecaster()]),
)


def every_eta(reply: EtaReply) -> list[Eta]:
    of_list = reply.list
    found = [reply.eta, reply.if_resumed, reply.what_if]
    found += [of_list.eta, of_list.what_if, of_list.if_resumed] if of_list else []
    return [eta for eta in found if eta is not None]


@settings(deadline=None, max_examples=30)
@given(a_drain, st.none() | st.floats(0.01, 1e5), st.none() | st.floats(-1e4, 1e6))
def test_numbers_are_in_order_and_words_have_none(of: Drain, at: float | None, by_in_s: float | None) -> None:
    for name in ("", *of.lists):
        reply = answer(of, at, None if by_in_s is None else NOW_S + by_in_s, name)
        for eta in every_eta(reply):
            if eta.state in ("draining", "done"):
                assert eta.low_s is not None
                assert eta.high_s is not None
                assert 0 <= eta.low_s <= seconds(eta) <= eta.high_s
                assert eta.finish == pytest.approx(NOW_S + seconds(eta))
            else:
                assert (eta.seconds, eta.low_s, eta.high_s, eta.finish) == (None, None, None, None)


@settings(deadline=None, max_examples=30)
@given(a_drain)
def test_no_list_is_through_after_everything(of: Drain) -> None:
    if of.eta.state != "draining":
        assert of.list_finishes(of.eta) == {}
        return
    for name, finish in of.list_finishes(of.eta).items():
        assert name not in of.paused_lists
        assert finish.seconds <= seconds(of.eta) * 1.02 + 1


@settings(deadline=None, max_examples=30)
@given(a_drain)
def test_backlog_counts_paused_lists_too(of: Drain) -> None:
    assert answer(of, None, None, "").backlog_recipients == sum(left.recipients for left in of.lists.values())


@settings(deadline=None, max_examples=30)
@given(a_drain, st.floats(1, 1e4), st.floats(1.1, 10))
def test_a_higher_rate_is_never_later(of: Drain, at: float, times: float) -> None:
    slow, fast = answer(of, at, None, "").what_if, answer(of, at * times, None, "").what_if
    assert slow is not None
    assert fast is not None
    if slow.state == "draining":
        assert seconds(fast) <= seconds(slow) * 1.001


def test_needed_rate_is_the_rate_that_does_it() -> None:
    needed = answer(drain(), None, NOW_S + 100, "").needed_recipients_per_s
    assert needed == pytest.approx(80)
    assert seconds(answer(drain(), needed, None, "").what_if) == pytest.approx(100, rel=0.02)


def test_the_limit_to_raise_is_named_with_what_it_would_have_to_be() -> None:
    reply = answer(drain(ceilings=Ceilings(messages_per_s=10.0)), None, NOW_S + 100, "")
    assert (reply.verdict, reply.raise_recipients_per_s) == ("impossible", None)
    assert reply.raise_messages_per_s == pytest.approx(20)
    reply = answer(drain(ceilings=Ceilings(recipients_per_s=50.0)), None, NOW_S + 100, "")
    assert (reply.verdict, reply.raise_messages_per_s) == ("impossible", None)
    assert reply.raise_recipients_per_s == pytest.approx(80)


def test_rate_that_the_mta_has_reached_is_shown_beside_the_rate_needed() -> None:
    reply = answer(drain(), None, NOW_S + 3600, "")
    assert reply.verdict == "likely"
    assert reply.sustained_recipients_per_s == pytest.approx(PER_S, rel=0.01)
    assert reply.shown_recipients_per_s == pytest.approx(PER_S, rel=0.01)


def test_by_a_time_that_is_past_nothing_would_do() -> None:
    reply = answer(drain(), None, NOW_S - 5, "")
    assert (reply.needed_recipients_per_s, reply.verdict) == (None, "impossible")


def test_a_short_list_is_through_first_when_lists_take_turns() -> None:
    choir, harbour = (answer(drain(), None, None, name).list for name in ("choir", "harbour"))
    assert choir is not None
    assert harbour is not None
    assert (choir.entries, choir.recipients, choir.paused) == (40, 160, False)
    assert seconds(choir.eta) < 0.2 * seconds(harbour.eta)


def test_a_paused_list_has_the_word_and_when_it_would_be_through() -> None:
    of = drain(paused=frozenset({"harbour"}))
    reply = answer(of, None, None, "harbour")
    assert reply.list is not None
    assert reply.list.paused
    assert reply.list.eta == Eta(state="paused")
    assert seconds(reply.list.if_resumed) == pytest.approx(8_000 / PER_S, rel=0.1)
    assert seconds(reply.eta) == pytest.approx(4_000 / PER_S, rel=0.1)
    assert seconds(reply.if_resumed) == pytest.approx(8_000 / PER_S, rel=0.1)


def test_nothing_is_said_of_resuming_while_nothing_is_paused() -> None:
    assert answer(drain(), None, None, "choir").if_resumed is None
    reply = answer(drain(paused=frozenset({"a-list-without-mail"})), None, None, "choir")
    assert reply.if_resumed is None


def test_a_limit_on_messages_counts_the_messages_that_are_left() -> None:
    """Personalised mail waits behind the bulk: a transaction for each of its recipients."""
    of = drain(ceilings=Ceilings(messages_per_s=10.0))
    personal = replace(of, work=replace(of.work, messages=float(of.work.recipients)))
    assert seconds(answer(personal, None, None, "").eta) == pytest.approx(of.work.recipients / 10, rel=0.1)
    assert seconds(answer(of, None, None, "").eta) == pytest.approx(of.work.recipients / 40, rel=0.1)
