"""The journal: the line of each action of an operator, and how an action is undone.

In    actions as they begin and end; an UndoRequest
Out   their lines in the ledger; a JournalReply, an UndoReply
Promise   an action interrupted by a crash is in the journal with the steps it made; undo goes on with the rest
Not here  what is done to an entry (stages/operator_actions.py, stages/undo.py); which action is meant (undo_target.py)
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Sequence

from drainer.control.messages.base import Peer
from drainer.control.messages.journal import JournalAction, JournalReply, NotUndone, UndoReply, UndoRequest
from drainer.errors import RequestRefused
from drainer.ledger.actions import Action, NewAction, Step, StepKind
from drainer.ledger.records import JournalLine, OperatorState
from drainer.operate.import_log import IMPORT
from drainer.operate.pauses_and_rates import PausesAndRates
from drainer.operate.undo_operator_state import change, undone
from drainer.operate.undo_target import changed_something, decided_after, last_to_undo, undone_by
from drainer.pipeline import Pipeline
from drainer.stages.operator_actions import Doing
from drainer.stages.undo import TakenBack
from drainer.text.logfmt import logfmt
from drainer.text.wording import count

log = logging.getLogger("drainer")

SERVICE = "drainer"
_LOOKED_AT = 10_000
"""Lines of the journal that are searched for which action undoes which."""
_NAMED = 5

_CANNOT = {
    "accept-ledger": "the ledger is in use since, and nothing was changed in it; a better one has to be put in its place",
    "import-log --undo": "`drainer import-log` learns the log again",
    "handback": "see the next line, which has the entries",
}


class Journal:
    """forget_import  forgets all that was learnt under a name, without a line of its own"""

    def __init__(
        self, pipeline: Pipeline, limits: PausesAndRates, forget_import: Callable[[str], Awaitable[None]]
    ) -> None:
        self._resources = pipeline.resources
        self._undo = pipeline.undo
        self._limits = limits
        self._forget_import = forget_import
        self._under_way: set[int] = set()
        self._turn = asyncio.Lock()

    async def begin(self, peer: Peer, verb: str, what: str, new: NewAction) -> Doing:
        """what: the request in words; `end` adds the result. Raises LedgerNotDurable."""
        number = await self._resources.ledger.write_journal(JournalLine(self._now_s(), peer.user, verb, what), new)
        self._under_way.add(number)
        return Doing(number, peer.user, new.undoes)

    async def end(self, doing: Doing, detail: str) -> None:
        await self._resources.ledger.end_action(doing.number, detail, self._now_s())

    def has_ended(self, doing: Doing) -> None:
        """It is not being carried out any more, whether or not `end` could be written."""
        self._under_way.discard(doing.number)

    async def recover(self) -> None:
        """Mark the actions that an earlier run did not finish. Before the first request."""
        for action in await self._resources.ledger.actions(_LOOKED_AT):
            if action.new is not None and action.new.ended_s is None and not action.detail.startswith(_CUT_OFF):
                detail = f"{_CUT_OFF} after {count(action.entries, 'entry', 'entries')}: {action.detail}"
                await self._resources.ledger.end_action(action.number, detail, None)
                log.warning(logfmt(event="cut_off", action=action.verb, number=action.number, entries=action.entries))

    def until_s(self, verb: StepKind, at_s: float) -> float | None:
        """Until when these entries can be put back; None: as long as they are here."""
        return at_s + self._resources.settings.duplicates.keep if verb is StepKind.DROP else None

    async def lines(self, limit: int) -> JournalReply:
        actions = await self._resources.ledger.actions(max(limit, _LOOKED_AT))
        undone = undone_by(actions)
        return JournalReply(actions=[await self._shown(action, undone) for action in actions[-limit:]])

    async def undo(self, request: UndoRequest, peer: Peer) -> UndoReply:
        """Raises RequestRefused: there is no such action, it cannot be undone, or nothing of it is left to undo."""
        async with self._turn:
            actions = await self._resources.ledger.actions(_LOOKED_AT)
            target = await self._meant(request, actions)
            undone_at_present = undone_by(actions)
            shown = await self._shown(target, undone_at_present)
            if not shown.undoable:
                raise RequestRefused(f"action {target.number} ({target.verb}) cannot be undone: {shown.why_not}")
            steps = [step for step in await self._resources.ledger.steps(target.number) if step.undone_by is None]
            later = await self._resources.ledger.steps_after(target.number)
            looked = await self._undo.possible(steps, later)
            decided = [_payload(action) for action in decided_after(target, actions, undone_at_present)]
            _, words, kept = self._undone(target, decided)
            if forgets := _import_of(target):
                words.append(f"{forgets}: what was learnt by it is forgotten")
            if not (looked.changed or words):
                raise RequestRefused(_nothing_left(target, looked, kept))
            if not request.yes:
                return _reply(shown, looked, words, kept)
            done, doing = await self._do(request, peer, target, steps, later, decided)
            return _reply(shown, done, words, kept).model_copy(update={"done": True, "number": doing.number})

    def _undone(self, target: Action, decided: Sequence[str]) -> tuple[OperatorState, list[str], list[str]]:
        return undone(self._limits.state, _payload(target), self._now_s(), target.at_s, decided)

    async def _do(
        self,
        request: UndoRequest,
        peer: Peer,
        target: Action,
        steps: Sequence[Step],
        later: dict[str, int],
        decided: Sequence[str],
    ) -> tuple[TakenBack, Doing]:
        what = ": ".join(filter(None, [f"of {target.number} ({target.verb})", request.reason]))
        depth = target.new.depth + 1 if target.new else 1
        limits = self._limits
        async with limits.turn:
            state, words, _ = self._undone(target, decided)
            what = ": ".join([what, ", ".join(words)]) if words else what
            forgets = _import_of(target)
            payload = json.dumps({_FORGOT: forgets}) if forgets else change(limits.state, state)
            new = NewAction(request.reason, target.number, depth, payload=payload)
            if words:
                line = JournalLine(self._now_s(), peer.user, "undo", what)
                doing = Doing(await limits.write(state, line, new), peer.user, target.number)
                self._under_way.add(doing.number)
            else:
                doing = await self.begin(peer, "undo", what, new)
        done = TakenBack()
        try:
            if forgets:
                await self._forget_import(forgets)
            done = await self._undo.take_back(steps, later, doing)
            entries = f"{count(len(done.changed), 'entry', 'entries')} " if steps else ""
            await self.end(doing, f"{entries}{what}")
        finally:
            self.has_ended(doing)
        return done, doing

    async def _meant(self, request: UndoRequest, actions: Sequence[Action]) -> Action:
        if request.number is not None:
            found = await self._resources.ledger.action(request.number)
            if found is None:
                raise RequestRefused(f"there is no action {request.number}; `drainer journal` lists them")
            if request.number in self._under_way:
                raise RequestRefused(f"action {request.number} is still being carried out")
            by = undone_by(actions).get(request.number)
            if by is not None and not self._is_cut_off(actions, by) and found.entries == found.undone_entries:
                raise RequestRefused(
                    f"action {request.number} was undone by {by} already; `drainer undo {by}` would do it again"
                )
            return found
        last = last_to_undo(actions, self._under_way)
        if last is None:
            undos = [action.number for action in actions if action.new and action.new.depth % 2]
            again = f"; to do again what was undone last: `drainer undo {undos[-1]}`" if undos else ""
            raise RequestRefused(f"nothing is left to undo{again}; `drainer journal` lists what was done")
        return last

    def _is_cut_off(self, actions: Sequence[Action], number: int) -> bool:
        return any(action.number == number and action.new and action.new.ended_s is None for action in actions)

    async def _shown(self, action: Action, undone: dict[int, int]) -> JournalAction:
        new = action.new
        why_not = _why_not(action)
        until_s = None
        if action.entries and not why_not:
            until_s = await self._until_s(action)
            if until_s is not None and until_s <= self._now_s():
                why_not = "dropped files are kept for duplicates.keep, which is over"
        is_open = new is not None and new.ended_s is None
        return JournalAction(
            number=action.number,
            at=action.at_s,
            by=action.by,
            action=action.verb,
            detail=action.detail,
            reason=new.reason if new else "",
            entries=action.entries if new and (action.entries or action.verb in _ABOUT_ENTRIES) else None,
            undoable=not why_not,
            why_not=why_not,
            undo_until=until_s,
            undone_by=undone.get(action.number),
            undone_entries=action.undone_entries,
            undoes=new.undoes if new else None,
            cut_off=is_open and action.number not in self._under_way,
        )

    async def _until_s(self, action: Action) -> float | None:
        """A drop can be undone for a limited time. So can an undo that dropped entries again."""
        is_drop = action.verb == "drop"
        if action.verb == "undo":
            is_drop = any(step.kind is StepKind.DROP for step in await self._resources.ledger.steps(action.number))
        return self.until_s(StepKind.DROP, action.at_s) if is_drop else None

    def _now_s(self) -> float:
        return self._resources.clock.now_s()


_CUT_OFF, _FORGOT = "cut off", "forgot"
_ABOUT_ENTRIES = frozenset({"hold", "release", "drop", "handback"})


def _why_not(action: Action) -> str:
    if action.by == SERVICE and action.new is None:
        return "the service did this by itself"
    if action.new is None:
        return _CANNOT.get(action.verb, "the journal has nothing by which to undo it")
    if not changed_something(action):
        return "it changed nothing"
    if name := _named(action, _FORGOT):
        return f"`drainer import-log` learns again what was learnt as {name}"
    return ""


def _payload(action: Action) -> str:
    return action.new.payload if action.new else ""


def _import_of(action: Action) -> str:
    """The import that the action was; "" if it was none."""
    return _named(action, IMPORT)


def _named(action: Action, what: str) -> str:
    payload = action.new.payload if action.new else ""
    return str(json.loads(payload).get(what, "")) if payload else ""


def _reply(shown: JournalAction, found: TakenBack, decided: list[str], kept: list[str]) -> UndoReply:
    left = [NotUndone(reason=why, entries=len(names), names=names[:_NAMED]) for why, names in found.left.items()]
    return UndoReply(done=False, of=shown, changed=len(found.changed), left=left, decided=decided, kept=kept)


def _nothing_left(target: Action, looked: TakenBack, kept: Sequence[str]) -> str:
    reasons = [f"{count(len(names), 'entry', 'entries')}: {why}" for why, names in looked.left.items()]
    why = "; ".join([*reasons, *kept]) or "all of it was undone before"
    return (
        f"nothing of action {target.number} ({target.verb}) can be undone: {why}; `drainer journal` lists the others, "
        "`drainer undo N` undoes another one"
    )
