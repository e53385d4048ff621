"""When an MTA refuses for reasons of its own: the fault is its own, not that of a hundred recipients.

In    the outcomes of one transaction after the other
Out   how many refusals came in a row, of all or of most domains; whether they are too many to go on
Pure  counts only; each transaction costs as much as it has domains, however many are remembered

A relay that no longer accepts this host, or a broken map, answers 5xx to every recipient. Each answer is final for its
recipient, so a backlog of 10,000 entries would fail in minutes. Two rules find that out. First, a row of refusals, which
ends as soon as one recipient is accepted. Second, most of the domains refused altogether, since a relay may go on taking
mail for its own domain while it refuses all others. An old list has many dead domains, but among many that live. Other 4xx
neither end nor lengthen a row. The refusals have to come from several entries and transactions, since one list may well
have a hundred members whose domain is gone.

A refusal to relay (outcome.py) defers and fails no recipient; a refusal of the message under Mailman 2.1 holds the entry.
Both count here, so that recipients are not tried for days in vain, and a broken filter does not have the whole backlog held.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from drainer.compiled import python_class
from drainer.feed.outcome import is_relay_refusal
from drainer.ledger.records import Outcome
from drainer.ledger.states import State
from drainer.queuedir.domains import recipients_by_domain

MOST_RECIPIENTS = 100
FEWEST_TRANSACTIONS = 20
FEWEST_ENTRIES = 5
FEWEST_DOMAINS = 10
REFUSED_PER_ACCEPTED = 4
"""Domains refused altogether for each that takes mail. If there are more, dead domains no longer explain them."""

LAST_TRANSACTIONS = 200
DOMAINS_OF_A_TRANSACTION = 20
"""So many domains accepted count of a transaction, and so many refused: the first ones."""

_ACCEPTED = frozenset({State.DELIVERED, State.IN_DOUBT})


class Refusals:
    """Refused in a row, since a recipient was last accepted; and what the last transactions showed of domains.

    recipients, transactions  in the row
    since_s  when the row began; infinite while there is none
    """

    def __init__(self) -> None:
        self.recipients = 0
        self.transactions = 0
        self.since_s = math.inf
        self._entries: set[str] = set()
        self._reply = ""
        self._holds = False
        self._domains = _LastWords()

    def heard(self, filebase: str, outcomes: Sequence[Outcome], message_refused: str = "") -> None:
        """A transaction of this entry has ended.

        message_refused  the MTA's words where it refused the message itself and its recipients were deferred for that
        """
        accepted = [outcome for outcome in outcomes if outcome.state in _ACCEPTED]
        refused = [
            outcome
            for outcome in outcomes
            if is_refused(outcome) or (message_refused and outcome.state is State.DEFERRED)
        ]
        if not accepted and not refused:
            return
        self._domains.heard(_heard(filebase, accepted, refused))
        if refused:
            # The MTA's last words, and whether they refuse messages, whose entries are held for it.
            self._reply, self._holds = refused[-1].reply, bool(message_refused)
        if accepted:
            self.recipients = self.transactions = 0
            self.since_s = math.inf
            self._entries.clear()
        else:
            self.recipients += sum(len(outcome.recipients) for outcome in refused)
            self.transactions += 1
            self.since_s = min(self.since_s, refused[0].at_s)
            if len(self._entries) < FEWEST_ENTRIES:
                self._entries.add(filebase)

    @property
    def are_too_many(self) -> bool:
        """Going on would fail the whole backlog, or all of it but one domain."""
        if _is_much(self.recipients, self.transactions, len(self._entries)):
            return True
        if not self.of_most_domains or self._domains.recipients < MOST_RECIPIENTS:
            return False
        rows = self._domains.rows
        return _is_much(self._domains.recipients, len(rows), len({heard.filebase for heard in rows}))

    @property
    def of_most_domains(self) -> bool:
        """Nearly all domains are refused; the acceptance of a few says nothing about the others."""
        refused = len(self._domains.refused)
        return refused >= FEWEST_DOMAINS and refused >= REFUSED_PER_ACCEPTED * len(self._domains.accepted)

    @property
    def are_doubtful(self) -> bool:
        """Recipients that failed lately may have failed because of the MTA."""
        return self.recipients > 0 or self.of_most_domains

    @property
    def doubtful_since_s(self) -> float:
        """Since when; infinite while nothing is doubtful."""
        rows = self._domains.rows if self.of_most_domains else ()
        return min((self.since_s, *(heard.at_s for heard in rows)))

    def text(self) -> str:
        """For the operator: what happened, what to check, how to go on."""
        if self.recipients >= MOST_RECIPIENTS:
            what = f"the MTA refused the last {self.recipients} recipients, every one of them"
        else:
            refused, taking = len(self._domains.refused), len(self._domains.accepted)
            what = f"the MTA refuses every recipient of {refused} domains, and takes mail for {taking} only"
        if self._holds:
            return (
                f"{what}: {self._reply}; check its content filters; `drainer resume` goes on, and `drainer release` tries "
                "those entries again that are held as content_refused"
            )
        return (
            f"{what}: {self._reply}; check that it lets this host relay, and its maps; `drainer resume` goes on, and tries "
            "those again that failed for it"
        )


@python_class
@dataclass(slots=True, eq=False)
class _Heard:
    """One transaction in which recipients were accepted or refused, by domain.

    accepted  domains with a recipient accepted
    refused   of the others, those of which no recipient was accepted since, with how many recipients
    """

    filebase: str
    at_s: float
    accepted: tuple[str, ...]
    refused: dict[str, int]


class _LastWords:
    """Domains by the last reply of the MTA for each, in the last transactions.

    accepted    each with the last transaction that took mail for it
    refused     each with the transactions that refused it since, oldest first
    recipients  refused since their domain was last accepted
    """

    def __init__(self) -> None:
        self._last: deque[_Heard] = deque()
        self.accepted: dict[str, _Heard] = {}
        self.refused: dict[str, deque[_Heard]] = {}
        self.recipients = 0

    @property
    def rows(self) -> Sequence[_Heard]:
        """The transactions that `recipients` were refused in."""
        return [heard for heard in self._last if heard.refused]

    def heard(self, heard: _Heard) -> None:
        if len(self._last) == LAST_TRANSACTIONS:
            self._forget(self._last.popleft())
        self._last.append(heard)
        for domain in heard.accepted:
            self.accepted[domain] = heard
            for earlier in self.refused.pop(domain, ()):
                self.recipients -= earlier.refused.pop(domain)
        for domain, recipients in heard.refused.items():
            self.accepted.pop(domain, None)
            self.refused.setdefault(domain, deque()).append(heard)
            self.recipients += recipients

    def _forget(self, oldest: _Heard) -> None:
        for domain in oldest.accepted:
            if self.accepted.get(domain) is oldest:
                del self.accepted[domain]
        for domain, recipients in oldest.refused.items():
            self.refused[domain].popleft()
            if not self.refused[domain]:
                del self.refused[domain]
            self.recipients -= recipients


def _is_much(recipients: int, transactions: int, entries: int) -> bool:
    return recipients >= MOST_RECIPIENTS and transactions >= FEWEST_TRANSACTIONS and entries >= FEWEST_ENTRIES


def is_believed(
    failed_at_s: float,
    accepted_at_s: float | None,
    quiet_s: float,
    wait_s: float,
    nothing_waits: bool,
    of_most_domains: bool = False,
) -> bool:
    """Whether a recipient that failed is to be blamed for it, so that a DSN may go out: a wrong relay setting must not
    bounce members out of their lists.

    failed_at_s, accepted_at_s  when it failed, and when the MTA last accepted anybody (None: not in this run), seconds
    quiet_s   since anybody failed; wait_s: how long that has to last where nothing else proves it (feed.dsn_wait)
    nothing_waits  no entry is left that could prove it
    of_most_domains  most domains are refused altogether: that somebody is accepted proves nothing then
    """
    if not of_most_domains and accepted_at_s is not None and (accepted_at_s > failed_at_s or nothing_waits):
        return True
    return quiet_s >= wait_s


def is_refused(outcome: Outcome) -> bool:
    """Refused for good, or because the MTA does not relay for us."""
    return outcome.state is State.FAILED or (outcome.state is State.DEFERRED and is_relay_refusal(outcome.reply))


def _heard(filebase: str, accepted: Sequence[Outcome], refused: Sequence[Outcome]) -> _Heard:
    takes = _by_domain(accepted)
    others = ((domain, count) for domain, count in _by_domain(refused).items() if domain not in takes)
    return _Heard(
        filebase,
        (accepted or refused)[0].at_s,
        tuple(islice(takes, DOMAINS_OF_A_TRANSACTION)),
        dict(islice(others, DOMAINS_OF_A_TRANSACTION)),
    )


def _by_domain(outcomes: Sequence[Outcome]) -> Mapping[str, int]:
    if len(outcomes) == 1:
        return recipients_by_domain(outcomes[0].recipients)
    found: Counter[str] = Counter()
    for outcome in outcomes:
        found.update(recipients_by_domain(outcome.recipients))
    return found
