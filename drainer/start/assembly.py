"""Puts the service together: each part of it is made here, of the settings and of the parts below it.

Order     custody (its lock) > ledger > is it the right ledger? > index > composers > pipeline > situation
          Custody first: whoever has its lock is the only one who may change the queue. The ledger next, before anything
          is known of an entry.
Out       Assembled; whatever has to be closed is on the stack, so that it is closed in the opposite order
Raises    UsageError, SettingsError, CustodyRefused, LedgerUnusable, ComposerUnavailable: the start ends, and no entry was
          touched
Not here  what earlier runs left (recover, below, is called once all is there); the tasks (service.py)
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass

import psutil

from drainer import __version__
from drainer.backlog.index import BacklogIndex
from drainer.backlog.readers import EntryReaders
from drainer.clock import Clock
from drainer.compose import Composer
from drainer.compose.left_to_mailman import LeftToMailman
from drainer.compose.list_decorations import ListDecorations
from drainer.compose.mailman2_composer import Mailman2Composer
from drainer.compose.mailman3 import Mailman3Composer
from drainer.compose.mailman3_decorations import Mailman3Decorations
from drainer.destinations.kept_paces import KEPT_AS, paces_from
from drainer.destinations.limits import domains_of
from drainer.duplicates.decoration import Decoration
from drainer.feed.gate import Gate
from drainer.feed.rate_in_force import RateInForce
from drainer.feed.session_pool import SessionPool
from drainer.feed.throttle import Throttle
from drainer.guards.mailman_processes import mailman_processes
from drainer.ledger.contract import Ledger
from drainer.ledger.open import ledger_of, place_of
from drainer.observe.outlook import Outlook
from drainer.observe.side_tasks import SideTasks
from drainer.observe.situation import Situation
from drainer.observe.surroundings import Surroundings
from drainer.operate.pauses_and_rates import PausesAndRates
from drainer.pipeline import Pipeline
from drainer.queuedir.custody import Custody
from drainer.queuedir.entry import Flavour, QueueEntry
from drainer.queuedir.loan import Loan
from drainer.settings import Settings
from drainer.stages.resources import Resources
from drainer.start.ledger_check import LedgerCheck
from drainer.start.site import (
    flavour_of,
    made_index_directory,
    make_ledger_directories,
    prepare,
    refuse_beside_runner,
)


@dataclass(frozen=True, slots=True)
class Assembled:
    """What the service's tasks work with."""

    ledger: Ledger
    ledger_check: LedgerCheck
    loan: Loan
    surroundings: Surroundings
    pipeline: Pipeline
    situation: Situation
    limits: PausesAndRates


async def assemble(
    settings: Settings, clock: Clock, side_tasks: SideTasks, stack: contextlib.AsyncExitStack
) -> Assembled:
    custody = custody_of(settings, clock)
    custody.premises.check()
    flavour = await asyncio.to_thread(flavour_of, settings.mailman, settings.feed.via == "smtp")
    await asyncio.to_thread(refuse_beside_runner, settings, flavour)
    loan = loan_of(settings)
    prepare(custody, loan, settings.ledger)
    stack.callback(custody.close)
    loan.settle()
    ledger = await _open_ledger(settings, clock, stack)
    ledger_check = LedgerCheck(custody, ledger, place_of(settings.ledger), clock)
    await ledger_check.recognise()
    index = _open_index(settings, stack)
    pipeline = await _pipeline(settings, clock, custody, ledger, index, flavour, loan, stack)
    surroundings = Surroundings(settings, clock, flavour)
    outlook = Outlook(settings, clock, pipeline, loan)
    situation = Situation(settings, clock, pipeline, outlook, surroundings, side_tasks)
    limits = PausesAndRates(pipeline, situation, clock)
    return Assembled(ledger, ledger_check, loan, surroundings, pipeline, situation, limits)


async def recover(assembled: Assembled, side_tasks: SideTasks) -> None:
    """Go on where earlier runs ended: doubts, DSNs, refusals, entries in custody, pauses and rates."""
    pipeline = assembled.pipeline
    with side_tasks.guarded("record"):
        await assembled.situation.record_writer.start(__version__)
    await pipeline.in_doubt.recover()
    await pipeline.failures.recover()
    await pipeline.bounces.recover()
    await pipeline.limits.recover()
    await pipeline.session_limits.recover()
    await pipeline.bore.recover()
    await pipeline.paces.recover()
    await pipeline.intake.recover()
    await pipeline.sent_before.recover()
    assembled.limits.apply(await assembled.ledger.operator_state())


def custody_of(settings: Settings, clock: Clock, kind: type[Custody] = Custody) -> Custody:
    return kind(
        settings.mailman.queue_dir,
        clock=clock,
        queues=settings.custody.queues,
        scope=settings.custody.scope,
        bak_age_s=settings.custody.bak_age,
    )


