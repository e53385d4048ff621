"""The host around us: free disk, load, the MTA's queue, Mailman's processes and queues. Looked at every few seconds.

Out   the guards' verdicts, and Mailman as it is, for the snapshot
Not here  what follows from a verdict (rounds/looking_around.py), how each is reached (guards/)
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from drainer.blocking import InTime
from drainer.clock import Clock
from drainer.destinations.looking import BehindTheMta
from drainer.errors import MtaError
from drainer.guards.beside_runner import wanted_by
from drainer.guards.disk import Places, disk_guards
from drainer.guards.machine import machine_guards
from drainer.guards.mailman import Mailman, QueueCount, SkippedFiles
from drainer.guards.mailman_processes import MailmanProcesses, mailman_processes
from drainer.guards.mta_queue import NOT_WATCHED, MtaQueue, uncounted
from drainer.guards.mta_spool import Spool, mta_spool
from drainer.guards.verdict import Guard, Marks, strictest, unknown
from drainer.queuedir.entry import Flavour
from drainer.queuedir.scan import QueueCensus, QueueCounts
from drainer.settings import Settings
from drainer.settings.surroundings import GuardSettings
from drainer.text.logfmt import logfmt

log = logging.getLogger("drainer")

LOOK_WITHIN_S = 30.0
"""A look at a disk that does not answer in this time counts as failed; the next look tries again."""
SPOOL_AGAIN_S = 60.0
"""An MTA that could not say where its spool is may have been busy: after an outage the whole host is."""


class Surroundings:
    """As they were at the last `look`.

    flavour  of the Mailman whose queue this is
    mailman  its processes, if they have been looked at already
    """

    def __init__(
        self, settings: Settings, clock: Clock, flavour: Flavour, mailman: MailmanProcesses | None = None
    ) -> None:
        self.settings = settings
        self.guards: list[Guard] = []
        self.mailman = MailmanProcesses(()) if mailman is None else mailman
        self.queues: list[QueueCount] = []
        self._clock = clock
        self._census = QueueCensus(settings.mailman.queue_dir)
        self._mta_queue = MtaQueue(settings.mta.queue_high, settings.mta.queue_low)
        self.behind_the_mta = BehindTheMta(settings.mta, clock)
        self.flavour = flavour.value
        self._competing = ""
        self._disks = InTime[list[Guard]](LOOK_WITHIN_S)
        self._processes = InTime[MailmanProcesses](LOOK_WITHIN_S)
        self._counts = InTime[list[QueueCounts]](LOOK_WITHIN_S)
        self._unmeasured = ""
        self._spool: Spool | None = None
        self._spool_asked_s = 0.0

    def reconfigure(self, settings: Settings) -> None:
        """Settings read again. The judgement of the MTA's queue starts anew only if its settings changed: between the two
        marks, a length stops or lets go as before."""
        if settings.mta != self.settings.mta:
            self._spool = None
            high, low = settings.mta.queue_high, settings.mta.queue_low
            self._mta_queue = MtaQueue(high, low, stopped=self._mta_queue.stopped)
            self.behind_the_mta.reconfigure(settings.mta)
        self.settings = settings

    def of_mailman(self, skipped: Sequence[SkippedFiles] = (), **more: int) -> Mailman:
        """As the snapshot has it. more: fields that only others know."""
        settings, seen = self.settings, self.mailman
        competes = settings.feed.via == "smtp" and settings.custody.scope == "all"
        return Mailman(
            flavour=self.flavour,
            queue_dir=str(settings.mailman.queue_dir),
            runners=seen.runners,
            skipped=list(skipped),
            queues=self.queues,
            outgoing_runner_competes=competes and bool(seen.delivering(self.flavour)),
            runner_wanted_by=wanted_by(settings),
            master_running=seen.master_lives,
            missing_runners=list(seen.missing),
            **more,
        )

    async def look(self, fed: int = 0) -> Guard:
        """Look anew; the strictest verdict. fed: messages that the MTA has had from us, in all."""
        mailman, guards = self.settings.mailman, self.settings.guards
        before = {guard.name: guard.verdict for guard in self.guards}
        spool = await self._mta_spool()
        ledger = self.settings.ledger
        places = Places(ledger.path, mailman.queue_dir, ledger.state_dir, spool.directory)
        found = await self._disks.ask(
            "free space of queue and ledger",
            lambda: disk_guards(places, guards.min_free_bytes, guards.min_free_inodes, before),
        )
        if spool.why:
            found.append(unknown("mta_spool_bytes", "go", f"not visible: {spool.why}"))
        found += machine_guards(Marks(guards.max_load, guards.stop_load), _pressures(guards), before)
        self.mailman = await self._processes.ask(
            "Mailman's processes", lambda: mailman_processes(mailman.queue_dir, mailman.config)
        )
        competition = self.of_mailman().competition
        runners = self.mailman.guard(self.settings.feed.via == "mailman", competition)
        if competition not in (self._competing, ""):
            log.warning(logfmt(event="competing_runner", detail=competition))
        self._competing = competition
        queue = await self._queue_guard(fed)
        self.guards = [*found, queue, runners]
        unmeasured = queue.reason if queue.value is None and queue.verdict != "go" else ""
        if unmeasured not in (self._unmeasured, ""):
            log.warning(logfmt(event="guard_cannot_tell", guard=queue.name, detail=unmeasured))
        self._unmeasured = unmeasured
        return strictest(self.guards)

    async def _queue_guard(self, fed: int) -> Guard:
        reader = self.behind_the_mta.queue
        if not reader.is_watching:
            return NOT_WATCHED
        try:
            counted = await reader.messages()
            return self._mta_queue.judge(counted.messages, counted.at_s, fed)
        except MtaError as exc:
            return uncounted(str(exc), was_stopped=self._mta_queue.stopped)

    async def _mta_spool(self) -> Spool:
        """Asked once; again when the settings of the MTA have changed, and after a while if it could not say."""
        moment_s = self._clock.monotonic_s()
        if self._spool is None or (self._spool.why and moment_s - self._spool_asked_s >= SPOOL_AGAIN_S):
            mta = self.settings.mta
            self._spool_asked_s = moment_s
            self._spool = await mta_spool(mta.queue, mta.queue_config, mta.queue_command)
        return self._spool

    async def count_queues(self) -> None:
        """Count the entries in each of Mailman's queues; a queue that cannot be read keeps its last figures."""
        now_s = self._clock.now_s()
        try:
            counted = await self._counts.ask("Mailman's queues", lambda: self._census.count(now_s))
        except TimeoutError:
            raise
        except OSError:
            return
        self.queues = [
            QueueCount(
                name=queue.name,
                entries=queue.entries,
                oldest_age_s=None if queue.oldest_s is None else max(0.0, now_s - queue.oldest_s),
            )
            for queue in counted
        ]


def _pressures(guards: GuardSettings) -> dict[str, Marks]:
    return {
        "memory": Marks(guards.memory_pressure, guards.memory_pressure_stop),
        "io": Marks(guards.io_pressure, guards.io_pressure_stop),
        "cpu": Marks(guards.cpu_pressure, guards.cpu_pressure_stop),
    }
