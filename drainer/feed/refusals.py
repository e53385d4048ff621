"""When an MTA refuses everybody: that is its state, not that of a hundred recipients.

In    the outcomes of one transaction after the other
Out   how long nothing but 5xx was heard; whether that is too long to go on
Pure  values only

A relay that has forgotten us ("554 relay access denied"), or a broken map, answers 5xx to every recipient. Each answer is
final for its recipient, so a backlog of 10,000 entries would be failed in minutes. One recipient accepted ends the streak;
4xx neither ends nor lengthens it. Several entries and transactions are asked for, since one list may well have a hundred
members whose domain is gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from drainer.ledger.records import Outcome
from drainer.ledger.states import State

MOST_RECIPIENTS = 100
FEWEST_TRANSACTIONS = 20
FEWEST_ENTRIES = 5

_ACCEPTED = frozenset({State.DELIVERED, State.IN_DOUBT})


@dataclass(frozen=True, slots=True)
class Refusals:
    """Refused in a row, since a recipient was last accepted.

    entries  some of the entries they belong to, FEWEST_ENTRIES at most
    reply    the MTA's last words
    """

    recipients: int = 0
    transactions: int = 0
    entries: frozenset[str] = frozenset()
    reply: str = ""

    @property
    def are_too_many(self) -> bool:
        """Going on would fail the whole backlog."""
        return (
            self.recipients >= MOST_RECIPIENTS
            and self.transactions >= FEWEST_TRANSACTIONS
            and len(self.entries) >= FEWEST_ENTRIES
        )

    def text(self) -> str:
        """For the operator: what happened, what to check, how to go on."""
        return (
            f"the MTA refused the last {self.recipients} recipients, every one of them: {self.reply}; check that it lets "
            "this host relay, and its maps; `drainer resume` goes on"
        )


def is_believed(
    failed_at_s: float, accepted_at_s: float | None, quiet_s: float, wait_s: float, nothing_waits: bool
) -> bool:
    """Whether a recipient that failed is to be blamed for it, so that a DSN may go out: a wrong relay setting must not
    bounce members out of their lists.

    failed_at_s, accepted_at_s  when it failed, and when the MTA last accepted anybody (None: not in this run), seconds
    quiet_s   since anybody failed; wait_s: how long that has to last where nothing else proves it (feed.dsn_wait)
    nothing_waits  no entry is left that could prove it
    """
    if accepted_at_s is not None and (accepted_at_s > failed_at_s or nothing_waits):
        return True
    return quiet_s >= wait_s


def after_transaction(before: Refusals, filebase: str, outcomes: Sequence[Outcome]) -> Refusals:
    """The streak after a transaction of this entry."""
    if any(outcome.state in _ACCEPTED for outcome in outcomes):
        return Refusals()
    refused = [outcome for outcome in outcomes if outcome.state is State.FAILED]
    if not refused:
        return before
    entries = before.entries if len(before.entries) >= FEWEST_ENTRIES else before.entries | {filebase}
    return Refusals(
        before.recipients + sum(len(outcome.recipients) for outcome in refused),
        before.transactions + 1,
        entries,
        refused[-1].reply,
    )
