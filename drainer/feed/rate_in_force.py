"""The rate in force: the limit of the operator or the settings, what the MTA can bear, and what the guards leave of it.

In    settings and the operator's limits, outcomes of transactions, verdicts of guards
Out   the throttle's ceilings, and which of them binds
Not here  waiting (throttle.py); how the MTA's answers move the rate (adaptive_rate.py)
"""

from __future__ import annotations

import math

from drainer.clock import Clock
from drainer.feed.adaptive_rate import LOOK_EVERY_S, Heard, Pace, Phase, borne_per_s, first_pace, is_used, next_pace
from drainer.feed.binding import LIMIT_ON, MTA_PACE, SLOW_START
from drainer.feed.scheduled import Scheduled
from drainer.feed.throttle import Throttle
from drainer.feed.transaction import Transaction
from drainer.guards.verdict import Guard, bound_by_guard
from drainer.ledger.states import State
from drainer.queuedir.domains import recipients_by_domain
from drainer.schedule.caps import CAPS
from drainer.schedule.words import cap_words, window_words
from drainer.settings.feed import FeedSettings

SLOW_SHARE = 0.5
"""Part of the rate that is left while a guard says slow."""


class RateInForce:
    """Sets the throttle whenever one of its reasons changes; `look` about once a second."""

    def __init__(self, settings: FeedSettings, throttle: Throttle, clock: Clock) -> None:
        self._throttle = throttle
        self._clock = clock
        self._adaptive = settings.adaptive
        self.schedule = Scheduled(settings, clock)
        self._messages_per_s = self.schedule.messages_per_s
        self._recipients_per_s = settings.recipients
        self._slow: tuple[Guard, ...] = ()
        self._heard = _Counted()
        self._borne_per_s = 0.0
        self._pace = first_pace(clock.monotonic_s(), self._messages_per_s)
        throttle.cap(settings.hourly, settings.daily)
        self._set()

    @property
    def messages_per_s(self) -> float | None:
        """The limit on transactions, by the operator, a window or the settings; None unlimited, 0 paused."""
        return self._messages_per_s

    @property
    def recipients_per_s(self) -> float | None:
        """The limit on recipients, likewise."""
        return self._recipients_per_s

    def limit(self, settings: FeedSettings, messages_per_s: float | None, recipients_per_s: float | None) -> None:
        """The limits in force. messages_per_s, recipients_per_s: the operator's; None: as the settings say, inf: none."""
        self._adaptive = settings.adaptive
        self.schedule.follow(settings, messages_per_s)
        self._messages_per_s = self.schedule.messages_per_s
        self._recipients_per_s = _in_force(recipients_per_s, settings.recipients)
        self._throttle.cap(settings.hourly, settings.daily)
        self._set()

    def slow(self, *guards: Guard) -> None:
        """These guards say slow; each of them counts."""
        self._slow = guards
        self._set()

    def heard(self, transaction: Transaction) -> None:
        """The outcome of a transaction."""
        self._heard.add(transaction)
        if self._clock.monotonic_s() - self._pace.looked_at_s >= LOOK_EVERY_S:
            self.look()

    def look(self) -> None:
        """Adapt the rate to what was heard since the last look, and to the window of this moment."""
        before, self._messages_per_s = self._messages_per_s, self.schedule.messages_per_s
        if before != self._messages_per_s:
            self._set()
        before_per_s = self._pace.per_s
        counted, self._heard = self._heard, _Counted()
        self._pace = next_pace(self._pace, counted.heard(), self._clock.monotonic_s(), self._messages_per_s)
        self._borne_per_s = borne_per_s(self._pace, self._borne_per_s)
        if self._adaptive and self._pace.per_s != before_per_s:
            self._set()

    @property
    def pace(self) -> Pace:
        """What the MTA bears, as far as is known."""
        return self._pace

    @property
    def borne_per_s(self) -> float:
        """What this MTA was seen to bear in this run: its limit, or else the most it accepted; 0: not known."""
        return self._borne_per_s

    def begin_with(self, borne_per_s: float, *, is_limit: bool = False) -> None:
        """Before the first transaction: what this MTA bore last time, and whether it refused more."""
        self._borne_per_s = 0.0
        self._pace = first_pace(self._clock.monotonic_s(), self._messages_per_s, borne_per_s, is_limit=is_limit)
        self._set()

    @property
    def binding(self) -> str:
        """What holds the rate down now, in words."""
        if waits := self.waits:
            return waits
        limited = self._throttle.binding
        if not limited:
            return MTA_PACE
        if limited in CAPS:
            return self._caps_in_words(limited)
        if self._slow and (self._share() < 1.0 or self._guards_allow() <= self._without_guards()):
            return bound_by_guard(self._strictest_slow())
        if self._adaptive and limited == "messages" and self._pace.per_s < _or_infinite(self._messages_per_s):
            if self._pace.phase is Phase.START and not is_used(self._pace):
                return MTA_PACE
            return self._pace.reason or SLOW_START
        if limited == "messages" and self.schedule.has_windows and not self.schedule.is_overruled:
            return self._window_in_words()
        return LIMIT_ON + limited

    @property
    def waits(self) -> str:
        """Why nothing goes although nothing is wrong, and when it goes on: a window that sends nothing, or a cap. "" if it
        goes."""
        if self._recipients_per_s == 0:
            return ""
        if self.schedule.goes_on is not None:
            return self._window_in_words()
        return self._caps_in_words(self._throttle.waits_for) if self._throttle.waits_for in CAPS else ""

    def _window_in_words(self) -> str:
        window, change = self.schedule.window, self.schedule.goes_on or self.schedule.next_change
        until_s, now_s = change.at_s if change else None, self._clock.now_s()
        name = window.text if window else ""
        return window_words(name, self._messages_per_s, until_s, now_s, self.schedule.zone)

    def _caps_in_words(self, name: str) -> str:
        now_s = self._clock.now_s()
        return next(
            (cap_words(cap, now_s, self.schedule.zone) for cap in self._throttle.caps if cap.name == name),
            f"{name} cap",
        )

    def _set(self) -> None:
        share = self._share()
        messages = min(self._without_guards() * share, self._guards_allow())
        self._throttle.set(
            None if math.isinf(messages) else messages,
            None if self._recipients_per_s is None else self._recipients_per_s * share,
        )

    def _without_guards(self) -> float:
        messages = _or_infinite(self._messages_per_s)
        return min(messages, self._pace.per_s) if self._adaptive else messages

    def _share(self) -> float:
        return SLOW_SHARE if any(guard.at_most_per_s is None for guard in self._slow) else 1.0

    def _guards_allow(self) -> float:
        return min((_or_infinite(guard.at_most_per_s) for guard in self._slow), default=math.inf)

    def _strictest_slow(self) -> Guard:
        """The guard that leaves the least; of those that halve the rate, the first."""
        halved = self._without_guards() * SLOW_SHARE
        return min(self._slow, key=lambda guard: halved if guard.at_most_per_s is None else guard.at_most_per_s)


