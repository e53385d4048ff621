"""What an operator decided about pauses and domains is undone as long as it stands, also where the clock was set back."""

from __future__ import annotations

import math

import pytest

from drainer.ledger.records import DomainOrder, OperatorState, Pause
from drainer.operate.undo_operator_state import change, undone

AT, BACK_S, LONG_S = 1_700_000_000.123, 10_800.456, 1800.0
NOTHING = OperatorState()


def state(since_s: float, long_s: float = LONG_S, per_s: float | None = 5.0) -> OperatorState:
    """A pause of a list, one of a domain that keeps a rate, and one of a domain without an end, of the same moment."""
    return OperatorState(
        pauses=(Pause("choir", since_s, since_s + long_s, "ann", "full"),),
        domains=(
            DomainOrder("gmail.com", per_s, since_s + long_s, since_s, "ann", "full"),
            DomainOrder("web.de", None, math.inf, since_s, "ann", "full"),
        ),
    )


def set_back(one: OperatorState, by_s: float) -> OperatorState:
    return OperatorState(
        tuple(pause.set_back(by_s) for pause in one.pauses),
        domains=tuple(order.set_back(by_s) for order in one.domains),
    )


@pytest.mark.parametrize("times", [0, 1, 2])
def test_pauses_are_undone_however_often_the_clock_was_set_back_since(times: int) -> None:
    made, now_s = state(AT), AT + 60
    stands = made
    for _ in range(times):
        stands, now_s = set_back(stands, BACK_S), now_s - BACK_S
    found, done, left = undone(stands, change(NOTHING, made), now_s, AT)
    assert (found, left) == (NOTHING, [])
    assert done == ["list choir: not paused", "domain gmail.com: as it was learnt", "domain web.de: as it was learnt"]


@pytest.mark.parametrize(
    ("since", "later"),
    [
        (state(AT - BACK_S, long_s=LONG_S + 1, per_s=4.0), ()),
        (state(AT - BACK_S + 60), (change(state(AT - BACK_S), state(AT - BACK_S + 60)),)),
    ],
    ids=["of_another_length", "the_same_again"],
)
def test_what_was_ordered_since_stays_although_the_clock_was_set_back(since: OperatorState, later: tuple[str]) -> None:
    made = OperatorState(state(AT).pauses, domains=state(AT).domains[:1])
    found, done, left = undone(since, change(NOTHING, made), AT - BACK_S + 90, AT, later)
    assert (found, done) == (since, [])
    assert left == [
        "list choir: paused, resumed or over by itself since",
        "domain gmail.com: ordered otherwise since, or over by itself",
    ]


def test_pause_that_was_lifted_on_a_clock_that_was_ahead_comes_back_for_as_long_as_it_had_left() -> None:
    lifted_s = AT + 600
    now_s = lifted_s - BACK_S
    found, _, left = undone(NOTHING, change(state(AT), NOTHING), now_s, lifted_s)
    ends = [found.pauses[0].until_s, found.domains[0].paused_until_s]
    assert ends == pytest.approx([now_s + LONG_S - 600] * 2) and found.domains[1].paused_until_s == math.inf
    assert left == [] and max(found.pauses[0].since_s, found.domains[0].since_s, found.domains[1].since_s) <= now_s
    found, _, left = undone(NOTHING, change(state(AT), NOTHING), lifted_s + LONG_S, lifted_s)
    assert not found.pauses and found.domains[0].per_s == 5.0, "the pause would be over; the rate beside it is not"
    assert "list choir: the pause from before would be over by now" in left
