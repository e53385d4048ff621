"""Is the MTA dead? By the sessions that were lost in a row, and dearly by those that leave a mail in doubt.

In    sessions lost, with the moment at which each was handed out; transactions that went through
Out   Losses: whether the MTA counts as dead; whether it is fed through one session at a time for now
Pure  no clock, no session

One lost session is not a dead MTA. As in Postfix's scheduler it takes a cohort: as many losses as sessions stand, from two
to DEAD_AFTER, and no success between them.

A loss after the final dot is dearer: the MTA may own that mail, so it may become a second copy, or waits for a person. From
the first one on, one session at a time carries mail until a final dot is answered again; the second one is a dead MTA.
Sessions that were at work together when the first was lost count as one: they could not know of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

DEAD_AFTER = 5
DEAD_AFTER_LEAST = 2
"""Sessions lost in a row, without a transaction that went through: the MTA is dead. Fewer if fewer stand."""
DOUBTS_AT_MOST = 2
"""Losses after the final dot in a row, without one that was answered: the MTA is dead."""


@dataclass(frozen=True, slots=True)
class Losses:
    """Sessions lost since the MTA last did what it should.

    in_a_row  without a transaction that went through
    doubts    after the final dot, without one that was answered; those lost together count once
    doubt_s   when the last of them was counted, in the seconds of `begun_s`
    """

    in_a_row: int = 0
    doubts: int = 0
    doubt_s: float = -math.inf

    def lost(self, begun_s: float, now_s: float, *, in_doubt: bool) -> Losses:
        """One more session, handed out at `begun_s`. in_doubt: it was lost after the final dot."""
        after = replace(self, in_a_row=self.in_a_row + 1)
        if not in_doubt or begun_s < self.doubt_s:
            return after
        return replace(after, doubts=self.doubts + 1, doubt_s=now_s)

    def went_through(self, *, is_answered: bool) -> Losses:
        """A transaction came to an end in order. is_answered: the MTA replied to its final dot."""
        return Losses() if is_answered else replace(self, in_a_row=0)

    @property
    def one_at_a_time(self) -> bool:
        """Whether a further mail might get lost too: no session carries one while another does."""
        return self.doubts > 0

    def are_of_dead_mta(self, standing: int) -> bool:
        """standing: sessions open, the lost one among them."""
        return self.doubts >= DOUBTS_AT_MOST or self.in_a_row >= min(DEAD_AFTER, max(DEAD_AFTER_LEAST, standing))
