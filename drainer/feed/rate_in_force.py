"""The rate in force: the limit of the operator or the settings, what the MTA can bear, and what the guards leave of it.

In    settings and the operator's limits, outcomes of transactions, verdicts of guards
Out   the throttle's ceilings, and which of them binds
Not here  waiting (throttle.py); how the MTA's answers move the rate (adaptive_rate.py)
"""

from __future__ import annotations

import math

from drainer.clock import Clock
from drainer.feed.adaptive_rate import Outcomes, first_pace, next_pace
from drainer.feed.throttle import Throttle
from drainer.feed.transaction import Transaction
from drainer.guards.verdict import Guard, bound_by_guard
from drainer.ledger.states import State
from drainer.settings.feed import FeedSettings

SLOW_SHARE = 0.5
"""Part of the rate that is left while a guard says slow."""


class RateInForce:
    """Sets the throttle whenever one of its reasons changes; `look` about once a second."""

    def __init__(self, settings: FeedSettings, throttle: Throttle, clock: Clock) -> None:
        self._throttle = throttle
        self._clock = clock
        self._adaptive = settings.adaptive
        self._messages_per_s = settings.messages
        self._recipients_per_s = settings.recipients
        self._slow: Guard | None = None
        self._seen = Outcomes()
        self._borne = first_pace(clock.monotonic_s(), settings.messages)
        self._set()

    @property
    def messages_per_s(self) -> float | None:
        """The limit on transactions, by the operator or the settings; None unlimited, 0 paused."""
        return self._messages_per_s

    @property
    def recipients_per_s(self) -> float | None:
        """The limit on recipients, likewise."""
        return self._recipients_per_s

    def limit(self, settings: FeedSettings, messages_per_s: float | None, recipients_per_s: float | None) -> None:
        """The limits in force. messages_per_s, recipients_per_s: the operator's; None: as the settings say, inf: none."""
        self._adaptive = settings.adaptive
        self._messages_per_s = _in_force(messages_per_s, settings.messages)
        self._recipients_per_s = _in_force(recipients_per_s, settings.recipients)
        self._set()

    def slow(self, guard: Guard | None) -> None:
        """This guard says slow; None: no guard says so any more."""
        before, self._slow = self._slow, guard
        if (before is None) != (guard is None):
            self._set()

    def heard(self, transaction: Transaction) -> None:
        """The outcome of a transaction."""
        # A message that is refused for its content says nothing about how much the MTA can bear.
        deferred = 0 if transaction.message_refused else len(transaction.recipients(State.DEFERRED))
        answered = sum(len(outcome.recipients) for outcome in transaction.outcomes)
        self._seen = Outcomes(
            self._seen.transactions + 1,
            self._seen.answered + answered,
            self._seen.deferred + deferred,
            self._seen.lost + bool(transaction.trouble),
        )

    def look(self) -> None:
        """Adapt the rate to what was heard since the last look."""
        self._borne = next_pace(self._borne, self._seen, self._clock.monotonic_s(), self._messages_per_s)
        self._seen = Outcomes()
        if self._adaptive:
            self._set()

    @property
    def binding(self) -> str:
        """What holds the rate down now, in words."""
        limited = self._throttle.binding
        if not limited:
            return "the MTA's pace"
        if self._slow:
            return bound_by_guard(self._slow.name, self._slow.reason)
        if self._adaptive and limited == "messages" and self._borne.per_s < _or_infinite(self._messages_per_s):
            return self._borne.reason or "slow start"
        return f"limit on {limited}"

    def _set(self) -> None:
        share = SLOW_SHARE if self._slow else 1.0
        messages = _or_infinite(self._messages_per_s)
        if self._adaptive:
            messages = min(messages, self._borne.per_s)
        self._throttle.set(
            None if math.isinf(messages) else messages * share,
            None if self._recipients_per_s is None else self._recipients_per_s * share,
        )


def _in_force(operator: float | None, settings: float | None) -> float | None:
    if operator is None:
        return settings
    return None if math.isinf(operator) else operator


def _or_infinite(per_s: float | None) -> float:
    return math.inf if per_s is None else per_s