def _in_force(operator: float | None, settings: float | None) -> float | None:
    if operator is None:
        return settings
    return None if math.isinf(operator) else operator


def _or_infinite(per_s: float | None) -> float:
    return math.inf if per_s is None else per_s


class _Counted:
    """What was heard since the last look."""

    def __init__(self) -> None:
        self._transactions = self._deferred = self._lost = 0
        self._domains: dict[str, tuple[int, int]] = {}
        self._reply = ""

    def add(self, transaction: Transaction) -> None:
        self._transactions += 1
        if transaction.trouble:
            self._lost += 1
            self._reply = transaction.trouble
            return
        # A message that is refused for its content says nothing about how much the MTA can bear.
        if transaction.message_refused:
            return
        answered = deferred = 0
        for outcome in transaction.outcomes:
            bad = len(outcome.recipients) if outcome.state is State.DEFERRED else 0
            answered += len(outcome.recipients)
            deferred += bad
            self._reply = outcome.reply if bad else self._reply
            for domain, count in recipients_by_domain(outcome.recipients).items():
                known = self._domains.get(domain, (0, 0))
                self._domains[domain] = (known[0] + count, known[1] + (count if bad else 0))
        self._deferred += bool(deferred) and 2 * deferred >= answered

    def heard(self) -> Heard:
        return Heard(self._transactions, self._deferred, self._lost, self._domains, self._reply)
