"""The MTA's own listing of its queue, summed up by recipient domain.

In    the lines of `postqueue -j` or of `exim -bp`, one at a time
Out   QueueByDomain
Raises  MtaError for a line that is none of the MTA's: half a listing would be a queue that looks short
Pure  no command is run

A listing of 100,000 messages is never in memory: what is kept grows with the number of domains, and that has a bound.
Mail that waits for an operator is left out, because the MTA does not deliver it: Postfix' hold queue, Exim's frozen ones.
Source  postqueue(1), "JSON OBJECT FORMAT"; Exim's src/queue.c, queue_list
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from drainer.destinations.quoted import LONGEST, said
from drainer.errors import MtaError
from drainer.queuedir.domains import domain_of

QUEUES = frozenset({"maildrop", "incoming", "active", "deferred"})
"""Postfix' queues that it delivers from by itself."""

MOST_DOMAINS = 20_000
"""Domains that are counted one by one. Recipients of further ones are counted together."""

MOST_REASONS = 20
"""Reasons that are counted one by one for a domain; more of them are counted under ""."""

ALIKE = 120
"""Characters by which two reasons count as one: what differs further on is a queue id or a time."""

_SHOWN = 80
_UNIT_S = {"m": 60, "h": 3600, "d": 86_400}
_EXIM_ID = r"[0-9A-Za-z]{6}-(?:[0-9A-Za-z]{6}-[0-9A-Za-z]{2}|[0-9A-Za-z]{11}-[0-9A-Za-z]{4}|[0-9A-Za-z]{6}-)"
_EXIM_MESSAGE = re.compile(
    rf" *(?:(?P<age>[0-9]+)(?P<unit>[mhd]) +)?(?P<size>[0-9.]+[KMG]?)? +(?P<id>{_EXIM_ID})"
    r"(?: <(?P<sender>.*)>)?(?: \([^)]*\))?(?P<frozen> \*\*\* frozen \*\*\*)?\Z"
)
_EXIM_ERROR = re.compile(r" {4}\*\*\* spool (?:format|read) error.* \*\*\*(?P<frozen> \*\*\* frozen \*\*\*)?\Z")
_EXIM_RECIPIENT = re.compile(r" {7}(?P<state>[ +][ D]) (?P<address>.*)\Z")


@dataclass(frozen=True, slots=True)
class Reason:
    """text: a deferral's reason as the MTA quotes it; "" for all reasons that were not kept."""

    text: str
    recipients: int


@dataclass(frozen=True, slots=True)
class DomainQueued:
    """Recipients of one domain in the MTA's queue.

    queued    all of them; waiting: those deferred already (Exim's listing does not say: 0)
    oldest_s  when the oldest of them arrived, seconds since the epoch; None: not known
    reasons   why, the most frequent first
    """

    queued: int = 0
    waiting: int = 0
    oldest_s: float | None = None
    reasons: tuple[Reason, ...] = ()


@dataclass(frozen=True, slots=True)
class QueueByDomain:
    """messages: in the whole queue; others: recipients of domains beyond MOST_DOMAINS."""

    messages: int = 0
    domains: Mapping[str, DomainQueued] = field(default_factory=dict)
    others: int = 0


@dataclass(slots=True)
class _Counted:
    queued: int = 0
    waiting: int = 0
    oldest_s: float = math.inf
    reasons: dict[str, list[Any]] = field(default_factory=dict)

    def waits(self, reason: str) -> None:
        self.waiting += 1
        alike = said(reason)[:ALIKE]
        counted = self.reasons.get(alike)
        if counted is None:
            if len(self.reasons) >= MOST_REASONS:
                alike, reason = "", ""
            counted = self.reasons.setdefault(alike, [reason[:LONGEST], 0])
        counted[1] += 1

    def value(self) -> DomainQueued:
        reasons = sorted(
            (Reason(text, count) for text, count in self.reasons.values()), key=lambda one: -one.recipients
        )
        oldest_s = None if math.isinf(self.oldest_s) else self.oldest_s
        return DomainQueued(self.queued, self.waiting, oldest_s, tuple(reasons))


