"""The last outcome that an entry needs, and the end of the entry, in one commit of the ledger.

In    the decision of a turn; outcomes of its transactions, about to be written, and then durable
Out   what to write together with an outcome after which nothing is open; the decision to finish the entry
Not here  what is written of an entry that ends, and what becomes of its file (settle.py)

It saves an entry one commit and the wait for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from drainer.duplicates.decision import Claim, Decision, NextStep
from drainer.ledger.evidence import Finish
from drainer.ledger.records import Outcome, RecipientKey, recipient_key
from drainer.ledger.states import SETTLED
from drainer.stages.ending import Finished


class LastOutcome:
    """Of one turn.

    finished  what the ledger has of the entry's end, and the decision behind it; None: it does not have it
    """

    def __init__(self, before: Decision, filebase: str, end_of: Callable[[Decision], Finished]) -> None:
        """before  the decision that the transactions carry out"""
        self._before = before
        self._filebase = filebase
        self._end_of = end_of
        self._is_all_its_own = all(claim.filebase == filebase for claim in before.skip)
        self._left = {recipient_key(address) for address in before.deliver}
        self._claims: dict[RecipientKey, Claim] = {}
        self._asked_for: tuple[Decision, Finished] | None = None
        self.finished: tuple[Decision, Finished] | None = None

    def finish_with(self, outcomes: Sequence[Outcome]) -> Finish | None:
        """The end of the entry, to be written together with these outcomes; None: something is open after them.

        Those of other transactions count once they are durable, so it is never written before they are.
        """
        settled = sum(len(outcome.recipients) for outcome in outcomes if outcome.state in SETTLED)
        if settled < len(self._left) or (decision := self._finishing(self._claims_of(outcomes))) is None:
            return None
        end = self._end_of(decision)
        self._asked_for = decision, end
        return Finish(self._filebase, end.counts, end.ended, end.evidence)

    def durable(self, outcomes: Sequence[Outcome]) -> None:
        """The ledger has these, and what was to be written with them."""
        self.finished = self._asked_for
        if self.finished is None:  # else they are in it
            claims = self._claims_of(outcomes)
            self._claims |= claims
            self._left.difference_update(claims)

    @property
    def settled(self) -> Decision | None:
        """The decision that a second look at the ledger would come to, if nothing is open; None: look.

        Enough to finish on: what was to be skipped was so by a final state of the entry's own, and outcomes count once they
        are durable in the ledger (feed/deliver.py, INVARIANT outcome-before-anything). A delivery by others may be forgotten
        while the entry waits for the rate: an operator takes an import of a log back.
        """
        return self.finished[0] if self.finished is not None else self._finishing({})

    def _finishing(self, more: dict[RecipientKey, Claim]) -> Decision | None:
        before = self._before
        if before.wait or before.hold or not self._is_all_its_own or not more.keys() >= self._left:
            return None
        return Decision(NextStep.FINISH, skip=(*before.skip, *self._claims.values(), *more.values()))

    def _claims_of(self, outcomes: Sequence[Outcome]) -> dict[RecipientKey, Claim]:
        return {
            recipient_key(address): Claim(address, self._filebase, outcome.state, outcome.at_s)
            for outcome in outcomes
            if outcome.state in SETTLED
            for address in outcome.recipients
        }