def loan_of(settings: Settings) -> Loan:
    return Loan(settings.mailman.queue_dir, settings.ledger.loan_directory)


def pipeline_of(
    settings: Settings,
    clock: Clock,
    custody: Custody,
    ledger: Ledger,
    index: BacklogIndex,
    composers: dict[Flavour, Composer],
    readers: EntryReaders,
    decoration_of: Callable[[QueueEntry], Decoration | None] | None,
    mailman3_decorations: Mailman3Decorations | None = None,
    counted_domains: frozenset[str] = frozenset(),
    loan: Loan | None = None,
) -> Pipeline:
    """The data path with all it needs to send and to count; nothing runs yet."""
    throttle = Throttle(settings.feed.messages, settings.feed.recipients)
    rate = RateInForce(settings.feed, throttle, clock)
    queue_dir, config = settings.mailman.queue_dir, settings.mailman.config
    return Pipeline(
        Resources(
            settings=settings,
            clock=clock,
            custody=custody,
            index=index,
            ledger=ledger,
            composers=composers,
            readers=readers,
            pool=SessionPool(settings.mta, clock, adaptive=settings.feed.adaptive),
            throttle=throttle,
            gate=Gate(),
            rate=rate,
            counted_domains=counted_domains,
            decoration_of=decoration_of,
            mailman3_decorations=mailman3_decorations,
        ),
        lambda: mailman_processes(queue_dir, config).runner_lives("out"),
        psutil.boot_time,
        loan,
    )


async def _open_ledger(settings: Settings, clock: Clock, stack: contextlib.AsyncExitStack) -> Ledger:
    make_ledger_directories(settings.ledger)
    ledger = ledger_of(settings.ledger, clock)
    await ledger.open()
    stack.push_async_callback(ledger.close)
    return ledger


def _open_index(settings: Settings, stack: contextlib.AsyncExitStack) -> BacklogIndex:
    directory = made_index_directory(settings.ledger)
    stack.callback(shutil.rmtree, directory, ignore_errors=True)
    index = BacklogIndex(directory / "backlog-index.sqlite")
    stack.callback(index.close)
    return index


async def _pipeline(
    settings: Settings,
    clock: Clock,
    custody: Custody,
    ledger: Ledger,
    index: BacklogIndex,
    flavour: Flavour,
    loan: Loan,
    stack: contextlib.AsyncExitStack,
) -> Pipeline:
    composer = await _started_composer(settings, flavour, stack)
    mailman2_decorations = mailman3_decorations = None
    if flavour is Flavour.MAILMAN2:
        mailman2_decorations = ListDecorations(settings.mailman.lists_dir, settings.mailman.settings)
    else:
        mailman3_decorations = _mailman3_decorations(settings, clock, composer, stack)
    counted_domains = settings.feed.limited_domains | await _domains_known_before(settings, clock, ledger)
    readers = stack.enter_context(EntryReaders(decoration_of=mailman2_decorations, counted_domains=counted_domains))
    return pipeline_of(
        settings,
        clock,
        custody,
        ledger,
        index,
        {flavour: composer},
        readers,
        mailman2_decorations,
        mailman3_decorations,
        counted_domains,
        loan,
    )


async def _domains_known_before(settings: Settings, clock: Clock, ledger: Ledger) -> frozenset[str]:
    """Domains with a ceiling that an operator ordered, or that an earlier run learnt."""
    ordered = {order.destination for order in (await ledger.operator_state()).domains}
    learnt = paces_from(await ledger.kept(KEPT_AS), clock.now_s(), clock.monotonic_s())
    names = ordered | learnt.keys()
    return frozenset(domain for name in names for domain in domains_of(name, settings.feed.domain_groups))


async def _started_composer(settings: Settings, flavour: Flavour, stack: contextlib.AsyncExitStack) -> Composer:
    mailman, max_recipients = settings.mailman, settings.feed.max_recipients
    composer: Composer
    if settings.feed.via == "mailman":
        composer = LeftToMailman()
    elif flavour is Flavour.MAILMAN2:
        composer = Mailman2Composer(mailman.lists_dir, mailman.settings, max_recipients)
    else:
        composer = Mailman3Composer(
            mailman.python, mailman.config, mailman.coprocesses, max_recipients, mailman.remember
        )
    stack.push_async_callback(composer.close)
    await composer.start()
    if isinstance(composer, Mailman3Composer):
        composer.require_queue_dir(mailman.queue_dir)
    return composer


def _mailman3_decorations(
    settings: Settings, clock: Clock, composer: Composer, stack: contextlib.AsyncExitStack
) -> Mailman3Decorations:
    """Where we do not compose, a co-process only for this is started when it is first asked."""
    mailman = settings.mailman
    if not isinstance(composer, Mailman3Composer):
        composer = Mailman3Composer(mailman.python, mailman.config, 1, 0, mailman.remember)
        stack.push_async_callback(composer.close)
    return Mailman3Decorations(composer, mailman.queue_dir, clock)
