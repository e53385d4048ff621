"""Everything an operator can ask of the service: one method for each request.

In    requests of control/messages/, with who sent them
Out   their replies
Not here  how each is carried out (pausing.py, selected_entries.py, showing.py, journal.py, import_log.py); HTTP
          (control/server.py)
"""

from __future__ import annotations

import contextlib
import logging
from typing import Any

from drainer.backlog.selection import Selectors
from drainer.backlog.states import EntryState
from drainer.compose.known_lists import KnownLists
from drainer.control.messages.base import Done, Peer
from drainer.control.messages.domains import DomainReply, DomainRequest, DomainsReply
from drainer.control.messages.entries import EntriesReply, SelectReply, SelectRequest, ShowReply
from drainer.control.messages.finish import EtaReply
from drainer.control.messages.journal import JournalReply, UndoReply, UndoRequest
from drainer.control.messages.log_import import ImportReply, ImportRequest
from drainer.control.messages.pauses_and_rates import PauseRequest, RateReply, RateRequest, ResumeRequest
from drainer.errors import EntryVanished, RequestRefused
from drainer.observe.situation import Situation
from drainer.operate.domain_orders import DomainOrders
from drainer.operate.import_log import carry_out
from drainer.operate.journal import Journal
from drainer.operate.pauses_and_rates import PausesAndRates
from drainer.operate.pausing import Pausing
from drainer.operate.selected_entries import SelectedEntries
from drainer.operate.selection import Selection
from drainer.operate.showing import Showing
from drainer.pipeline import Pipeline
from drainer.report.incident.document import Incident
from drainer.report.snapshot import Snapshot
from drainer.text.logfmt import logfmt

log = logging.getLogger("drainer")

_LISTS_NAMED = 10


class ServiceOperations:
    """Implements control.operations.Operations."""

    def __init__(self, pipeline: Pipeline, situation: Situation, limits: PausesAndRates) -> None:
        self._pipeline = pipeline
        self._resources = pipeline.resources
        self._situation = situation
        flavour = next(iter(self._resources.composers))
        self._selection = Selection(self._resources, KnownLists(self._resources.settings.mailman, flavour))
        self._journal = Journal(pipeline, limits, self._forget_import)
        self._pausing = Pausing(pipeline, situation, limits, self._selection)
        self._entries = SelectedEntries(pipeline, situation, limits, self._selection, self._journal)
        self._showing = Showing(pipeline, self._selection)
        self._domain_orders = DomainOrders(pipeline, limits)

    async def recover(self) -> None:
        """Before anything is asked: note actions that an earlier run did not finish; warn of lists named in the settings
        that do not exist."""
        await self._journal.recover()
        for trouble in await self._selection.trouble_in_settings(self._resources.settings):
            log.warning(logfmt(event="settings", detail=trouble))

    async def status(self) -> Snapshot:
        return await self._situation.snapshot()

    async def eta(self, at_recipients_per_s: float | None, by_s: float | None, list_name: str) -> EtaReply:
        """Raises RequestRefused if there is no such list, or no entry of it waits."""
        waiting = [line.list_id for line in self._resources.index.totals.per_list() if line.entries]
        name = (await self._selection.lists(list_name, several=False))[0].list_id if list_name else ""
        if name and name not in waiting:
            others = f"; lists that wait: {', '.join(sorted(waiting)[:_LISTS_NAMED])}" if waiting else ""
            raise RequestRefused(f"no entry of list {name} waits: all of them are done, or there were none{others}")
        return await self._situation.estimate(at_recipients_per_s, by_s, name)

    async def entries(self, selectors: Selectors, limit: int) -> EntriesReply:
        meant = await self._selection.meant(selectors, one_entry=False)
        found = self._resources.index.lines.select(meant.selectors, self._resources.clock.now_s(), limit, meant.lists)
        return EntriesReply(total=found.total, entries=self._selection.with_reasons(found.lines))

    async def show(self, key: str) -> ShowReply:
        return await self._showing.show(key)

    async def report(self, since_s: float | None) -> Incident:
        return await self._situation.incident(since_s)

    async def config(self) -> dict[str, Any]:
        return self._resources.settings.shown()

    async def pause(self, request: PauseRequest, peer: Peer) -> Done:
        return await self._pausing.pause(request, peer)

    async def resume(self, request: ResumeRequest, peer: Peer) -> Done:
        return await self._pausing.resume(request, peer)

    async def rate(self) -> RateReply:
        return await self._pausing.rate()

    async def set_rate(self, request: RateRequest, peer: Peer) -> RateReply:
        return await self._pausing.set_rate(request, peer)

    async def domains(self, name: str, limit: int) -> DomainsReply:
        return await self._domain_orders.shown(name, limit)

    async def order_domain(self, request: DomainRequest, peer: Peer) -> DomainReply:
        return await self._domain_orders.order(request, peer)

    async def hold(self, request: SelectRequest, peer: Peer) -> SelectReply:
        return await self._entries.hold(request, peer)

    async def release(self, request: SelectRequest, peer: Peer) -> SelectReply:
        return await self._entries.release(request, peer)

    async def drop(self, request: SelectRequest, peer: Peer) -> SelectReply:
        return await self._entries.drop(request, peer)

    async def handback(self, request: SelectRequest, peer: Peer) -> SelectReply:
        return await self._entries.handback(request, peer)

    async def undo(self, request: UndoRequest, peer: Peer) -> UndoReply:
        overtakes = self._situation.record_writer.changed_by("an undo")
        with overtakes if request.yes else contextlib.nullcontext():
            return await self._journal.undo(request, peer)

    async def journal(self, limit: int) -> JournalReply:
        return await self._journal.lines(limit)

    async def import_log(self, request: ImportRequest, peer: Peer) -> ImportReply:
        resources = self._resources
        reply = await carry_out(resources.ledger, resources.index, request, peer.user, resources.clock.now_s())
        if request.undo or (request.yes and reply.learnt):
            self._situation.record_writer.overtaken("an import")
        if request.yes:
            entries = [entry.entry for entry in reply.entries]
            await self._decide_again(entries)
            await self._pipeline.survey.look_again(entries)
        elif request.undo:
            await self._pipeline.survey.look_again(resources.index.covered_by_others())
        self._pipeline.resources.signals.wake()
        return reply

    async def _decide_again(self, filebases: list[str]) -> None:
        """Entries in their turn, which wait for the rate or a session: their recipients were chosen before the import."""
        for filebase in filebases:
            if self._resources.index.state_of(filebase) is EntryState.ACTIVE:
                with contextlib.suppress(EntryVanished, RequestRefused):
                    async with self._pipeline.feed.taken_out(filebase):
                        pass

    async def _forget_import(self, name: str) -> None:
        await self._resources.ledger.unlearn(name)
        await self._pipeline.survey.look_again(self._resources.index.covered_by_others())
