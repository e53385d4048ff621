"""What an operator can ask of the running service: the control socket's requests, carried out.

In    requests of control/messages.py, with who asked
Out   their replies
Promise   what an operator decided is in the ledger, with who and why, before it is answered; a dry run changes nothing
Not here  HTTP (control/server.py); when things happen by themselves (service.py)
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import math
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, Protocol

from drainer.backlog.selection import Selectors
from drainer.backlog.values import EntryState
from drainer.compose.known_lists import KnownLists
from drainer.control.messages import (
    Done,
    EntriesReply,
    EtaReply,
    Fate,
    ImportReply,
    ImportRequest,
    JournalReply,
    PauseRequest,
    Peer,
    RateReply,
    RateRequest,
    ResumeRequest,
    SelectReply,
    SelectRequest,
    ShowReply,
    UndoReply,
    UndoRequest,
)
from drainer.duplicates.known_from_log import is_import
from drainer.errors import CustodyRefused, EntryError, EntryVanished, RequestRefused
from drainer.ledger.actions import NewAction, StepKind
from drainer.ledger.evidence import DSNS
from drainer.ledger.evidence import Fate as Ending
from drainer.ledger.records import INTAKE, Coverage, JournalLine, OperatorState, Pause
from drainer.ledger.states import State
from drainer.observe.situation import Situation
from drainer.operate.import_log import carry_out
from drainer.operate.journal import Journal
from drainer.operate.selection import Selection
from drainer.operate.taking_back import decided
from drainer.pipeline import Pipeline
from drainer.queuedir.content import header_pairs, value_text
from drainer.report.incident.document import Incident
from drainer.report.snapshot import Snapshot
from drainer.stages.operator_actions import Doing
from drainer.stages.parts import IN_DOUBT
from drainer.text.wording import count, duration, limit

SHOWN_OF_A_DRY_RUN = 20
"""Entries listed in the answer to hold, release, drop and handback; the counts are of all."""

_LISTS_NAMED = 10

FATES_SHOWN = 1000


class Running(Protocol):
    """What is asked: the service; or for questions alone what was found without it (start/without_service.py)."""

    operator: OperatorState
    deciding: asyncio.Lock
    pipeline: Pipeline
    situation: Situation

    def apply(self, operator: OperatorState) -> None: ...


class ServiceOperations:
    """Implements control.messages.Operations."""

    def __init__(self, service: Running) -> None:
        self._service = service
        self._pipeline = service.pipeline
        self._parts = service.pipeline.parts
        flavour = next(iter(self._parts.composers))
        self.undoing = Journal(service, self._forget_import)
        self.selection = Selection(self._parts, KnownLists(self._parts.settings.mailman, flavour))

    async def status(self) -> Snapshot:
        return await self._service.situation.snapshot()

    async def eta(self, at_recipients_per_s: float | None, by_s: float | None, list_name: str) -> EtaReply:
        """Raises RequestRefused if there is no such list, or no entry of it waits."""
        waiting = [line.list_id for line in self._parts.index.per_list() if line.entries]
        name = (await self.selection.lists(list_name, several=False))[0].list_id if list_name else ""
        if name and name not in waiting:
            others = f"; lists that wait: {', '.join(sorted(waiting)[:_LISTS_NAMED])}" if waiting else ""
            raise RequestRefused(f"no entry of list {name} waits: all of them are done, or there were none{others}")
        return await self._service.situation.estimate(at_recipients_per_s, by_s, name)

    async def entries(self, selectors: Selectors, limit: int) -> EntriesReply:
        meant = await self.selection.meant(selectors, one_entry=False)
        found = self._parts.index.select(meant.selectors, self._parts.clock.now_s(), limit, meant.lists)
        return EntriesReply(total=found.total, entries=found.lines)

    async def show(self, key: str) -> ShowReply:
        """key: an entry's name, its beginning, or a Message-ID, also without its <>. Raises as _show."""
        key = key.strip()
        if "@" in key and not key.startswith("<"):
            with contextlib.suppress(KeyError):
                return await self._show(f"<{key}>")
        return await self._show(key)

    async def _show(self, key: str) -> ShowReply:
        """Raises KeyError if neither an entry nor a message of that name is known, RequestRefused if several are."""
        index, now_s = self._parts.index, self._parts.clock.now_s()
        selectors = Selectors(message_id=key) if "@" in key else Selectors(entry=self.selection.one_entry(key))
        found = index.select(selectors, now_s, SHOWN_OF_A_DRY_RUN)
        line = found.lines[0] if found.lines else None
        message_id = key if "@" in key else line.message_id if line else ""
        fates = [
            Fate(
                list=record.list_id, message_id=record.message_id, state=part.state.value, recipients=len(part.recipients),
                entry=part.filebase, at=part.at_s, detail=_told(part), addresses=part.addresses,
                reply=part.reply,
            )
            for record, history in (await self._parts.ledger.messages_by_message_id(message_id) if message_id else [])
            for part in history.coverage
        ]  # fmt: skip
        if message_id:
            fates = await self._with_evidence(message_id, fates)
        if line is None and not fates:
            raise KeyError(key)
        if line is None:
            return ShowReply(entry=None, fates=fates)
        try:
            entry = self._pipeline.standing.read(line.entry)
            owed = await self._pipeline.actions.owed(line.entry)
        except EntryError as exc:
            raise RequestRefused(f"{line.entry} cannot be read: {exc}") from exc
        headers = [(name, value_text(value)) for name, value in header_pairs(entry.message)]
        metadata = metadata_as_json(entry.metadata)
        others = [other.entry for other in found.lines[1:]]
        return ShowReply(
            entry=line,
            others=others,
            headers=headers,
            recipients=list(entry.recipients),
            owed=owed,
            metadata=metadata,
            fates=fates,
        )

    async def report(self, since_s: float | None) -> Incident:
        return await self._service.situation.incident(since_s)

    async def _with_evidence(self, message_id: str, fates: list[Fate]) -> list[Fate]:
        """With what the ledger tells beside deliveries: second copies and whose delivery they rest on, doubts, DSNs."""
        ledger = self._parts.ledger
        evidence = await ledger.evidence_of(message_id, FATES_SHOWN)
        sent = {
            (line.filebase, address): "DSN sent" if line.fate is Ending.DSN_SENT else "DSN not sent"
            for line in evidence
            if line.fate in DSNS
            for address in line.addresses
        }
        told = [one.model_copy(update={"detail": _with_dsn(one, sent)}) if one.addresses else one for one in fates]
        told += [
            Fate(
                list=line.list_id, message_id=message_id, state=line.fate.value, recipients=line.recipients,
                entry=line.filebase, at=line.at_s, detail=line.detail, of=line.of, of_at=line.of_at_s or None,
            )
            for line in evidence
            if line.fate not in DSNS
        ]  # fmt: skip
        return sorted(told, key=lambda one: one.at)

    async def config(self) -> dict[str, Any]:
        return self._parts.settings.shown()

    async def pause(self, request: PauseRequest, peer: Peer) -> Done:
        now_s = self._parts.clock.now_s()
        until_s = now_s + request.for_s if request.for_s is not None else None
        names = await self._lists_of(request.list)
        pauses = tuple(Pause(name, now_s, until_s, peer.user, request.reason) for name in names)
        what = _lists_in_words(names)
        async with self._service.deciding:
            kept = tuple(other for other in self._service.operator.pauses if other.list_id not in names)
            number = await self._decide(
                dataclasses.replace(self._service.operator, pauses=(*kept, *pauses)),
                peer, "pause", ": ".join(filter(None, [", ".join(filter(None, names)) or "everything", request.reason])),
                request.reason,
            )  # fmt: skip
        how_long = f"for {duration(request.for_s)}" if request.for_s is not None else "until `drainer resume`"
        waiting = {line.list_id for line in self._parts.index.per_list() if line.entries}
        if names != ("",) and waiting.isdisjoint(names):
            told = f"paused: {what}, {how_long}; none of its entries waits now, those that come will"
            return Done(message=told, number=number)
        in_flight = self._pipeline.feed.in_flight
        tail = f"; up to {count(in_flight, 'transaction')} in flight finished first" if in_flight else ""
        return Done(message=f"paused: {what}, {how_long}{tail}", number=number)

    async def _lists_of(self, asked: str) -> tuple[str, ...]:
        """List-ids; ("",) where no list is asked for, which means everything."""
        if not asked:
            return ("",)
        return tuple(one.list_id for one in await self.selection.lists(asked, self._service.operator))

    async def resume(self, request: ResumeRequest, peer: Peer) -> Done:
        async with self._service.deciding:
            names = await self._lists_of(request.list)
            operator = self._service.operator
            gone = set(names) if request.list else {"", INTAKE}
            ended = [pause for pause in operator.pauses if pause.list_id in gone]
            kept = tuple(pause for pause in operator.pauses if pause.list_id not in gone)
            what = _lists_in_words([pause.list_id for pause in ended] or names) if request.list else "everything"
            tried_again = None if request.list else await self._pipeline.feed.trust_mta_again()
            if not ended and tried_again is None:
                return Done(
                    message=_nothing_resumed(what, _single(operator.pauses), self._paused_lists(operator.pauses))
                )
            detail = ": ".join(filter(None, [what, request.reason]))
            number = await self._decide(
                dataclasses.replace(operator, pauses=kept), peer, "resume", detail, request.reason
            )
            tail = f"; {count(tried_again, 'entry', 'entries')} the MTA had refused tried again" if tried_again else ""
            return Done(message=f"resumed: {what}{tail}{self._paused_lists(kept)}", number=number)

    def _paused_lists(self, pauses: Sequence[Pause]) -> str:
        left = [f"list {pause.list_id}" if pause.list_id else "everything" for pause in pauses]
        left = [name for name in left if name != f"list {INTAKE}"]
        return f"; still paused: {', '.join(left)}" if left else ""

    async def rate(self) -> RateReply:
        rates = (await self._service.situation.snapshot()).rate
        return RateReply(
            messages=rates.limit_messages_per_s,
            recipients=rates.limit_recipients_per_s,
            messages_per_s=rates.messages_per_s,
            recipients_per_s=rates.recipients_per_s,
        )

    async def set_rate(self, request: RateRequest, peer: Peer) -> RateReply:
        async with self._service.deciding:
            operator = self._service.operator
            messages = operator.messages_per_s if request.messages is None else _per_s(request.messages)
            recipients = operator.recipients_per_s if request.recipients is None else _per_s(request.recipients)
            limits = f"messages {_shown(messages)}, recipients {_shown(recipients)}"
            await self._decide(
                dataclasses.replace(operator, messages_per_s=messages, recipients_per_s=recipients),
                peer, "rate", ": ".join(filter(None, [limits, request.reason])), request.reason,
            )  # fmt: skip
        return await self.rate()

    async def _decide(self, state: OperatorState, peer: Peer, verb: str, detail: str, reason: str) -> int:
        """The caller has read the state in the turn (Service.deciding) in which it is written. Returns the action's
        number."""
        now_s = self._parts.clock.now_s()
        action = NewAction(reason, ended_s=now_s, payload=decided(self._service.operator, state))
        line = JournalLine(now_s, peer.user, verb, detail)
        number = await self._parts.ledger.set_operator_state(state, line, action)
        self._service.apply(state)
        return number

    async def undo(self, request: UndoRequest, peer: Peer) -> UndoReply:
        overtakes = self._service.situation.recorder.changed_by("an undo")
        with overtakes if request.yes else contextlib.nullcontext():
            return await self.undoing.undo(request, peer)

    async def journal(self, limit: int) -> JournalReply:
        return await self.undoing.lines(limit)

    async def _forget_import(self, name: str) -> None:
        await self._parts.ledger.unlearn(name)
        await self._pipeline.survey.look_again(self._parts.index.covered_by_others())

    async def hold(self, request: SelectRequest, peer: Peer) -> SelectReply:
        async def hold(filebase: str, state: EntryState, doing: Doing) -> None:
            await self._pipeline.actions.hold(filebase, state, request.reason, doing)

        return await self._each(request, peer, "hold", hold)

    async def release(self, request: SelectRequest, peer: Peer) -> SelectReply:
        may_have_it = await self._may_have_it(request.selectors)
        reply = await self._each(request, peer, "release", self._pipeline.actions.release)
        return reply.model_copy(update={"may_have_it": may_have_it})

    async def _may_have_it(self, selectors: Selectors) -> int:
        """Recipients a release of these entries sends to again, though the MTA may have taken theirs."""
        held = {hold.filebase for hold in await self._parts.ledger.holds() if hold.reason == IN_DOUBT}
        matching = await self._matching(selectors) if held else ()
        return await self._parts.ledger.held_recipients(held.intersection(matching))

    async def drop(self, request: SelectRequest, peer: Peer) -> SelectReply:
        async def drop(filebase: str, state: EntryState, doing: Doing) -> None:
            why = f"dropped by {peer.user} {request.reason}".strip()
            await self._pipeline.actions.drop(filebase, why, state, doing)

        reply = await self._each(request, peer, "drop", drop)
        until_s = self.undoing.until_s(StepKind.DROP, self._parts.clock.now_s()) if reply.changed else None
        return reply.model_copy(update={"undo_until": until_s})

    async def handback(self, request: SelectRequest, peer: Peer) -> SelectReply:
        if not request.yes:
            return await self._dry_run(request)
        handback = self._pipeline.handback
        await self.selection.meant(request.selectors, one_entry=True)  # refused before anything is stopped
        async with handback.turn:
            with self._service.situation.recorder.changed_by("a handback"):
                stopped = await self._stop_intake(request, peer)
                await handback.settled_down()
                found = await self._dry_run(request)
                matching = await self._matching(request.selectors)
                new = NewAction(request.reason, payload=stopped)
                async with self._action(request, peer, "handback", new) as action:
                    given = await handback.give_back(matching, action.doing)
                    action.changed = given.changed
                    self._parts.custody.sync()
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
        """Before the first entry is back in out/, or the next look there would take it again. Returns what that changed."""
        reason = "handed back to Mailman; `drainer resume` takes entries from its queue again"
        async with self._service.deciding:
            operator = self._service.operator
            pause = Pause(INTAKE, self._parts.clock.now_s(), None, peer.user, reason)
            kept = tuple(known for known in operator.pauses if known.list_id != INTAKE)
            state = dataclasses.replace(operator, pauses=(*kept, pause))
            line = JournalLine(self._parts.clock.now_s(), peer.user, "handback", request.reason)
            await self._parts.ledger.set_operator_state(state, line)
            self._service.apply(state)
            return decided(operator, state)

    async def import_log(self, request: ImportRequest, peer: Peer) -> ImportReply:
        parts = self._parts
        reply = await carry_out(parts.ledger, parts.index, request, peer.user, parts.clock.now_s())
        if request.undo or (request.yes and reply.learnt):
            self._service.situation.recorder.overtaken("an import")
        if request.yes:
            # Whose turn had come, and who waits for the rate or a session, was decided about before this was known.
            for entry in reply.entries:
                if parts.index.state_of(entry.entry) is EntryState.ACTIVE:
                    with contextlib.suppress(EntryVanished, RequestRefused):
                        async with self._pipeline.feed.taken_out(entry.entry):
                            pass
            await self._pipeline.survey.look_again([entry.entry for entry in reply.entries])
        elif request.undo:
            await self._pipeline.survey.look_again(parts.index.covered_by_others())
        self._pipeline.standing.wake()
        return reply

    async def _dry_run(self, request: SelectRequest) -> SelectReply:
        """What the selectors find now. Raises RequestRefused where a name they give is nobody's, or several have it."""
        meant = await self.selection.meant(request.selectors, one_entry=True)
        found = self._parts.index.select(meant.selectors, self._parts.clock.now_s(), SHOWN_OF_A_DRY_RUN, meant.lists)
        return SelectReply(
            done=False, matched=found.total, recipients=found.recipients, unread=found.unread, entries=found.lines
        )

    async def _matching(self, selectors: Selectors) -> list[str]:
        meant = await self.selection.meant(selectors, one_entry=True)
        return self._parts.index.matching(meant.selectors, self._parts.clock.now_s(), meant.lists)

    async def _each(
        self,
        request: SelectRequest,
        peer: Peer,
        verb: Literal["hold", "release", "drop"],
        change: Callable[[str, EntryState, Doing], Awaitable[None]],
    ) -> SelectReply:
        found = await self._dry_run(request)
        if not request.yes:
            return found
        matching = await self._matching(request.selectors)
        with self._service.situation.recorder.changed_by(f"a {verb}") if matching else contextlib.nullcontext():
            async with self._action(request, peer, verb, NewAction(request.reason)) as action:
                done = await self._change(matching, change, action)
        self._pipeline.standing.wake()
        return found.model_copy(update={"done": True, "changed": action.changed, "number": action.doing.number, **done})

    async def _change(
        self,
        filebases: Sequence[str],
        change: Callable[[str, EntryState, Doing], Awaitable[None]],
        action: _ActionOnEntries,
    ) -> dict[str, Any]:
        """What became of each, as in SelectReply: gone, gone_why, skipped; the others are counted in `action`."""
        gone, skipped, why_gone = 0, [], Counter[str]()
        for filebase in filebases:
            try:
                async with self._pipeline.feed.taken_out(filebase) as state:
                    await change(filebase, state, action.doing)
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
        """In the journal from before the first entry is changed; how many it were is added at the end."""
        asked = request.selectors.model_dump(exclude_none=True)
        selected = " ".join(f"{name}={value}" for name, value in asked.items())
        what = ": ".join(filter(None, [selected, request.reason]))
        action = _ActionOnEntries(await self.undoing.begin(peer, verb, what, new))
        try:
            yield action
            changed = count(action.changed, "entry", "entries")
            await self.undoing.end(action.doing, ": ".join(filter(None, [changed, what])))
        finally:
            self.undoing.has_ended(action.doing)


