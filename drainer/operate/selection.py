"""What an operator's words mean here: the list and the entry that selectors name are looked up.

In    Selectors as they were asked, the index, the lists there are
Out   a Meant, which the index takes
Raises  UnknownList, AmbiguousList, AmbiguousEntry: then nothing is done
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from drainer.backlog.selection import EntryLine, Selectors, entry_name
from drainer.compose.known_lists import KnownLists
from drainer.compose.mailman3 import Mailman3Composer
from drainer.errors import AmbiguousEntry, ComposeError, ComposerUnavailable
from drainer.feed.named_lists import names_in, with_hint
from drainer.ledger.records import INTAKE, OperatorState
from drainer.queuedir.list_names import NOTHING_DONE, MailingList, lists_meant, trouble_with
from drainer.settings import Settings
from drainer.stages.resources import Resources
from drainer.text.wording import count

_NAMED = 4
_ANSWER_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Meant:
    """Selectors, and the list-ids that `list` stands for; None: it was not given."""

    selectors: Selectors
    lists: frozenset[str] | None = None


class Selection:
    """Looks up what is named."""

    def __init__(self, resources: Resources, known: KnownLists) -> None:
        self._resources = resources
        self._known = known

    async def meant(self, selectors: Selectors, *, one_entry: bool) -> Meant:
        """one_entry  a name given for an entry has to be the name of one, or the beginning of only one."""
        if one_entry and selectors.entry is not None:
            selectors = selectors.model_copy(update={"entry": self.one_entry(selectors.entry)})
        if selectors.list is None:
            return Meant(selectors)
        lists = await self.lists(selectors.list)
        return Meant(selectors, frozenset(one.list_id for one in lists))

    async def lists(
        self, asked: str, operator: OperatorState | None = None, *, several: bool = True
    ) -> tuple[MailingList, ...]:
        """operator: its paused lists are known as well."""
        known = await self.known_lists(asked, operator)
        unread = self._resources.index.totals.overall().unread_entries
        still = f" ({count(unread, 'entry', 'entries')} still to be read may be of others)" if unread else ""
        return lists_meant(asked, known, several=several, otherwise=NOTHING_DONE + still)

    async def known_lists(self, asked: str = "", operator: OperatorState | None = None) -> Collection[MailingList]:
        resources = self._resources
        paused = [pause.list_id for pause in operator.pauses if pause.list_id != INTAKE] if operator else []
        seen = [*(line.list_id for line in resources.index.totals.per_list()), *paused, *await resources.ledger.lists()]
        named = await self._lists_of_mailman()
        ids = {one.list_id for one in named}
        others = await asyncio.to_thread(self._known.all, seen, asked)
        return [*named, *(one for one in others if one.list_id not in ids)]

    async def _lists_of_mailman(self) -> list[MailingList]:
        """As the Mailman of the co-process says; none of one that does not answer soon: it may be why drainer is here."""
        composer = next(iter(self._resources.composers.values()))
        if isinstance(composer, Mailman3Composer):
            with contextlib.suppress(TimeoutError, ComposeError, ComposerUnavailable):
                async with asyncio.timeout(_ANSWER_WITHIN_S):
                    return await composer.lists()
        return []

    def with_reasons(self, lines: Sequence[EntryLine]) -> list[EntryLine]:
        """The same; an entry that waits since its list is not served says so."""
        unserved = self._resources.named_lists.unserved
        return [
            line.model_copy(update={"reason": f"not served: {unserved[line.list]}"})
            if line.state == "waiting" and not line.reason and line.list in unserved
            else line
            for line in lines
        ]

    async def trouble_in_settings(self, settings: Settings) -> list[str]:
        """The mistakes in list names of the settings, as far as lists are known now."""
        named = names_in(settings.feed)
        named += [("mailman.release_lists", name) for name in settings.mailman.release_lists]
        found = []
        for setting, name in named:
            # Before the first entry was read, and where Mailman's own lists cannot be seen, no name is known to be wrong.
            if (known := await self.known_lists(name)) and (trouble := trouble_with(name, known)):
                found.append(f"{setting}: {with_hint(setting, name, trouble)}")
        return found

    def one_entry(self, asked: str) -> str:
        """Its whole name; as it was asked if none begins so. Raises AmbiguousEntry."""
        asked = entry_name(asked)
        found = self._resources.index.lines.select(Selectors(entry=asked), self._resources.clock.now_s(), _NAMED)
        if found.total > 1:
            names = ", ".join(line.entry for line in found.lines)
            more = f" and {found.total - len(found.lines)} more" if found.total > len(found.lines) else ""
            raise AmbiguousEntry(
                f"{count(found.total, 'entry', 'entries')} begin with {asked}: {names}{more}; {NOTHING_DONE}; say more of "
                "the name, or all of it"
            )
        return found.lines[0].entry if found.lines else asked
