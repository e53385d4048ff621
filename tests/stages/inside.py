"""The service inside the test's own process, so that a test can stop it between a decision and its effect.

`Inside` is one run of the real service on real files, a real ledger and a real sink; only reading entries, which takes
processes of their own, is done in a thread. `halted` holds up one kind of write to the ledger: what comes meanwhile is the
story.
"""

from __future__ import annotations

import asyncio
import getpass
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import drainer.start.assembly
from drainer.backlog.readers import EntryRead
from drainer.backlog.selection import Selectors
from drainer.control.messages.base import Peer
from drainer.control.messages.entries import SelectRequest
from drainer.demo.sample_queue import Outage
from drainer.demo.sink import Sink
from drainer.operate.operations import ServiceOperations
from drainer.report.snapshot import Snapshot
from drainer.service import Service
from drainer.settings_file import load_settings
from drainer.stages.resources import Resources
from tests.reads_here import ReadsHere
from tests.runners_here import looked_for
from tests.scenarios.running import site_settings

WITHIN_S = 60.0
ME = Peer(pid=os.getpid(), uid=os.getuid(), user=getpass.getuser())


class HeldUp:
    """Calls of one method of the ledger: each waits, before or after it was carried out, until `go_on`.

    reached  set once a call waits
    """

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self._may_go_on = asyncio.Event()

    def go_on(self) -> None:
        self._may_go_on.set()

    async def wait(self) -> None:
        self.reached.set()
        await self._may_go_on.wait()


class Inside:
    """One run. `service` as it is."""

    def __init__(self, service: Service, outage: Outage, sink: Sink, main: asyncio.Task[int]) -> None:
        self.service = service
        self.outage = outage
        self.sink = sink
        self.main = main

    @property
    def asks(self) -> ServiceOperations:
        return ServiceOperations(self.service.pipeline, self.service.situation, self.service.limits)

    @property
    def resources(self) -> Resources:
        return self.service.pipeline.resources

    @property
    def custody(self) -> Path:
        return self.outage.queue_dir / "drainer"

    async def until(self, what: str, is_so: Callable[[], object]) -> None:
        """Wait for it. The service ending by itself ends the story."""
        try:
            async with asyncio.timeout(WITHIN_S):
                while not is_so():
                    if self.main.done():
                        self.main.result()
                        raise AssertionError(f"the service ended before: {what}")
                    await asyncio.sleep(0.002)
        except TimeoutError:
            raise AssertionError(f"not within {WITHIN_S} s: {what}; {await self.status()}") from None

    async def status(self) -> Snapshot:
        return await self.asks.status()

    async def ended(self) -> int:
        async with asyncio.timeout(WITHIN_S):
            return await self.main

    def state_of(self, file: Path) -> str | None:
        return self.resources.index.state_of(file.stem)

    def files(self, directory: str) -> set[str]:
        """Names of entries in one of our directories."""
        return {path.name for path in (self.custody / directory).iterdir()}

    @contextmanager
    def held_up(self, method: str, *, after: bool = False) -> Iterator[HeldUp]:
        """The next calls of a method of the ledger wait until go_on() or the end of the block."""
        ledger, held = self.resources.ledger, HeldUp()
        original = getattr(ledger, method)

        async def call(*arguments: Any, **named: Any) -> Any:
            if after:
                found = await original(*arguments, **named)
                await held.wait()
                return found
            await held.wait()
            return await original(*arguments, **named)

        setattr(ledger, method, call)
        try:
            yield held
        finally:
            setattr(ledger, method, original)
            held.go_on()

    @contextmanager
    def refusing(self, method: str, error: Exception) -> Iterator[None]:
        """Every call of a method of the ledger fails."""
        ledger = self.resources.ledger
        original = getattr(ledger, method)

        async def call(*arguments: Any, **named: Any) -> Any:
            await asyncio.sleep(0)
            raise error

        setattr(ledger, method, call)
        try:
            yield
        finally:
            setattr(ledger, method, original)

    @contextmanager
    def not_reading(self, *, after: bool = False) -> Iterator[HeldUp]:
        """Entries are read only after go_on(); `after`: they are read, but the result is held back. The block ends it."""
        readers, held, loop = self.resources.readers, HeldUp(), asyncio.get_running_loop()
        read = readers.read

        def reading(paths: Sequence[str | Path]) -> list[EntryRead]:
            found = read(paths) if after else []
            asyncio.run_coroutine_threadsafe(held.wait(), loop).result()
            return found or read(paths)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(readers, "read", reading)
            try:
                yield held
            finally:
                held.go_on()

    def arrive(self, file: Path, content: bytes) -> None:
        """As Mailman writes it into out/."""
        half_written = file.with_suffix(".tmp")
        half_written.write_bytes(content)
        half_written.rename(file)

    def of(self, file: Path, **more: Any) -> SelectRequest:
        """A request for this entry alone."""
        return SelectRequest(selectors=Selectors(entry=file.stem), yes=True, **more)

    def taken(self) -> Counter[tuple[str, str]]:
        """(Message-ID, recipient) -> how often the sink has it; DSNs left out."""
        return Counter((one.message_id, name) for one in self.sink.taken if one.reverse_path for name in one.recipients)

    def owed(self) -> Counter[tuple[str, str]]:
        return Counter((identity, name) for (_, identity), names in self.outage.owed.items() for name in names)


@asynccontextmanager
async def inside(
    home: Path, outage: Outage, sink: Sink, *, until_empty: bool = False, **sections: dict[str, Any]
) -> AsyncIterator[Inside]:
    """A run of the service that ends with the block."""
    mailman = {"flavour": "mailman2", "queue_dir": outage.queue_dir, "lists_dir": outage.lists_dir}
    custody = {"poll": "20ms", **sections.pop("custody", {})}
    settings = site_settings(home, sink.port, mailman, custody=custody, **sections)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drainer.start.assembly, "EntryReaders", ReadsHere)
        service = Service(load_settings(settings), until_empty, lambda: load_settings(settings))
        main = asyncio.create_task(service.main())
        running = Inside(service, outage, sink, main)
        try:
            with looked_for():
                await running.until(
                    "it runs", lambda: hasattr(service, "situation") and service.situation.state != "starting"
                )
            yield running
        finally:
            service.stop("the story is over")
            with suppress(BaseException):
                async with asyncio.timeout(WITHIN_S):
                    await main
