"""What can be asked while the service does not run or does not answer: from a copy of its ledger, and custody as it lies.

In    settings; why the service was not asked
Out   the same answers the service gives (control/messages.py, Answers), with WithoutService saying as of when
Not here  asking the service first (cli/options.py); the incident report (report/incident/from_ledger.py)

What the service does when it starts is done here on the copy: the ledger's holds, deferrals and doubts, the files in
custody and what reading them shows are put together by the same code, so the figures are those of its next start. What
still lies in Mailman's own queues is counted there, as Mailman's.

INVARIANT only-looked: nothing of the site changes. The ledger is a copy, and this custody renames and unlinks nothing.
Held by tests/scenarios/test_without_service.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from itertools import islice
from pathlib import Path

import psutil

from drainer.backlog.index import BacklogIndex
from drainer.backlog.readers import Surveyor
from drainer.backlog.selection import Selectors
from drainer.clock import SystemClock
from drainer.compose.left_to_mailman import LeftToMailman
from drainer.compose.list_decorations import ListDecorations
from drainer.control.messages import EntriesReply, EtaReply, JournalReply, ShowReply
from drainer.errors import CustodyRefused, DrainerError, LedgerUnusable, SiteUnreadable
from drainer.estimate.eta import Eta
from drainer.feed.gate import Gate
from drainer.feed.rate_in_force import RateInForce
from drainer.feed.session_pool import SessionPool
from drainer.feed.throttle import Throttle
from drainer.files.regular_file import read_regular
from drainer.guards.mailman_processes import mailman_processes
from drainer.in_doubt.resolve import InDoubt
from drainer.ledger.account import latest_event
from drainer.ledger.copied import CopiedLedger, copied_ledger
from drainer.ledger.evidence import Event
from drainer.ledger.records import INTAKE, OperatorState
from drainer.ledger.sqlite import SqliteLedger
from drainer.ledger.sqlite_file import open_reader
from drainer.observe.outlook import Outlook
from drainer.observe.side_tasks import SideTasks
from drainer.observe.situation import Situation
from drainer.observe.surroundings import Surroundings
from drainer.operate.operations import ServiceOperations
from drainer.pipeline import Pipeline
from drainer.queuedir.custody import Custody
from drainer.queuedir.entry import Flavour
from drainer.queuedir.loan import Loan
from drainer.queuedir.scan import CUSTODY_DIRECTORY
from drainer.report.present import Present
from drainer.report.recorder import PRESENT, unpacked
from drainer.report.snapshot import Mta, Rate, SilentState, Snapshot, WithoutService
from drainer.settings import Settings
from drainer.stages.parts import Parts
from drainer.start.site import flavour_of
from drainer.via_mailman.handover import Release

_MOST_LOCK_BYTES = 4096

log = logging.getLogger("drainer")

READ_AT_MOST = 2_000
"""Entries that are read to count recipients; a status of a million entries must not take minutes. (2,000 take two workers
about two seconds.) The others are counted as not read yet."""


ONE_READS = 200
"""Fewer entries than that one worker has read before a second would have started."""


class FromDisk:
    """Implements control.messages.Answers."""

    def __init__(self, operations: ServiceOperations, looked: _Looked, why: WithoutService) -> None:
        self._operations = operations
        self._looked = looked
        self._why = why

    async def status(self) -> Snapshot:
        await self._looked.read(READ_AT_MOST)
        return await self._looked.snapshot(self._why)

    async def eta(
        self, at_recipients_per_s: float | None = None, by_s: float | None = None, list_name: str = ""
    ) -> EtaReply:
        """No finish time: what is left, the rate last recorded, and what a rate asked about would mean from now on."""
        await self._looked.read(None if list_name else READ_AT_MOST)
        reply = await self._operations.eta(at_recipients_per_s, by_s, list_name)
        snapshot = await self._looked.snapshot(self._why)
        recorded, of_list = self._looked.recorded, reply.list
        if of_list is not None:
            of_list = of_list.model_copy(update={"eta": snapshot.eta, "if_resumed": None})
        return reply.model_copy(
            update={
                "eta": snapshot.eta,
                "if_resumed": None,
                "chance": None,
                "list": of_list,
                "unread_entries": snapshot.backlog.unread_entries,
                "shown_recipients_per_s": recorded.rate.recipients_per_s if recorded else None,
                "without_service": self._why,
            }
        )

    async def entries(self, selectors: Selectors, limit: int) -> EntriesReply:
        """All are read where the selectors ask for what only reading shows; else only those that are listed."""
        read_for = (selectors.list, selectors.sender, selectors.subject, selectors.message_id, selectors.duplicate)
        if any(one is not None for one in read_for):
            await self._looked.read(None)
        else:
            listed = await self._operations.entries(selectors, limit)
            await self._looked.read_these([line.entry for line in listed.entries if line.recipients is None])
        reply = await self._operations.entries(selectors, limit)
        return reply.model_copy(update={"without_service": self._why})

    async def journal(self, limit: int) -> JournalReply:
        reply = await self._operations.journal(limit)
        return reply.model_copy(update={"without_service": self._why})

    async def show(self, key: str) -> ShowReply:
        """Raises DrainerError if nothing is known as that."""
        if "@" in key:
            await self._looked.read(None)
        else:
            listed = await self._operations.entries(Selectors(entry=key), 1)
            await self._looked.read_these([line.entry for line in listed.entries])
        try:
            reply = await self._operations.show(key)
        except KeyError as exc:
            raise DrainerError(f"no entry and no message known as {key!r}") from exc
        return reply.model_copy(update={"without_service": self._why})


class _Looked:
    """What stands in for the service (operate/operations.py, Running), all of it put together anew.

    recorded  the last snapshot in the ledger; None if there is none
    """

    def __init__(self, settings: Settings, pipeline: Pipeline, situation: Situation, recorded: Snapshot | None) -> None:
        self.operator = OperatorState()
        self.deciding = asyncio.Lock()
        self.pipeline = pipeline
        self.situation = situation
        self.recorded = recorded
        self._settings = settings

    def apply(self, operator: OperatorState) -> None:
        """Pauses and rates as they will be in force at the next start."""
        now_s, parts = time.time(), self.pipeline.parts
        in_force = tuple(pause for pause in operator.pauses if pause.until_s is None or pause.until_s > now_s)
        self.operator = self.situation.operator = replace(operator, pauses=in_force)
        parts.gate.close_lists(frozenset(pause.list_id for pause in in_force if pause.list_id not in ("", INTAKE)))
        parts.rate.limit(self._settings.feed, operator.messages_per_s, operator.recipients_per_s)

    async def read(self, most: int | None) -> None:
        """Read entries, oldest first, until `most` were read at all; None: all there are."""
        index = self.pipeline.parts.index
        totals = index.totals()
        there, unread = totals.entries + totals.held_entries, totals.unread_entries
        wanted = unread if most is None else min(unread, max(0, most - (there - unread)))
        await self.read_these(index.unread(wanted) if wanted else [])

    async def read_these(self, filebases: list[str]) -> None:
        if filebases:
            await self.pipeline.survey.look(filebases)

    async def snapshot(self, why: WithoutService) -> Snapshot:
        """With what only a running service can see left out, or as it was when last recorded."""
        found, in_doubt = await self.situation.snapshot(), await self.pipeline.parts.in_doubt.recipients()
        recorded, settings = self.recorded, self._settings
        last = recorded.rate if recorded else Rate()
        return found.model_copy(
            update={
                "pid": lock_holder(self.pipeline.parts.custody.home / "lock"),
                "state": why.state,
                "reason": why.reason,
                "since": why.since,
                "backlog": found.backlog.model_copy(update={"in_doubt_recipients": in_doubt}),
                "eta": found.eta if found.eta.state == "done" else Eta(state="stalled"),
                "if_resumed": None,
                "rate": found.rate.model_copy(
                    update={"messages_per_s": last.messages_per_s, "recipients_per_s": last.recipients_per_s}
                ),
                "mta": Mta(host=settings.mta.host, port=settings.mta.port),
                "mailman": found.mailman.model_copy(update={"outgoing_runner_competes": False}),
                "stops": [],
                "without_service": why,
                **({"forecasts": recorded.forecasts} if recorded else {}),
            }
        )


class _CustodyAsItLies(Custody):
    """Custody that is looked at, by anybody who may read it: there is no lock, and nothing is moved."""

    def _rename(self, source: Path | str, destination: Path | str) -> None:
        raise CustodyRefused(f"{source} is only looked at")

    def _unlink(self, path: Path | str) -> None:
        raise CustodyRefused(f"{path} is only looked at")

    def promote_bak(self, filebase: str) -> None:
        """Stays as it lies; its recipients are in doubt in the copy of the ledger, as they will be at the next start."""


@asynccontextmanager
async def from_disk(settings: Settings, state: SilentState, reason: str = "") -> AsyncIterator[FromDisk]:
    """reason: why the service was not asked; "": how it ended, as far as it wrote that down.

    Raises  SiteUnreadable: ledger or custody is not there, or not for this user to read; LedgerUnusable
    """
    with _no_log_lines(), copied_ledger(settings.ledger.path) as copied:
        _require_readable(settings.mailman.queue_dir / CUSTODY_DIRECTORY)
        async with contextlib.AsyncExitStack() as stack:
            ledger = SqliteLedger(copied.path)
            try:
                await ledger.open()
            except LedgerUnusable as exc:
                raise LedgerUnusable(str(exc).replace(str(copied.path), str(settings.ledger.path))) from exc
            stack.push_async_callback(ledger.close)
            kept = unpacked(await ledger.kept(PRESENT), Present)
            looked = await _put_together(settings, ledger, kept.snapshot if kept else None, stack)
            why = _why(settings, state, reason, copied, looked.recorded)
            yield FromDisk(ServiceOperations(looked), looked, why)


async def _put_together(
    settings: Settings, ledger: SqliteLedger, recorded: Snapshot | None, stack: contextlib.AsyncExitStack
) -> _Looked:
    clock, mailman = SystemClock(), settings.mailman
    custody = _CustodyAsItLies(
        mailman.queue_dir,
        clock=clock,
        queues=settings.custody.queues,
        scope=settings.custody.scope,
        bak_age_s=settings.custody.bak_age,
    )
    own = stack.enter_context(tempfile.TemporaryDirectory(prefix="drainer-look-"))
    index = BacklogIndex(Path(own) / "backlog-index.sqlite")
    stack.callback(index.close)
    flavour = await asyncio.to_thread(flavour_of, mailman, False)
    decorations = ListDecorations(mailman.lists_dir, mailman.settings) if flavour is Flavour.MAILMAN2 else None
    few = sum(1 for directory in (custody.backlog, custody.held) for _ in islice(directory.iterdir(), ONE_READS))
    surveyor = stack.enter_context(Surveyor(1 if few < ONE_READS else None, decoration_of=decorations))
    throttle = Throttle(settings.feed.messages, settings.feed.recipients)
    rate = RateInForce(settings.feed, throttle, clock)
    runner_lives = mailman_processes(mailman.queue_dir, mailman.config).runner_lives
    release = Release(
        settings, clock, custody, ledger, index, throttle, rate, lambda: runner_lives("out"), psutil.boot_time
    )
    pipeline = Pipeline(
        Parts(
            settings=settings,
            clock=clock,
            custody=custody,
            index=index,
            ledger=ledger,
            composers={flavour: LeftToMailman()},
            surveyor=surveyor,
            pool=SessionPool(settings.mta, clock),
            throttle=throttle,
            gate=Gate(),
            in_doubt=InDoubt(settings, ledger, clock),
            rate=rate,
            release=release,
            decoration_of=decorations,
        )
    )
    loan = Loan(mailman.queue_dir, settings.ledger.path.with_name(f"{settings.ledger.path.name}-loan"))
    surroundings = Surroundings(settings, clock)
    surroundings.flavour = flavour.value
    surroundings.mailman = await asyncio.to_thread(mailman_processes, mailman.queue_dir, mailman.config)
    await surroundings.count_queues()
    outlook = Outlook(settings, clock, pipeline, loan)
    looked = _Looked(
        settings, pipeline, Situation(settings, clock, pipeline, outlook, surroundings, SideTasks(clock)), recorded
    )
    looked.situation.set_state("stopping", "")
    await pipeline.parts.in_doubt.recover()
    await pipeline.intake.recover()
    looked.apply(await ledger.operator_state())
    return looked


def _require_readable(custody: Path) -> None:
    """Raises SiteUnreadable."""
    try:
        for directory in (custody / "backlog", custody / "held"):
            next(directory.iterdir(), None)
    except FileNotFoundError as exc:
        raise SiteUnreadable(
            f"{exc.filename}: there is no such directory, so drainer never took an entry of this queue; is "
            "mailman.queue_dir right?"
        ) from exc
    except OSError as exc:
        raise SiteUnreadable(
            f"{exc.filename} cannot be read: {exc.strerror}; right would be to ask as root, or as the user Mailman runs as"
        ) from exc


def _why(
    settings: Settings, state: SilentState, reason: str, copied: CopiedLedger, recorded: Snapshot | None
) -> WithoutService:
    asked_s = time.time()
    as_of_s = min(copied.written_s, asked_s)
    found = WithoutService(
        state=state,
        reason=reason,
        since=as_of_s,
        as_of=as_of_s,
        recorded_at=recorded.at if recorded else None,
        recorded_recipients=recorded.backlog.recipients if recorded else None,
    )
    if state == "not_answering":
        return found.model_copy(update={"since": asked_s})
    if pid := lock_holder(settings.mailman.queue_dir / CUSTODY_DIRECTORY / "lock"):
        listens = f"process {pid} has the queue, but does not listen on {settings.control.socket} (yet)"
        return found.model_copy(update={"state": "not_answering", "reason": listens, "since": asked_s})
    with closing(open_reader(copied.path)) as reader:
        last = latest_event(reader, "run")
    if last is None:
        return found
    if last.what == "stopped":
        return found.model_copy(update={"reason": _ended(last), "since": last.at_s})
    return found.model_copy(update={"reason": KILLED})


KILLED = "it was killed or crashed, or the machine went down"


def _ended(last: Event) -> str:
    return {
        "SIGTERM": "it was stopped",
        "SIGINT": "it was stopped by Ctrl-C",
        "": "it ended by an error: see its log",
    }.get(last.detail, last.detail)


def lock_holder(lock: Path) -> int:
    """The process that has custody's lock, 0 if none has: read from /proc/locks, since to try the lock is to take it."""
    with contextlib.suppress(OSError, ValueError):
        inode, pid = lock.stat().st_ino, int(read_regular(lock, _MOST_LOCK_BYTES, follow=False)[:16].split(b"\n")[0])
        for line in Path("/proc/locks").read_text("ascii").splitlines():
            fields = line.split()
            if "FLOCK" in fields and str(pid) in fields and any(field.endswith(f":{inode}") for field in fields):
                return pid
    return 0


@contextlib.contextmanager
def _no_log_lines() -> Iterator[None]:
    """What the stages log is of the copy, and nothing that happened."""
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before
