"""A line in the journal when Mailman's outgoing runner starts to work beside us unasked, and when it is gone.

In    what the snapshot says of it, every few seconds
Out   lines in the journal, and so in the incident report
Not here  its words in the status (guards/mailman.py); whether we start beside it (guards/beside_runner.py)
"""

from __future__ import annotations

from drainer.clock import Clock
from drainer.guards.mailman import Mailman
from drainer.ledger.contract import Ledger
from drainer.ledger.records import JournalLine
from drainer.text.wording import count


class RunnerBeside:
    """`note` after each look."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock
        self._is_there = False
        self._taken_before = 0

    async def note(self, mailman: Mailman) -> None:
        """Write down a change. Raises LedgerNotDurable; the next call tries again."""
        if bool(mailman.intruder) is self._is_there:
            return
        if mailman.intruder:
            detail = mailman.intruder
        else:
            taken = mailman.taken_by_runner_entries - self._taken_before
            detail = f"Mailman's outgoing runner is gone; it was seen to take {count(taken, 'entry', 'entries')}"
        await self._ledger.write_journal(JournalLine(self._clock.now_s(), "drainer", "runner beside", detail))
        self._is_there, self._taken_before = bool(mailman.intruder), mailman.taken_by_runner_entries
