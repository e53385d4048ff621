"""Hold, release, drop and hand back: what an operator asks of the entries that selectors match.

In    a SelectRequest, and who sent it
Out   each matching entry changed, or a reason why not; a SelectReply
Promise   the action is in the journal before the first entry is changed; without `yes` nothing is changed
Not here  what happens to one entry (stages/operator_actions.py, stages/handback.py)
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Literal

from drainer.backlog.selection import Selectors
from drainer.backlog.states import EntryState
from drainer.control.messages.base import Peer
from drainer.control.messages.entries import SelectReply, SelectRequest
from drainer.errors import CustodyRefused, EntryError, EntryVanished, RequestRefused
from drainer.ledger.actions import NewAction, StepKind
from drainer.ledger.records import INTAKE, JournalLine, Pause
from drainer.observe.situation import Situation
from drainer.operate.journal import Journal
from drainer.operate.pauses_and_rates import PausesAndRates
from drainer.operate.selection import Selection
from drainer.operate.undo_operator_state import change
from drainer.pipeline import Pipeline
from drainer.stages.hold_reasons import IN_DOUBT
from drainer.stages.operator_actions import Doing
from drainer.text.wording import count

SHOWN_OF_A_DRY_RUN = 20
"""Entries listed in the answer to hold, release, drop and handback; the counts are of all."""

_ChangeOne = Callable[[str, EntryState, Doing], Awaitable[None]]


class SelectedEntries:
    def __init__(
        self,
        pipeline: Pipeline,
        situation: Situation,
        limits: PausesAndRates,
        selection: Selection,
        journal: Journal,
    ) -> None:
        self._pipeline = pipeline
        self._resources = pipeline.resources
        self._record_writer = situation.record_writer
        self._limits = limits
        self._selection = selection
        self._journal = journal

    async def hold(self, request: SelectRequest, peer: Peer) -> SelectReply:
        async def hold(filebase: str, state: EntryState, doing: Doing) -> None:
            await self._pipeline.actions.hold(filebase, state, request.reason, doing)

        return await self._each(request, peer, "hold", hold)

    async def release(self, request: SelectRequest, peer: Peer) -> SelectReply:
        may_have_it = await self._may_have_it(request.selectors)
        reply = await self._each(request, peer, "release", self._pipeline.actions.release)
        return reply.model_copy(update={"may_have_it": may_have_it})

    async def _may_have_it(self, selectors: Selectors) -> int:
        """Recipients in doubt that a release of these entries sends to again, though the MTA may have accepted the mail."""
        held = {hold.filebase for hold in await self._resources.ledger.holds() if hold.reason == IN_DOUBT}
        matching = await self._matching(selectors) if held else ()
        counts = [await self._pipeline.actions.may_have_it(name) for name in matching if name in held]
        return sum(counts)

    async def drop(self, request: SelectRequest, peer: Peer) -> SelectReply:
        async def drop(filebase: str, state: EntryState, doing: Doing) -> None:
            why = f"dropped by {peer.user} {request.reason}".strip()
            await self._pipeline.actions.drop(filebase, why, state, doing)

        reply = await self._each(request, peer, "drop", drop)
        until_s = self._journal.until_s(StepKind.DROP, self._resources.clock.now_s()) if reply.changed else None
        return reply.model_copy(update={"undo_until": until_s})

    async def handback(self, request: SelectRequest, peer: Peer) -> SelectReply:
        if not request.yes:
            return await self._dry_run(request)
        handback = self._pipeline.handback
        await self._selection.meant(request.selectors, one_entry=True)  # refused before anything is stopped
        async with handback.turn:
            with self._record_writer.changed_by("a handback"):
                stopped = await self._stop_intake(request, peer)
                await handback.settled_down()
                found = await self._dry_run(request)
                matching = await self._matching(request.selectors)
                new = NewAction(request.reason, payload=stopped)
                async with self._action(request, peer, "handback", new) as action:
                    given = await handback.give_back(matching, action.doing)
                    action.changed = given.changed
                    self._resources.custody.sync()
        return found.model_copy(
            update={
                "done": True,
                "changed": given.changed,
                "gone": given.gone,
                "gone_why": dict(given.gone_why),
                "skipped": given.skipped,
                "number": action.doing.number,
            }
        )

    async def _stop_intake(self, request: SelectRequest, peer: Peer) -> str:
        """Before the first entry is back in out/, or intake would take it again. Returns the change, for the journal."""
        reason = "handed back to Mailman; `drainer resume` takes entries from its queue again"
        async with self._limits.turn:
            before, now_s = self._limits.state, self._resources.clock.now_s()
            pause = Pause(INTAKE, now_s, None, peer.user, reason)
            kept = tuple(known for known in before.pauses if known.list_id != INTAKE)
            state = dataclasses.replace(before, pauses=(*kept, pause))
            await self._limits.write(state, JournalLine(now_s, peer.user, "handback", request.reason))
            return change(before, state)

    async def _dry_run(self, request: SelectRequest) -> SelectReply:
        """What the selectors match now. Raises RequestRefused where a name in them is unknown or ambiguous."""
        meant = await self._selection.meant(request.selectors, one_entry=True)
        found = self._resources.index.lines.select(
            meant.selectors, self._resources.clock.now_s(), SHOWN_OF_A_DRY_RUN, meant.lists
        )
        return SelectReply(
            done=False, matched=found.total, recipients=found.recipients, unread=found.unread, entries=found.lines
        )

    async def _matching(self, selectors: Selectors) -> list[str]:
        meant = await self._selection.meant(selectors, one_entry=True)
        return self._resources.index.lines.matching(meant.selectors, self._resources.clock.now_s(), meant.lists)

    async def _each(
        self, request: SelectRequest, peer: Peer, verb: Literal["hold", "release", "drop"], change_one: _ChangeOne
    ) -> SelectReply:
        found = await self._dry_run(request)
        if not request.yes:
            return found
        matching = await self._matching(request.selectors)
        with self._record_writer.changed_by(f"a {verb}") if matching else contextlib.nullcontext():
            async with self._action(request, peer, verb, NewAction(request.reason)) as action:
                done = await self._change(matching, change_one, action)
        self._pipeline.resources.signals.wake()
        return found.model_copy(update={"done": True, "changed": action.changed, "number": action.doing.number, **done})

    async def _change(
        self, filebases: Sequence[str], change_one: _ChangeOne, action: _ActionOnEntries
    ) -> dict[str, Any]:
        """Entries that were not changed, as in SelectReply: gone, gone_why, skipped. The changed ones `action` counts."""
        gone, skipped, why_gone = 0, [], Counter[str]()
        for filebase in filebases:
            try:
                async with self._pipeline.feed.taken_out(filebase) as state:
                    await change_one(filebase, state, action.doing)
                action.changed += 1
            except EntryVanished as exc:
                gone += 1
                why_gone[exc.reason] += 1
            except (RequestRefused, EntryError, CustodyRefused) as exc:
                skipped.append(f"{filebase}: {exc}")
        return {"gone": gone, "gone_why": dict(why_gone), "skipped": skipped}

    @contextlib.asynccontextmanager
    async def _action(
        self, request: SelectRequest, peer: Peer, verb: str, new: NewAction
    ) -> AsyncIterator[_ActionOnEntries]:
        """In the journal from before the first entry is changed; the number of changed entries is added at the end."""
        asked = request.selectors.model_dump(exclude_none=True)
        selected = " ".join(f"{name}={value}" for name, value in asked.items())
        what = ": ".join(filter(None, [selected, request.reason]))
        action = _ActionOnEntries(await self._journal.begin(peer, verb, what, new))
        try:
            yield action
            changed = count(action.changed, "entry", "entries")
            await self._journal.end(action.doing, ": ".join(filter(None, [changed, what])))
        finally:
            self._journal.has_ended(action.doing)


@dataclasses.dataclass(slots=True)
class _ActionOnEntries:
    """changed: entries so far."""

    doing: Doing
    changed: int = 0
