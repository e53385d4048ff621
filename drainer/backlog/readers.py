"""Reads and fingerprints many entries in a small pool of worker processes.

In    paths of .pck and .bak files
Out   for each, in the same order, a summary or the named reason why there is none
Not here  which entry is a duplicate of which

Workers are the second line of defence behind the restricted unpickler. Each has a limit on address space and, per file, on
processor time; a file that needs more fails alone. If a worker dies (the kernel's out-of-memory killer, a crash), its
batch is read again one file at a time, and only a file that kills its worker again is blamed. Processes are started by
`spawn`, which needs no file, no inode and no fork of a process with threads.

Workers give way to the service itself, and to the MTA and Mailman on the same processors: their niceness is higher by
WORKER_NICENESS. Otherwise the event loop waits for a processor while entries are read, and every answer and every session
with it: 9 to 15 ms in one turn of a hundred with 2 processors, now 4 to 5 (measured while 15,000 entries were scanned).
"""

from __future__ import annotations

import functools
import gc
import multiprocessing
import multiprocessing.connection
import os
import resource
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from multiprocessing import resource_tracker
from pathlib import Path
from types import TracebackType
from typing import Self

from drainer.duplicates.decoration import Decoration
from drainer.duplicates.summary import EntrySummary, summarise
from drainer.errors import EntryError, EntryUnreadable, UnsafePickle
from drainer.queuedir.domains import DomainCounts, domain_counts
from drainer.queuedir.entry import QueueEntry
from drainer.queuedir.filebase import ForeignName, parse_name
from drainer.queuedir.read import DEFAULT_MAX_BYTES, read_entry

WORKER_ADDRESS_SPACE_BYTES = 2**30
"""RLIMIT_AS of a worker. An honest entry of 60 MiB needs a third of it."""

WORKER_NICENESS = 10
"""Added to the service's own. With all processors busy, a worker still has a tenth of what the service has."""

FILE_PROCESSOR_S = 60.0
"""Processor time one file may take. An honest entry of 60 MiB takes about a second."""

BATCH_FILES = 50
READER_KILLED = "reader_killed"
CANNOT_READ = "cannot_read"
FOREIGN_NAME = "foreign_name"

_DEFAULT_WORKERS = 2
_BATCHES_AHEAD = 10


