"""Ledger and custody as they lie on the disk, put together as the service does when it starts.

In    settings, a copy of the ledger, the files in custody
Out   index, situation and operations as the service would have them; a snapshot of that

The service's own code puts together the ledger's holds, deferrals and doubts and the files in custody, so the figures are
those of its next start. Entries still in Mailman's own queues are counted there, as Mailman's.

INVARIANT only-looked: nothing of the site changes. The ledger is a copy, and this custody renames and unlinks nothing.
Held by tests/scenarios/test_without_service.py and tests/without_service/.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from itertools import islice
from pathlib import Path

from drainer.backlog.index import BacklogIndex
from drainer.backlog.readers import EntryReaders
from drainer.clock import SystemClock
from drainer.compose.left_to_mailman import LeftToMailman
from drainer.compose.list_decorations import ListDecorations
from drainer.errors import CustodyRefused
from drainer.estimate.eta import Eta
from drainer.guards.mailman_processes import mailman_processes
from drainer.ledger.contract import Ledger
from drainer.observe.outlook import Outlook
from drainer.observe.side_tasks import SideTasks
from drainer.observe.situation import Situation
from drainer.observe.surroundings import Surroundings
from drainer.operate.pauses_and_rates import PausesAndRates
from drainer.pipeline import Pipeline
from drainer.queuedir.custody import Custody
from drainer.queuedir.entry import Flavour
from drainer.queuedir.moves import Moves
from drainer.report.snapshot import Mta, Rate, Snapshot, WithoutService
from drainer.settings import Settings
from drainer.start.assembly import custody_of, loan_of, pipeline_of
from drainer.start.site import flavour_of
from drainer.without_service.reason import lock_holder

ONE_READS = 200
"""One worker reads fewer entries than this before a second one would have started."""


class SiteAsItLies:
    """What the service would have at its next start, as far as questions need it.

    recorded  the last snapshot in the ledger; None if there is none
    """

    def __init__(self, settings: Settings, pipeline: Pipeline, situation: Situation, recorded: Snapshot | None) -> None:
        self.pipeline = pipeline
        self.situation = situation
        self.limits = PausesAndRates(pipeline, situation, pipeline.resources.clock)
        self.recorded = recorded
        self._settings = settings

    async def read(self, most: int | None) -> None:
        """Read entries, oldest first, until `most` are read in all; None: all of them."""
        index = self.pipeline.resources.index
        totals = index.totals.overall()
        there, unread = totals.entries + totals.held_entries, totals.unread_entries
        wanted = unread if most is None else min(unread, max(0, most - (there - unread)))
        await self.read_these(index.unread(wanted) if wanted else [])

    async def read_these(self, filebases: list[str]) -> None:
        if filebases:
            await self.pipeline.survey.look(filebases)

    async def snapshot(self, why: WithoutService) -> Snapshot:
        """Without the figures that only a running service has, or with those last recorded."""
        found, in_doubt = await self.situation.snapshot(), await self.pipeline.in_doubt.recipients()
        recorded, settings = self.recorded, self._settings
        last = recorded.rate if recorded else Rate()
        return found.model_copy(
            update={
                "pid": lock_holder(self.pipeline.resources.custody.home / "lock"),
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


class _NoMoves(Moves):
    """Refuses each move: the file stays as it lies."""

    def rename(self, source: Path | str, destination: Path | str) -> None:
        raise CustodyRefused(f"{source} is only looked at")

    def unlink(self, path: Path | str) -> None:
        raise CustodyRefused(f"{path} is only looked at")


class _CustodyAsItLies(Custody):
    """Custody for reading alone: no lock is taken, and nothing is moved. Any user who may read the files can use it."""

    _moved_by = _NoMoves

    def promote_bak(self, filebase: str) -> None:
        """Stays as it lies; its recipients are in doubt in the copy of the ledger, as they will be at the next start."""


async def put_together(
    settings: Settings, ledger: Ledger, recorded: Snapshot | None, stack: contextlib.AsyncExitStack
) -> SiteAsItLies:
    """ledger: a copy, open."""
    clock, mailman = SystemClock(), settings.mailman
    custody = custody_of(settings, clock, _CustodyAsItLies)
    own = stack.enter_context(tempfile.TemporaryDirectory(prefix="drainer-look-"))
    index = BacklogIndex(Path(own) / "backlog-index.sqlite")
    stack.callback(index.close)
    flavour = await asyncio.to_thread(flavour_of, mailman, False)
    decorations = ListDecorations(mailman.lists_dir, mailman.settings) if flavour is Flavour.MAILMAN2 else None
    few = sum(1 for directory in (custody.backlog, custody.held) for _ in islice(directory.iterdir(), ONE_READS))
    readers = stack.enter_context(EntryReaders(1 if few < ONE_READS else None, decoration_of=decorations))
    pipeline = pipeline_of(settings, clock, custody, ledger, index, {flavour: LeftToMailman()}, readers, decorations)
    processes = await asyncio.to_thread(mailman_processes, mailman.queue_dir, mailman.config)
    surroundings = Surroundings(settings, clock, flavour, processes)
    await surroundings.count_queues()
    outlook = Outlook(settings, clock, pipeline, loan_of(settings))
    situation = Situation(settings, clock, pipeline, outlook, surroundings, SideTasks(clock))
    site = SiteAsItLies(settings, pipeline, situation, recorded)
    situation.set_state("stopping", "")
    await pipeline.in_doubt.recover()
    await pipeline.paces.recover()
    await pipeline.intake.recover()
    site.limits.apply_unended(await ledger.operator_state())
    return site
