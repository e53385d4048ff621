"""Whose trouble a reply is: a destination's, or the MTA's own."""

from __future__ import annotations

from typing import Any, cast

from drainer.destinations.domain_pace import DomainPace
from drainer.destinations.limits import Limits
from drainer.feed.transaction import Transaction
from drainer.ledger.records import Outcome
from drainer.ledger.states import State
from drainer.settings import Settings
from drainer.stages.domain_paces import DomainPaces
from drainer.stages.resources import Resources

REPLY = "421 4.7.28 unusual rate of mail"
NONE = Limits()


class StoppedClock:
    def now_s(self) -> float:
        return 1_000_000.0

    def monotonic_s(self) -> float:
        return 1_000.0


class Knowing(DomainPaces):
    """With paces that were learnt before."""

    def __init__(self, **learnt: DomainPace) -> None:
        unused = cast(Any, None)
        super().__init__(
            Resources(Settings(), StoppedClock(), unused, unused, unused, {}, unused, unused, unused, unused, unused)
        )
        self._paces.update({f"{name}.example": pace for name, pace in learnt.items()})


def closed(paces: DomainPaces, name: str) -> bool:
    """Whether a 421 for this recipient is taken for the MTA's own trouble."""
    transaction = Transaction((), (f"ann@{name}.example",), REPLY)
    return bool(paces.heard(transaction, NONE)[0].trouble)


def delivered(paces: DomainPaces, name: str) -> None:
    paces.heard(Transaction((Outcome(State.DELIVERED, (f"ann@{name}.example",), "250 ok", 0.0),)), NONE)


def test_421_for_one_domain_or_two_is_theirs_however_often_it_comes() -> None:
    paces = Knowing()
    assert not any(closed(paces, name) for name in ("a", "b") * 20)


def test_421_for_several_domains_in_a_row_is_the_mtas_own_until_it_takes_a_mail() -> None:
    paces = Knowing()
    assert [closed(paces, name) for name in ("a", "b", "c", "a", "d")] == [False, False, True, True, True]
    delivered(paces, "e")
    assert [closed(paces, name) for name in ("a", "b", "c")] == [False, False, True]


def test_421_for_domains_that_are_banned_says_nothing_of_the_mta() -> None:
    banned = DomainPace(1.0, pause_s=30.0)
    paces = Knowing(a=banned, b=banned, c=banned, d=banned)
    assert not any(closed(paces, name) for name in ("a", "b", "c", "d"))


def test_recipient_is_refused_for_its_domain_also_while_nothing_is_let_through_to_it() -> None:
    full = DomainPace(0.0, since_s=1.0)
    assert full.per_s == 0.0
    paces = Knowing(a=full, b=DomainPace(1.0, pause_s=30.0))
    assert paces.is_limited("ann@a.example", REPLY, NONE)
    assert not paces.is_limited("ann@b.example", REPLY, NONE), "a ban is more than that"
    assert not paces.is_limited("ann@c.example", REPLY, NONE), "nothing is learnt of it"


def test_what_a_provider_takes_is_unknown_until_it_was_measured() -> None:
    paces = Knowing(a=DomainPace(5.0), b=DomainPace(5.0, takes_per_s=6.0))
    assert (paces.takes_per_s("a.example"), paces.takes_per_s("b.example")) == (None, 6.0)