@dataclasses.dataclass(slots=True)
class _ActionOnEntries:
    """changed: entries so far."""

    doing: Doing
    changed: int = 0


def _single(pauses: Sequence[Pause]) -> list[str]:
    return [pause.list_id for pause in pauses if pause.list_id not in ("", INTAKE)]


def _nothing_resumed(what: str, paused_lists: Sequence[str], still_paused: str) -> str:
    """what: "everything", or "list NAME"; paused_lists: by name."""
    if what != "everything":
        return f"{what} was not paused{still_paused}"
    if not paused_lists:
        return "nothing was paused"
    return f"only single lists are paused: {', '.join(paused_lists)}; `drainer resume --list NAME` lets one go on"


def _lists_in_words(names: Sequence[str]) -> str:
    """As a pause or its end is told; "" stands for everything."""
    if len(names) > 1:
        return f"lists {', '.join(names)}"
    return f"list {names[0]}" if names[0] else "everything"


def _with_dsn(one: Fate, sent: Mapping[tuple[str, str], str]) -> str:
    """One line for each that failed: address, answer, and what became of its DSN."""
    if one.state != State.FAILED:
        return one.detail
    told = (f"{address}: {one.reply}; {sent.get((one.entry, address), 'no DSN sent')}" for address in one.addresses)
    return ", ".join(told)


def _told(part: Coverage) -> str:
    if is_import(part.filebase):
        return f"known from a log: {part.filebase}"
    return " ".join([part.reply, *part.addresses]).strip()


def _per_s(asked: float | Literal["unlimited"]) -> float:
    return math.inf if asked == "unlimited" else asked


def _shown(per_s: float | None) -> str:
    return "as the settings say" if per_s is None else limit(None if math.isinf(per_s) else per_s)


def metadata_as_json(metadata: Mapping[str, object]) -> dict[str, Any]:
    """Metadata of any type and depth as JSON; what JSON has no form for as text."""
    return {name: _plain(value) for name, value in metadata.items()}


def _plain(value: object) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(element) for element in value]
    if isinstance(value, dict):
        return {str(_plain(key)): _plain(element) for key, element in value.items()}
    if isinstance(value, datetime):
        return value.isoformat(" ")
    return ascii(value) if isinstance(value, bytes) else value_text(value)
