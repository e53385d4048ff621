"""fingerprint > forecast: which entries here are one mail although one of them is decorated, and which may be.

In    the summary of an entry; the index; the files of those that have the same name
Out   the summary with the digests of what is proved to be the same mail; entries of which it is not proved
Not here  what two texts show (duplicates/carried.py); what an entry is forecast to be (survey.py)
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from drainer.backlog.values import RelatedEntry
from drainer.duplicates.canonical import canonical_leaves
from drainer.duplicates.carried import Parts, is_one_mail, parts_of
from drainer.duplicates.classes import DuplicateClass
from drainer.duplicates.summary import EntrySummary, with_digests_of
from drainer.errors import EntryError
from drainer.queuedir.read import read_entry
from drainer.stages.entry_facts import EntryFacts
from drainer.stages.intake import batched
from drainer.stages.resources import Resources
from drainer.text.logfmt import logfmt

log = logging.getLogger("drainer")

PARTS_READ_AT_A_TIME = 50


class SameMail:
    """file: where an entry is now; it raises EntryVanished."""

    def __init__(self, resources: Resources, facts: EntryFacts, file: Callable[[str], str]) -> None:
        self._resources = resources
        self._facts = facts
        self._file = file

    async def proved(self, summary: EntrySummary) -> EntrySummary:
        """With the digests of every entry here that is the same mail although decorated, by the content of both."""
        if self._resources.settings.duplicates.exact == "deliver":
            return summary
        for other in await self._may_be_one(summary):
            if await asyncio.to_thread(self._is_one_mail, summary, other):
                log.info(logfmt(event="same_mail", filebase=summary.filebase, of=other.filebase))
                summary = with_digests_of(summary, other.identity)
        return summary

    async def _may_be_one(self, summary: EntrySummary) -> list[RelatedEntry]:
        """Entries here that may be this mail with, or without, a list's header and footer: each of the same name, and of a
        crowd those whose texts say so."""
        filebase, identity = summary.filebase, summary.fingerprint.identity
        related = self._resources.index.related
        names = related.crowds.names_of(identity, summary.decorated)
        found = {
            other.filebase: other
            for other in related.with_same_name(filebase, identity, summary.decorated, without=names)
        }
        if names:
            for some in batched(related.crowds.unread(names), PARTS_READ_AT_A_TIME):
                for name, parts in zip(some, await asyncio.to_thread(self._parts, some), strict=True):
                    related.crowds.note(names, name, parts)
            (own,) = await asyncio.to_thread(self._parts, [filebase])
            if own is not None:
                crowded = related.crowds.may_be_one(names, filebase, identity, summary.decorated, own)
                found |= {other.filebase: other for other in crowded}
        return sorted(found.values(), key=lambda other: (other.when_s, other.filebase))

    def _parts(self, filebases: Sequence[str]) -> list[Parts | None]:
        """None for one that cannot be read. Reads files."""
        found: list[Parts | None] = []
        for filebase in filebases:
            try:
                entry = read_entry(self._file(filebase))
            except (EntryError, OSError):
                found.append(None)
            else:
                leaves = canonical_leaves(entry.message, len(entry.raw))
                found.append(None if leaves is None else parts_of(leaves))
        return found

    def undecided_beside(self, summary: EntrySummary) -> list[RelatedEntry]:
        """Entries here that may be this mail with, or without, a list's header and footer; it is not proved yet."""
        identity, released = summary.fingerprint.identity, self._facts.released
        related = self._resources.index.related
        names = related.crowds.names_of(identity, summary.decorated)
        found = {
            other.filebase: other
            for other in related.with_same_name(summary.filebase, identity, summary.decorated, without=names)
            if other.duplicate is not DuplicateClass.UNDECIDED or other.filebase in released
        }
        for other in related.crowds.undecided_beside(
            names, identity, summary.decorated, summary.recipient_keys, released.keys()
        ):
            found[other.filebase] = other
        return sorted(found.values(), key=lambda other: (other.when_s, other.filebase))

    def _is_one_mail(self, summary: EntrySummary, other: RelatedEntry) -> bool:
        """Reads two files."""
        try:
            first, second = (read_entry(self._file(name)) for name in (summary.filebase, other.filebase))
        except (EntryError, OSError):
            return False
        return is_one_mail(first, summary.decorated, second, other.is_decorated)
