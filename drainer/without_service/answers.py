"""The service's answers, given without it.

In    settings; why the service was not asked
Out   the same answers the service gives (control/operations.py, Answers), with WithoutService saying as of when
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

from drainer.backlog.selection import Selectors
from drainer.control.messages.domains import DomainsReply
from drainer.control.messages.entries import EntriesReply, ShowReply
from drainer.control.messages.finish import EtaReply
from drainer.control.messages.journal import JournalReply
from drainer.errors import DrainerError, LedgerUnusable, SiteUnreadable
from drainer.ledger.open import copy_of, ledger_of_copy, place_of
from drainer.operate.operations import ServiceOperations
from drainer.queuedir.scan import CUSTODY_DIRECTORY
from drainer.report.inventory import Inventory
from drainer.report.record_writer import PRESENT, unpacked
from drainer.report.snapshot import SilentState, Snapshot, WithoutService
from drainer.settings import Settings
from drainer.without_service.reason import why_silent
from drainer.without_service.site_as_it_lies import SiteAsItLies, put_together

log = logging.getLogger("drainer")

READ_AT_MOST = 2_000
"""Entries that are read to count recipients. (2,000 take two workers about two seconds; a status of a million entries must
not take minutes.) The others count as not read yet."""


class FromDisk:
    """Implements control.operations.Answers."""

    def __init__(self, operations: ServiceOperations, site: SiteAsItLies, why: WithoutService) -> None:
        self._operations = operations
        self._site = site
        self._why = why

    async def status(self) -> Snapshot:
        await self._site.read(READ_AT_MOST)
        return await self._site.snapshot(self._why)

    async def eta(
        self, at_recipients_per_s: float | None = None, by_s: float | None = None, list_name: str = ""
    ) -> EtaReply:
        """No finish time, but the recipients left, the rate last recorded, and what the rate asked about would mean."""
        await self._site.read(None if list_name else READ_AT_MOST)
        reply = await self._operations.eta(at_recipients_per_s, by_s, list_name)
        snapshot = await self._site.snapshot(self._why)
        recorded, of_list = self._site.recorded, reply.list
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
        """Reads all entries if a selector needs their content, else only those that are listed."""
        read_for = (selectors.list, selectors.sender, selectors.subject, selectors.message_id, selectors.duplicate)
        if any(one is not None for one in read_for):
            await self._site.read(None)
        else:
            listed = await self._operations.entries(selectors, limit)
            await self._site.read_these([line.entry for line in listed.entries if line.recipients is None])
        reply = await self._operations.entries(selectors, limit)
        return reply.model_copy(update={"without_service": self._why})

    async def journal(self, limit: int) -> JournalReply:
        reply = await self._operations.journal(limit)
        return reply.model_copy(update={"without_service": self._why})

    async def domains(self, name: str = "", limit: int = 20) -> DomainsReply:
        """What operators ordered and what was learnt, and what waits here; nothing of what waits behind the MTA."""
        await self._site.read(READ_AT_MOST)
        reply = await self._operations.domains(name, limit)
        return reply.model_copy(update={"without_service": self._why})

    async def show(self, key: str) -> ShowReply:
        """Raises DrainerError if neither an entry nor a message of that name is known."""
        if "@" in key:
            await self._site.read(None)
        else:
            listed = await self._operations.entries(Selectors(entry=key), 1)
            await self._site.read_these([line.entry for line in listed.entries])
        try:
            reply = await self._operations.show(key)
        except KeyError as exc:
            raise DrainerError(f"no entry and no message known as {key!r}") from exc
        return reply.model_copy(update={"without_service": self._why})


@asynccontextmanager
async def from_disk(settings: Settings, state: SilentState, reason: str = "") -> AsyncIterator[FromDisk]:
    """reason: why the service was not asked; "": how the service ended, as far as the ledger has it.

    Raises  SiteUnreadable: ledger or custody is not there, or not for this user to read; LedgerUnusable
    """
    with _no_log_lines(), copy_of(settings.ledger) as copied:
        _require_readable(settings.mailman.queue_dir / CUSTODY_DIRECTORY)
        async with contextlib.AsyncExitStack() as stack:
            ledger = ledger_of_copy(copied)
            try:
                await ledger.open()
            except LedgerUnusable as exc:
                raise LedgerUnusable(str(exc).replace(str(copied.path), place_of(settings.ledger))) from exc
            stack.push_async_callback(ledger.close)
            kept = unpacked(await ledger.kept(PRESENT), Inventory)
            site = await put_together(settings, ledger, kept.snapshot if kept else None, stack)
            why = why_silent(settings, state, reason, copied, site.recorded)
            yield FromDisk(ServiceOperations(site.pipeline, site.situation, site.limits), site, why)


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


@contextlib.contextmanager
def _no_log_lines() -> Iterator[None]:
    """The stages work on a copy here, so their log lines would be about nothing that happened."""
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before
