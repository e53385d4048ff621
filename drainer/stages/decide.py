"""decision: what is to become of each recipient of an entry, by the ledger as it is now.

In    an entry in our custody
Out   the Decision of duplicates/decision.py, made of what the ledger, the index and the settings say
Not here  the rules (duplicates/decision.py); what is done about it (turn.py, settle.py)

Called at the start of a turn and again after sending; by operators' actions and the handback as well.
"""

from __future__ import annotations

from dataclasses import replace

from drainer.duplicates.classes import DuplicateClass
from drainer.duplicates.decision import Decision, NextStep, decide, undecided_among
from drainer.duplicates.summary import EntrySummary
from drainer.ledger.records import Coverage, History, MessageRecord
from drainer.ledger.states import State
from drainer.queuedir.entry import QueueEntry
from drainer.stages.entry_facts import EntryFacts
from drainer.stages.hold_reasons import DUPLICATE, IN_DOUBT, RESEND, UNDECIDED
from drainer.stages.resources import Resources

SETTLED_BEFORE_S = 2.0
"""How long before its file was put here the recipients of a restored copy were settled, at least: the ledger keeps whole
seconds, and a .bak is renamed a moment after its recipients were settled. An entry that left later is remembered."""


class Decide:
    """One for every stage."""

    def __init__(self, resources: Resources, facts: EntryFacts) -> None:
        self._resources = resources
        self._facts = facts

    async def of_file(self, filebase: str) -> tuple[QueueEntry, MessageRecord, Decision]:
        """The decision for an entry that is read anew. Raises EntryError where it cannot be read."""
        entry = self._facts.read(filebase)
        summary = await self._facts.summarised(entry)
        record = self._facts.record(summary)
        return entry, record, await self.now(entry, record, DuplicateClass.NONE, summary.fingerprint.identity)

    async def now(
        self, entry: QueueEntry, record: MessageRecord, duplicate: DuplicateClass, digests: tuple[bytes, ...]
    ) -> Decision:
        """By the ledger as it is now. A resend that an operator released is a mail like any other.

        digests  those of its fingerprint, whatever identity the ledger has for the message
        """
        duplicates = self._resources.settings.duplicates
        is_known = entry.filebase in self._facts.resembling
        is_resend = (is_known or duplicate is DuplicateClass.RESEND) and entry.filebase not in self._facts.released
        resembled = await self._resembled(await self._facts.summarised(entry)) if is_resend else None
        # The original is finished, so the index no longer knows its recipients; ask the operator.
        forgotten = is_known and resembled == History() and duplicates.resend == "suppress"
        decision = decide(
            entry.filebase,
            entry.recipients,
            await self._history(entry.filebase, record, digests),
            "hold" if duplicates.exact == "hold" else "suppress",
            "hold" if forgotten else duplicates.resend,
            resembled,
            None if self._facts.released.get(entry.filebase) == UNDECIDED else await self._undecided(record),
        )
        if decision.next_step is NextStep.FINISH and self._is_restored(entry.filebase, decision):
            return replace(decision, next_step=NextStep.HOLD if duplicates.exact == "hold" else NextStep.SUPPRESS)
        return decision

    def _is_restored(self, filebase: str, decision: Decision) -> bool:
        """Whether the entry was finished once before, and its file came back: a backup brings it back under its own name.

        Then all its recipients were settled before the file was put here; an entry settles its own recipients later.
        Two other moves do not count: an operator releases an entry, and a .bak is renamed when its doubt is over.
        """
        facts = self._facts
        if not any(claim.state is State.DELIVERED for claim in decision.skip) or filebase in facts.released:
            return False
        if filebase in facts.claimed or any(claim.state is State.SKIPPED for claim in decision.skip):
            return False
        put_here_s = self._resources.custody.status(filebase).st_ctime
        last_s = max(claim.at_s for claim in decision.skip)
        return last_s < put_here_s - SETTLED_BEFORE_S or facts.finished_s(filebase, put_here_s) < put_here_s

    async def _undecided(self, record: MessageRecord) -> History | None:
        """What became of mails that may be this one. The ledger has all of it: waiting entries have done nothing yet, and no
        entry with the same names is in delivery now (backlog/order.py)."""
        return undecided_among(await self._resources.ledger.akin(record.identity), record.identity)

    async def _history(self, filebase: str, record: MessageRecord, digests: tuple[bytes, ...]) -> History:
        """Of the message, and of this entry itself: without that it would be sent again after a change of settings."""
        ledger, facts = self._resources.ledger, self._facts
        of_message = await ledger.history(facts.known_as(record))
        otherwise = await ledger.history(facts.other_identities(filebase, record, digests))
        own = [part for part in otherwise.coverage if part.filebase == filebase and part not in of_message.coverage]
        return History((*of_message.coverage, *own)) if own else of_message

    async def _resembled(self, summary: EntrySummary) -> History:
        """What became of the mails that have the same text as this one."""
        key, window_s = summary.fingerprint.resend, self._resources.settings.duplicates.window
        coverage: list[Coverage] = []
        for earlier in self._resources.index.related.with_resend_key(key) if key else ():
            if 0 <= summary.when_s - earlier.when_s <= window_s and earlier.filebase != summary.filebase:
                coverage += (await self._resources.ledger.history(earlier.identity)).coverage
        return History(tuple(coverage))


def why_held_back(filebase: str, decision: Decision) -> tuple[str, str]:
    """Reason and detail of a hold that the decision asks for. Recipients in doubt come first: once an operator releases the
    entry from that, it is decided again."""
    if not decision.hold:
        return DUPLICATE, f"{len(decision.skip)} recipients"
    if doubtful := [claim for claim in decision.hold if claim.filebase and not claim.is_undecided]:
        others = sorted({claim.filebase for claim in doubtful} - {filebase})
        return IN_DOUBT, f"{len(doubtful)} recipients" + (f", by {others[0]}" if others else "")
    if undecided := [claim for claim in decision.hold if claim.is_undecided]:
        return UNDECIDED, (
            f"{len(undecided)} recipients had {undecided[0].filebase}, which may be the same mail with another header and"
            " footer; drop this one if it is, release it if it is another mail"
        )
    return RESEND, f"{len(decision.hold)} recipients"
