"""When an MTA refuses for reasons of its own: the fault is its own, not that of a hundred recipients.

In    the outcomes of one transaction after the other
Out   how many refusals came in a row, of all or of most domains; whether they are too many to go on
Pure  values only

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
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from drainer.feed.outcome import is_relay_refusal
from drainer.ledger.records import Outcome
from drainer.ledger.states import State
from drainer.queuedir.domains import domain_of

MOST_RECIPIENTS = 100
FEWEST_TRANSACTIONS = 20
FEWEST_ENTRIES = 5
FEWEST_DOMAINS = 10
REFUSED_PER_ACCEPTED = 4
"""Domains refused altogether for each that takes mail. If there are more, dead domains no longer explain them."""

_LAST_TRANSACTIONS = 200
_DOMAINS_OF_A_TRANSACTION = 20

_ACCEPTED = frozenset({State.DELIVERED, State.IN_DOUBT})


@dataclass(frozen=True, slots=True)
class Heard:
    """One transaction in which recipients were accepted or refused, by domain.

    accepted  domains with a recipient accepted; refused: the others, with how many recipients
    """

    filebase: str
    at_s: float
    accepted: frozenset[str]
    refused: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Refusals:
    """Refused in a row, since a recipient was last accepted; and what the last transactions showed of domains.

    entries   some of the entries they belong to, FEWEST_ENTRIES at most
    since_s   when the row began; infinite while there is none
    reply     the MTA's last words
    holds     they refuse messages, whose entries are held for it
    heard     the last transactions, newest last
    """

    recipients: int = 0
    transactions: int = 0
    entries: frozenset[str] = frozenset()
    since_s: float = math.inf
    reply: str = ""
    holds: bool = False
    heard: tuple[Heard, ...] = ()

    @property
    def are_too_many(self) -> bool:
        """Going on would fail the whole backlog, or all of it but one domain."""
        row = (self.recipients, self.transactions, len(self.entries))
        return _is_much(*row) or (self.of_most_domains and _is_much(*self._domains.row))

    @property
    def of_most_domains(self) -> bool:
        """Nearly all domains are refused; the acceptance of a few says nothing about the others."""
        domains = self._domains
        return domains.refused >= FEWEST_DOMAINS and domains.refused >= REFUSED_PER_ACCEPTED * domains.accepted

    @property
    def are_doubtful(self) -> bool:
        """Recipients that failed lately may have failed because of the MTA."""
        return self.recipients > 0 or self.of_most_domains

    @property
    def doubtful_since_s(self) -> float:
        """Since when; infinite while nothing is doubtful."""
        return min(self.since_s, self._domains.since_s if self.of_most_domains else math.inf)

    def text(self) -> str:
        """For the operator: what happened, what to check, how to go on."""
        if self.recipients >= MOST_RECIPIENTS:
            what = f"the MTA refused the last {self.recipients} recipients, every one of them"
        else:
            refused, taking = self._domains.refused, self._domains.accepted
            what = f"the MTA refuses every recipient of {refused} domains, and takes mail for {taking} only"
        if self.holds:
            return (
                f"{what}: {self.reply}; check its content filters; `drainer resume` goes on, and `drainer release` tries "
                "those entries again that are held as content_refused"
            )
        return (
            f"{what}: {self.reply}; check that it lets this host relay, and its maps; `drainer resume` goes on, and tries "
            "those again that failed for it"
        )

    @property
    def _domains(self) -> _Domains:
        refused_since: dict[str, int] = {}
        taking: set[str] = set()
        ever_taking: set[str] = set()
        rows: list[Heard] = []
        for heard in reversed(self.heard):
            refused = [(domain, count) for domain, count in heard.refused if domain not in ever_taking]
            for domain, count in refused:
                refused_since[domain] = refused_since.get(domain, 0) + count
            taking |= heard.accepted - refused_since.keys()
            ever_taking |= heard.accepted
            if refused:
                rows.append(heard)
        return _Domains(
            len(refused_since),
            len(taking),
            (sum(refused_since.values()), len(rows), len({heard.filebase for heard in rows})),
            min((heard.at_s for heard in rows), default=math.inf),
        )


@dataclass(frozen=True, slots=True)
class _Domains:
    """Domains by the last reply of the MTA for each.

    row      recipients refused since their domain was last accepted, transactions and entries they were refused in
    since_s  when the first of them was
    """

    refused: int
    accepted: int
    row: tuple[int, int, int]
    since_s: float


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


def after_transaction(
    before: Refusals, filebase: str, outcomes: Sequence[Outcome], message_refused: str = ""
) -> Refusals:
    """The row, and what is known of domains, after a transaction of this entry.

    message_refused  the MTA's words where it refused the message itself and its recipients were deferred for that
    """
    accepted = [outcome for outcome in outcomes if outcome.state in _ACCEPTED]
    refused = [
        outcome for outcome in outcomes if is_refused(outcome) or (message_refused and outcome.state is State.DEFERRED)
    ]
    if not accepted and not refused:
        return before
    heard = (*before.heard, _heard(filebase, accepted, refused))[-_LAST_TRANSACTIONS:]
    reply = refused[-1].reply if refused else before.reply
    holds = bool(message_refused) if refused else before.holds
    if accepted:
        return Refusals(heard=heard, reply=reply, holds=holds)
    entries = before.entries if len(before.entries) >= FEWEST_ENTRIES else before.entries | {filebase}
    return Refusals(
        before.recipients + sum(len(outcome.recipients) for outcome in refused),
        before.transactions + 1,
        entries,
        min(before.since_s, refused[0].at_s),
        reply,
        holds,
        heard,
    )


def is_refused(outcome: Outcome) -> bool:
    """Refused for good, or because the MTA does not relay for us."""
    return outcome.state is State.FAILED or (outcome.state is State.DEFERRED and is_relay_refusal(outcome.reply))


def _heard(filebase: str, accepted: Sequence[Outcome], refused: Sequence[Outcome]) -> Heard:
    takes = frozenset(domain_of(address) for outcome in accepted for address in outcome.recipients)
    counted = Counter(domain_of(address) for outcome in refused for address in outcome.recipients)
    others = ((domain, count) for domain, count in counted.items() if domain not in takes)
    return Heard(
        filebase,
        (accepted or refused)[0].at_s,
        frozenset(islice(takes, _DOMAINS_OF_A_TRANSACTION)),
        tuple(islice(others, _DOMAINS_OF_A_TRANSACTION)),
    )