@dataclass(frozen=True, slots=True)
class EntryRead:
    """What reading one file gave.

    path           as it was handed in
    summary        None if there is none; then
    reason         EntryError.reason, or "reader_killed" (it ended its worker twice), "cannot_read" (the system refused),
                   "foreign_name" (no queue entry's name; not opened)
    detail         one clause for the operator
    is_unreadable  Mailman could not load it either: it belongs in bad/. False for what may yet be readable: it is held
    recipients     the addresses, only where they were asked for
    domains        how many are in each of its largest domains, and in each of those that were asked for
    """

    path: str
    summary: EntrySummary | None
    reason: str = ""
    detail: str = ""
    is_unreadable: bool = False
    recipients: tuple[str, ...] = ()
    domains: DomainCounts = ()

    def __reduce__(self) -> tuple[type[EntryRead], tuple[object, ...]]:
        return EntryRead, (
            self.path, self.summary, self.reason, self.detail, self.is_unreadable, self.recipients, self.domains,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Task:
    max_bytes: int
    address_space_bytes: int
    file_processor_s: float
    with_recipients: bool
    decoration_of: Callable[[QueueEntry], Decoration | None] | None
    counted_domains: frozenset[str]


_END_WITHIN_S = 5.0


class EntryReaders:
    """Keeps the workers between calls. One caller at a time; from asyncio, call `read` with run_in_executor.

    workers              processes; None: two, or the number of processors if that is less
    max_bytes            a larger file is not read
    with_recipients      give the addresses back too
    decoration_of        the header and footer in a decorated entry's text; called in the workers, so it has to be
                         picklable, and gives None, rather than an error, where the list cannot be read
    counted_domains      count the recipients in these, in lower case, however few they are
    address_space_bytes  bound of each worker (RLIMIT_AS); an entry that needs more is "unsafe_pickle"
    file_processor_s     processor time one file may take; one that needs more is "reader_killed"
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        max_bytes: int = DEFAULT_MAX_BYTES,
        with_recipients: bool = False,
        decoration_of: Callable[[QueueEntry], Decoration | None] | None = None,
        counted_domains: Collection[str] = (),
        address_space_bytes: int = WORKER_ADDRESS_SPACE_BYTES,
        file_processor_s: float = FILE_PROCESSOR_S,
    ) -> None:
        self._workers = workers or min(_DEFAULT_WORKERS, os.cpu_count() or 1)
        self._task = _Task(
            max_bytes, address_space_bytes, file_processor_s, with_recipients, decoration_of, frozenset(counted_domains)
        )
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start the workers before there is anything to read, which takes them a second or so."""
        for _ in range(self._workers):
            self._submit([])

    def close(self) -> None:
        """End the workers, at once. One that hangs in a read of a server that is gone is left behind."""
        if self._pool:
            workers = list(
                (self._pool._processes or {}).values()
            )  # killed, not asked: there is no public way before 3.14
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None
            for worker in workers:
                worker.kill()
            for worker in workers:
                worker.join(_END_WITHIN_S)

    def read(self, paths: Sequence[str | Path]) -> list[EntryRead]:
        """One result per path, in their order. Blocks."""
        return list(self.read_in_order(paths))

    def read_in_order(self, paths: Iterable[str | Path]) -> Iterator[EntryRead]:
        """One result per path, in their order; takes paths as it goes and holds a few batches at a time."""
        names = (os.fspath(path) for path in paths)
        ahead: deque[tuple[list[str], Future[list[EntryRead]] | None]] = deque()
        while True:
            while len(ahead) < self._workers * _BATCHES_AHEAD and (batch := list(islice(names, BATCH_FILES))):
                ahead.append((batch, self._submit(batch)))
            if not ahead:
                return
            batch, future = ahead.popleft()
            results = self._result(future)
            if results is None:
                ahead = deque((waiting, None) for waiting, _ in ahead)
                results = self._one_by_one(batch)
                ahead = deque((waiting, self._submit(waiting)) for waiting, _ in ahead)
            yield from results

    def _submit(self, batch: list[str]) -> Future[list[EntryRead]] | None:
        if self._pool is None:
            self._pool = self._new_pool(self._workers)
        try:
            return self._pool.submit(_read_batch, batch)
        except BrokenProcessPool:
            return None

    def _result(self, future: Future[list[EntryRead]] | None) -> list[EntryRead] | None:
        """None if the pool broke; it is gone then."""
        try:
            if future is not None:
                return future.result()
        except BrokenProcessPool:
            pass
        self.close()
        return None

    def _one_by_one(self, batch: list[str]) -> list[EntryRead]:
        results: list[EntryRead] = []
        pool: ProcessPoolExecutor | None = None
        try:
            for path in batch:
                pool = pool or self._new_pool(1)
                try:
                    results += pool.submit(_read_batch, [path]).result()
                except BrokenProcessPool:
                    pool.shutdown()
                    pool = None
                    results.append(EntryRead(path, None, READER_KILLED, "the process that read it was killed"))
        finally:
            if pool:
                pool.shutdown()
        return results

    def _new_pool(self, workers: int) -> ProcessPoolExecutor:
        _start_quiet_tracker()
        return ProcessPoolExecutor(
            workers,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start_worker,
            initargs=(self._task,),
        )


def read_entries(
    paths: Iterable[str | Path],
    workers: int | None = None,
    *,
    with_recipients: bool = False,
    decoration_of: Callable[[QueueEntry], Decoration | None] | None = None,
) -> Iterator[EntryRead]:
    """Read and fingerprint files once; see EntryReaders."""
    with EntryReaders(workers, with_recipients=with_recipients, decoration_of=decoration_of) as readers:
        yield from readers.read_in_order(paths)


def read_in_this_process(path: str, task: _Task) -> EntryRead:
    """Read and fingerprint one file in this process, unbounded but for `max_bytes`."""
    name = parse_name(path[path.rfind("/") + 1 :])
    if isinstance(name, ForeignName):
        return EntryRead(path, None, FOREIGN_NAME, name.reason)
    try:
        entry = read_entry(path, task.max_bytes)
        summary = summarise(entry, _decoration(entry, task))
    except EntryError as exc:
        return EntryRead(path, None, exc.reason, exc.detail, isinstance(exc, EntryUnreadable) and exc.belongs_in_bad)
    except (MemoryError, RecursionError) as exc:
        return EntryRead(path, None, UnsafePickle.reason, f"costs more than its size justifies: {type(exc).__name__}")
    except OSError as exc:
        return EntryRead(path, None, CANNOT_READ, exc.strerror or str(exc))
    recipients = entry.recipients if task.with_recipients else ()
    return EntryRead(path, summary, recipients=recipients, domains=_domains(entry.recipients, task.counted_domains))


def _domains(recipients: tuple[str, ...], always: frozenset[str]) -> DomainCounts:
    if len(recipients) > _RECIPIENTS_REMEMBERED:
        return domain_counts(recipients, always)
    return _remembered_domains(recipients, always)


_RECIPIENTS_REMEMBERED = 256
_remembered_domains = functools.lru_cache(256)(domain_counts)
"""Most mails of a list have the same recipients. Some 6 MB at most."""


def _decoration(entry: QueueEntry, task: _Task) -> Decoration | None:
    if task.decoration_of is None or not entry.metadata.get("decorated"):
        return None
    return task.decoration_of(entry)


def _start_quiet_tracker() -> None:
    """Python's own process that removes a pool's semaphores. After kill -9 it warns of them on our standard error, which is
    the service's log ("leaked semaphore objects"); it removes them all the same. It takes warning options from here only."""
    sys.warnoptions.append(_TRACKER_SAYS_NOTHING)
    try:
        resource_tracker.ensure_running()
    finally:
        sys.warnoptions.remove(_TRACKER_SAYS_NOTHING)


_TRACKER_SAYS_NOTHING = "ignore:resource_tracker"

_worker_task: _Task | None = None


def _start_worker(task: _Task) -> None:
    global _worker_task
    _worker_task = task
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    os.nice(WORKER_NICENESS)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    ceiling = task.address_space_bytes if hard == resource.RLIM_INFINITY else min(hard, task.address_space_bytes)
    resource.setrlimit(resource.RLIMIT_AS, (ceiling, ceiling))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    gc.freeze()


def _end_with_parent() -> None:
    """A pool's workers would wait for work for ever when their parent is killed: each holds the other's end of the pipe."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def _read_batch(paths: list[str]) -> list[EntryRead]:
    assert _worker_task is not None
    results: list[EntryRead] = []
    gc.disable()  # entries are trees; a collection per file costs a tenth of the time (measured on 20,000 files)
    try:
        for path in paths:
            signal.setitimer(signal.ITIMER_PROF, _worker_task.file_processor_s)
            results.append(read_in_this_process(path, _worker_task))
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        gc.enable()
    return results
