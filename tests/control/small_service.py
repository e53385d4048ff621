"""A small service for the control socket's and the command line's tests: real entries kept in memory, a real socket."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drainer.backlog.selection import EntryLine, Selectors
from drainer.control.messages.base import Done, Peer
from drainer.control.messages.domains import DomainReply, DomainRequest, DomainsReply
from drainer.control.messages.entries import DeliveryLine, EntriesReply, SelectReply, SelectRequest, ShowReply
from drainer.control.messages.finish import EtaReply, ListEta
from drainer.control.messages.journal import JournalAction, JournalReply, NotUndone, UndoReply, UndoRequest
from drainer.control.messages.log_import import ImportReply, ImportRequest
from drainer.control.messages.pauses_and_rates import PauseRequest, RateReply, RateRequest, ResumeRequest
from drainer.control.server import ControlServer
from drainer.errors import LedgerNotDurable, RequestRefused
from drainer.estimate.eta import Eta
from drainer.ledger.evidence import Account
from drainer.queuedir.list_names import MailingList, lists_named
from drainer.report.burn_down import BurnDown
from drainer.report.incident.document import Incident
from drainer.report.incident.facts import make_incident
from drainer.report.snapshot import Backlog, DomainStanding, ListBacklog, Mta, Rate, Snapshot
from drainer.settings import Settings

NOW_S = 1_772_536_000.0


def control_routes() -> set[tuple[str, str]]:
    """Method and path of all the control socket takes."""
    application = ControlServer(Path("unused"), SmallService())._application()
    return {
        (route.method, resource.canonical.replace("{key}", "17724384"))
        for resource in application.router.resources()
        for route in resource
    }


def sample_entries() -> list[EntryLine]:
    return [
        EntryLine(
            entry="1772438466.0116487+" + "a" * 40,
            state="waiting",
            list="kite-makers@example.org",
            sender="ann@example.org",
            subject="Kites on Sunday",
            message_id="<sunday/1@example.org>",
            recipients=120,
            bytes=4000,
            age_s=61534.0,
        ),
        EntryLine(
            entry="1772438467.5+" + "b" * 40,
            state="waiting",
            list="orchard@example.org",
            sender="bob@example.org",
            subject="Apples \x1b[31mred\x1b[0m \udce9",
            message_id="<apples@example.org>",
            recipients=30,
            bytes=9000,
            age_s=61533.0,
        ),
        EntryLine(
            entry="1772438468.5+" + "c" * 40,
            state="held",
            list="orchard@example.org",
            sender="bob@example.org",
            subject="Apples",
            message_id="<apples2@example.org>",
            recipients=30,
            bytes=9000,
            age_s=61532.0,
            duplicate="resend",
            of="1772438467.5+" + "b" * 40,
            reason="resend",
        ),
        EntryLine(
            entry="1772438469.5+" + "d" * 40,
            state="active",
            list="orchard@example.org",
            sender="cyd@example.org",
            subject="Pears",
            message_id="<pears@example.org>",
            recipients=30,
            bytes=9000,
            age_s=61531.0,
        ),
    ]


@dataclass
class SmallService:
    """Implements drainer.control.messages.Operations. `seen` holds what was asked for, with who asked."""

    backlog: list[EntryLine] = field(default_factory=sample_entries)
    paused: dict[str, PauseRequest] = field(default_factory=dict)
    limits: dict[str, float | None] = field(default_factory=lambda: {"messages": 20.0, "recipients": None})
    seen: list[tuple[str, Peer, Any]] = field(default_factory=list)
    ledger_full: bool = False

    async def status(self) -> Snapshot:
        waiting = [entry for entry in self.backlog if entry.state != "held"]
        paused = "" in self.paused
        left = sum(entry.recipients or 0 for entry in waiting)
        lists = sorted({entry.list for entry in waiting})
        return Snapshot(
            version="0",
            at=NOW_S,
            pid=1,
            state="paused" if paused else "draining",
            reason=self.paused[""].reason if paused else "",
            since=NOW_S - 4320,
            backlog=Backlog(
                entries=len(waiting),
                recipients=left,
                bytes=sum(entry.bytes for entry in waiting),
                oldest_age_s=max((entry.age_s for entry in waiting), default=None),
                held_entries=len(self.backlog) - len(waiting),
            ),
            rate=Rate(limit_messages_per_s=self.limits["messages"], messages_per_s=1.0, recipients_per_s=2.0),
            eta=await self._eta(2.0),
            mta=Mta(host="127.0.0.1", port=25, state="up"),
            lists=[
                ListBacklog(
                    list=name,
                    entries=sum(entry.list == name for entry in waiting),
                    recipients=sum(entry.recipients or 0 for entry in waiting if entry.list == name),
                    paused=name in self.paused,
                )
                for name in lists
            ],
        )

    async def _eta(self, per_s: float) -> Eta:
        if "" in self.paused:
            return Eta(state="paused")
        left = sum(entry.recipients or 0 for entry in self.backlog if entry.state != "held")
        seconds = left / per_s
        return Eta(
            state="draining",
            finish=NOW_S + seconds,
            seconds=seconds,
            low_s=seconds * 0.8,
            high_s=seconds * 1.5,
            confidence=0.8,
        )

    async def eta(self, at_recipients_per_s: float | None, by_s: float | None, list_name: str) -> EtaReply:
        self.seen.append(("eta", Peer(pid=0, uid=0, user=""), (at_recipients_per_s, by_s, list_name)))
        left = sum(entry.recipients or 0 for entry in self.backlog if entry.state != "held")
        return EtaReply(
            eta=await self._eta(2.0),
            backlog_recipients=left,
            what_if=None if at_recipients_per_s is None else await self._eta(at_recipients_per_s),
            by=by_s,
            needed_recipients_per_s=None if by_s is None else 12.5,
            chance=None if by_s is None else 0.3,
            verdict=None if by_s is None else "impossible",
            raise_messages_per_s=None if by_s is None else 2.41,
            shown_recipients_per_s=40.0,
            sustained_recipients_per_s=30.0,
            list=await self._list_eta(list_name, at_recipients_per_s) if list_name else None,
        )

    async def _list_eta(self, name: str, at_recipients_per_s: float | None) -> ListEta:
        waiting = [entry for entry in self.backlog if entry.list == name and entry.state != "held"]
        left = sum(entry.recipients or 0 for entry in waiting)
        return ListEta(
            list=name,
            entries=len(waiting),
            recipients=left,
            eta=Eta(state="draining", seconds=left / 2.0),
            what_if=None if at_recipients_per_s is None else await self._eta(at_recipients_per_s),
        )

    def _matching(self, selectors: Selectors) -> list[EntryLine]:
        texts = {
            "sender": selectors.sender,
            "subject": selectors.subject,
            "message_id": selectors.message_id,
        }
        return [
            entry
            for entry in self.backlog
            if all(text is None or text.casefold() in getattr(entry, name).casefold() for name, text in texts.items())
            and (
                selectors.list is None or lists_named(selectors.list, [MailingList(entry.list, *entry.list.split("@"))])
            )
            and selectors.duplicate in (None, entry.duplicate)
            and selectors.state in (None, entry.state)
            and entry.age_s > (selectors.older_than_s or 0)
            and (selectors.younger_than_s is None or entry.age_s < selectors.younger_than_s)
            and entry.entry.startswith(selectors.entry or "")
        ]

    async def entries(self, selectors: Selectors, limit: int) -> EntriesReply:
        found = self._matching(selectors)
        return EntriesReply(total=len(found), entries=found[:limit])

    async def show(self, key: str) -> ShowReply:
        found = [entry for entry in self.backlog if entry.entry.startswith(key) or entry.message_id == key]
        if not found:
            raise KeyError(key)
        if len(found) > 1:
            raise RequestRefused(f"{key} is the beginning of {len(found)} entries; give more of it")
        entry = found[0]
        return ShowReply(
            entry=entry,
            headers=[("From", entry.sender), ("Subject", entry.subject)],
            recipients=["dan@example.org", "\udcff@example.org"],
            metadata={"received_time": entry.age_s, "raw": b"\xff\x00", "odd": {1: (2.0, float("inf"))}},
            fates=[
                DeliveryLine(
                    list=entry.list,
                    message_id=entry.message_id,
                    state="delivered",
                    recipients=7,
                    entry=entry.entry,
                    at=NOW_S,
                    detail="250 2.0.0 Ok",
                )
            ],
        )

    async def pause(self, request: PauseRequest, peer: Peer) -> Done:
        self.seen.append(("pause", peer, request))
        if self.ledger_full:
            raise LedgerNotDurable("the ledger cannot commit: No space left on device")
        self.paused[request.list] = request
        return Done(message=f"Paused {request.list or 'everything'}.")

    async def resume(self, request: ResumeRequest, peer: Peer) -> Done:
        self.seen.append(("resume", peer, request))
        if request.list not in self.paused:
            raise RequestRefused(f"{request.list or 'the service'} is not paused")
        del self.paused[request.list]
        return Done(message=f"Resumed {request.list or 'everything'}.")

    async def rate(self) -> RateReply:
        return RateReply(
            messages=self.limits["messages"],
            recipients=self.limits["recipients"],
            messages_per_s=1.0,
            recipients_per_s=2.0,
        )

    async def set_rate(self, request: RateRequest, peer: Peer) -> RateReply:
        self.seen.append(("rate", peer, request))
        for name, value in request.model_dump(exclude_none=True, exclude={"reason"}).items():
            self.limits[name] = {"unlimited": None, "settings": 20.0}.get(value, value)
        return await self.rate()

    async def domains(self, name: str, limit: int) -> DomainsReply:
        known = [DomainStanding(domain=one, waiting_recipients=7) for one in ("gmail.com", "example.org")]
        return DomainsReply(domains=[one for one in known if one.domain == name or not name][:limit], behind=True)

    async def order_domain(self, request: DomainRequest, peer: Peer) -> DomainReply:
        self.seen.append(("domain", peer, request))
        limit = request.rate if isinstance(request.rate, float) else None
        return DomainReply(
            message=f"{request.domain}: ordered",
            domain=DomainStanding(domain=request.domain, limit_recipients_per_s=limit, set_by="operator"),
            number=3,
        )

    async def hold(self, request: SelectRequest, peer: Peer) -> SelectReply:
        return self._move("hold", request, peer, {"state": "held", "reason": request.reason})

    async def release(self, request: SelectRequest, peer: Peer) -> SelectReply:
        return self._move("release", request, peer, {"state": "waiting", "reason": ""})

    async def drop(self, request: SelectRequest, peer: Peer) -> SelectReply:
        return self._move("drop", request, peer, None)

    async def handback(self, request: SelectRequest, peer: Peer) -> SelectReply:
        return self._move("handback", request, peer, None)

    async def import_log(self, request: ImportRequest, peer: Peer) -> ImportReply:
        self.seen.append(("import", peer, request))
        return ImportReply(done=request.yes, name=request.name)

    def _move(self, action: str, request: SelectRequest, peer: Peer, change: dict[str, str] | None) -> SelectReply:
        self.seen.append((action, peer, request))
        found = self._matching(request.selectors)
        free = [entry for entry in found if entry.state != "active"]
        if request.yes:
            names = {entry.entry for entry in free}
            self.backlog = [entry for entry in self.backlog if entry.entry not in names] + (
                [entry.model_copy(update=change) for entry in free] if change else []
            )
        return SelectReply(
            done=request.yes,
            matched=len(found),
            recipients=sum(entry.recipients or 0 for entry in found),
            changed=len(free) if request.yes else 0,
            number=2 if request.yes else None,
            undo_until=NOW_S + 604_800 if request.yes and action == "drop" else None,
            skipped=[f"{entry.entry}: in delivery" for entry in found if entry.state == "active"],
            entries=found,
        )

    async def undo(self, request: UndoRequest, peer: Peer) -> UndoReply:
        self.seen.append(("undo", peer, request))
        if request.number not in (None, 2):
            raise RequestRefused(f"there is no action {request.number}")
        left = [NotUndone(reason="finished since", entries=1, names=["1772438466.0116487+" + "a" * 40])]
        number = 3 if request.yes else None
        return UndoReply(done=request.yes, number=number, of=(await self.journal(9)).actions[-1], changed=4, left=left)

    async def journal(self, limit: int) -> JournalReply:
        paused = JournalAction(number=1, at=NOW_S - 60, by="ann", action="pause", detail="everything", undoable=True)
        dropped = JournalAction(
            number=2, at=NOW_S, by="bob", action="drop", detail="5 entries: list=orchard spam \x1b[31m", entries=5,
            reason="spam \x1b[31m", undoable=True, undo_until=NOW_S + 604_800,
        )  # fmt: skip
        return JournalReply(actions=[paused, dropped][-limit:])

    async def report(self, since_s: float | None) -> Incident:
        return make_incident(Account(), None, BurnDown(), version="0", now_s=NOW_S, live=True, since_s=since_s)

    async def config(self) -> dict[str, Any]:
        return Settings().shown()


@contextmanager
def serving(path: Path, service: SmallService) -> Iterator[None]:
    """The service answering on `path`, in a thread with a loop of its own, so that real subprocesses can ask it."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = ControlServer(path, service)
    try:
        asyncio.run_coroutine_threadsafe(server.start(), loop).result()
        yield
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
