"""What became of the recipients of one transaction.

Pure  values only
"""

from __future__ import annotations

from dataclasses import dataclass

from drainer.ledger.records import AttemptId, Outcome
from drainer.ledger.states import State


@dataclass(frozen=True, slots=True)
class Transaction:
    """What became of the recipients of one ComposedMessage; addresses as the entry has them (owed_for).

    outcomes    in the ledger: DELIVERED, DEFERRED, FAILED, IN_DOUBT; recipients grouped by state and reply
    untouched   owed as before and no attempt counted: the MTA's state kept them from being tried. Those whose attempt was
                open already stand in the ledger as DEFERRED, which is no more than that
    trouble     the MTA's trouble in words ("" if none), for the adaptive rate and the log
    attempt_id  None: the content was not begun
    over_limit  owed as before: the MTA takes no more recipients in one transaction
    not_offered  owed as before: they lie beyond a limit that the MTA announces
    accepted    recipients the content was sent to
    session_limit  the session had carried as much as the MTA takes in one: `untouched` go at once in another one
    message_refused  the MTA's reply if it refuses the message itself for good and `holds_refused` was asked for; else ""
    """

    outcomes: tuple[Outcome, ...]
    untouched: tuple[str, ...] = ()
    trouble: str = ""
    attempt_id: AttemptId | None = None
    over_limit: tuple[str, ...] = ()
    accepted: int = 0
    message_refused: str = ""
    session_limit: bool = False
    not_offered: tuple[str, ...] = ()

    def has(self, *states: State) -> bool:
        """Whether a recipient ended in one of these states."""
        return any(outcome.state in states for outcome in self.outcomes)

    def recipients(self, state: State) -> tuple[str, ...]:
        """Recipients that ended in a state."""
        return tuple(
            recipient for outcome in self.outcomes if outcome.state is state for recipient in outcome.recipients
        )