class _Sums:
    def __init__(self) -> None:
        self.messages = 0
        self._domains: dict[str, _Counted] = {}
        self._others = 0

    def add(self, address: str, arrived_s: float | None, reason: str | None) -> None:
        """reason: None: not deferred yet."""
        domain = domain_of(address)
        counted = self._domains.get(domain)
        if counted is None:
            if len(self._domains) >= MOST_DOMAINS:
                self._others += 1
                return
            counted = self._domains[domain] = _Counted()
        counted.queued += 1
        if arrived_s is not None and arrived_s < counted.oldest_s:
            counted.oldest_s = arrived_s
        if reason is not None:
            counted.waits(reason)

    def value(self) -> QueueByDomain:
        domains = {domain: counted.value() for domain, counted in self._domains.items()}
        return QueueByDomain(self.messages, domains, self._others)


class Listing(Protocol):
    """Fed the lines of a listing, without their ends, and asked for the sums at its end."""

    def feed(self, line: str) -> None: ...

    def value(self) -> QueueByDomain: ...


class PostfixListing:
    """`postqueue -j`: a JSON object a line."""

    def __init__(self) -> None:
        self._sums = _Sums()

    def feed(self, line: str) -> None:
        """Raises MtaError."""
        if not line or line.isspace():
            return
        try:
            message = json.loads(line)
            queue, arrived = message["queue_name"], message.get("arrival_time")
            recipients = [(one["address"], one.get("delay_reason")) for one in message["recipients"]]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
            raise _not_understood("postqueue -j", line) from exc
        if not isinstance(queue, str) or not all(
            isinstance(address, str) and isinstance(reason, str | None) for address, reason in recipients
        ):
            raise _not_understood("postqueue -j", line)
        if queue not in QUEUES:
            return
        self._sums.messages += 1
        arrived_s = _moment_s(arrived)
        for address, reason in recipients:
            self._sums.add(address, arrived_s, reason)

    def value(self) -> QueueByDomain:
        return self._sums.value()


class EximListing:
    """`exim -bp`: a line for a message, a line for each recipient, an empty line.

    now_s  when the listing was made, seconds since the epoch: Exim names ages, in minutes, hours or days
    """

    def __init__(self, now_s: float) -> None:
        self._sums = _Sums()
        self._now_s = now_s
        self._arrived_s: float | None = None
        self._in_message = self._counts = False

    def feed(self, line: str) -> None:
        """Raises MtaError."""
        if not line or line.isspace():
            self._in_message = False
        elif self._in_message and (recipient := _EXIM_RECIPIENT.match(line)):
            if self._counts and recipient["state"] == "  ":
                self._sums.add(recipient["address"], self._arrived_s, None)
        elif self._in_message and (error := _EXIM_ERROR.match(line)):
            if error["frozen"]:
                self._leave_out()
        elif message := _EXIM_MESSAGE.match(line):
            self._begin(message)
        else:
            raise _not_understood("exim -bp", line)

    def _begin(self, message: re.Match[str]) -> None:
        self._in_message = self._counts = True
        self._sums.messages += 1
        self._arrived_s = None
        if message["age"] and len(message["age"]) < 9:
            self._arrived_s = self._now_s - int(message["age"]) * _UNIT_S[message["unit"]]
        if message["frozen"]:
            self._leave_out()

    def _leave_out(self) -> None:
        if self._counts:
            self._counts = False
            self._sums.messages -= 1

    def value(self) -> QueueByDomain:
        return self._sums.value()


def listing_of(kind: Literal["postfix", "exim"], now_s: float) -> Listing:
    """The reader of that MTA's listing, made at `now_s`."""
    return PostfixListing() if kind == "postfix" else EximListing(now_s)


def _moment_s(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # A number that no clock shows would be the oldest or the newest for ever.
    return float(value) if 0 < value < 1e11 else None


def _not_understood(command: str, line: str) -> MtaError:
    return MtaError(f"{command} said {line[:_SHOWN]!r}, which is no line of its listing")
