"""Reads the MTA's queue, as the service's user may: how many messages it has, and how many recipients of which domain.

In    which MTA, and how its queue is asked (settings mta.queue, mta.queue_config, mta.queue_command)
Out   QueueByDomain, and the number of messages
Raises  MtaError with the reason, and what would be right
Not here  what a long queue means (guards/mta_queue.py)

Postfix: `postqueue -j`, which any user may run. Postfix then reads all its queue files. For an instance other than the
default, `postqueue -c` is run, because only its main.cf says where its queue is. Exim: `exim -bp`, for its admin users.

The number of messages is wanted every few seconds, and is had for less where that is possible: from Postfix' directories
where they may be read (root, postfix) and answer in time, from `exim -bpc`. Otherwise it is the number of the last listing.

A look that takes long is taken less often: between two looks there is at least PATIENCE times what the last one took, and
so a queue of 100,000 messages costs the MTA's host no more of its time than a short one.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from drainer.blocking import InTime
from drainer.clock import Clock
from drainer.destinations.command import hand_on_lines, program
from drainer.destinations.queue_listing import QueueByDomain, listing_of
from drainer.errors import MtaError
from drainer.settings.mta import MtaSettings

POSTFIX_QUEUES = ("maildrop", "incoming", "active", "deferred")
"""hold/ is left out: Postfix delivers from there only after an operator has released the mail."""

LISTED_WITHIN_S = 120.0
COUNTED_WITHIN_S = WAITED_FOR_S = 5.0
LOOK_EVERY_S = 1.0
PATIENCE = 10.0
"""So many times what the last look took is the least time until the next one: looks have at most 9 % of the time."""

LONGEST_WAIT_S = 300.0


@dataclass(frozen=True, slots=True)
class QueueLook:
    """at_s: when it began, monotonic seconds; took_s: what it cost; trouble: why there is no queue, "" if there is one."""

    at_s: float
    took_s: float = 0.0
    queue: QueueByDomain = field(default_factory=QueueByDomain)
    trouble: str = ""

    @property
    def next_s(self) -> float:
        """When the next look is due, monotonic seconds."""
        return self.at_s + self.took_s + min(max(LOOK_EVERY_S, PATIENCE * self.took_s), LONGEST_WAIT_S)


@dataclass(frozen=True, slots=True)
class Counted:
    """at_s: when, monotonic seconds."""

    messages: int
    at_s: float


class QueueReader:
    """Of one MTA. Several may ask at a time: one look is taken for all of them."""

    def __init__(
        self,
        mta: MtaSettings,
        clock: Clock,
        *,
        spool: Path = Path("/var/spool/postfix"),
        within_s: float = LISTED_WITHIN_S,
        waited_for_s: float = WAITED_FOR_S,
    ) -> None:
        """spool: queue_directory of Postfix' default instance. within_s: of a listing; waited_for_s: of the number alone."""
        self._kind = mta.queue
        self._config = mta.queue_config
        self._command = mta.queue_command
        self._clock = clock
        self._spool = spool
        self._within_s = within_s
        self._waited_for_s = waited_for_s
        self._last: QueueLook | None = None
        self._looking: asyncio.Task[QueueLook] | None = None
        self._counting = InTime[int](waited_for_s)

    @property
    def is_watching(self) -> bool:
        return self._kind != "none"

    async def look(self) -> QueueLook:
        """The last look, or a new one if that is due."""
        if self._looking is None and (self._last is None or self._clock.monotonic_s() >= self._last.next_s):
            self._looking = asyncio.create_task(self._look())
        if self._looking is not None:
            # Another asker waits for the same look: it goes on when this one is cancelled.
            await asyncio.shield(self._looking)
        assert self._last is not None
        return self._last

    @property
    def last(self) -> QueueLook | None:
        """The last look, however long ago."""
        return self._last

    async def messages(self) -> Counted:
        """Messages in the queue now, or at the last look. Raises MtaError."""
        hangs = ""
        if not self._command:
            now_s = self._clock.monotonic_s()
            if self._kind == "exim":
                return Counted(await self._counted_by_exim(), now_s)
            if self._config is None:
                try:
                    return Counted(await self._counted_in_directories(), now_s)
                except (PermissionError, FileNotFoundError):
                    pass
                except TimeoutError as exc:
                    hangs = f"{exc}; "
        # While a look goes on, the last one counts: the guards do not wait for a long queue, or for a command that hangs.
        seen = self._last
        if self._looking is None or seen is None:
            try:
                async with asyncio.timeout(self._waited_for_s):
                    seen = await self.look()
            except TimeoutError as exc:
                if seen is None:
                    raise MtaError(f"{hangs}the queue is not listed yet, after {self._waited_for_s:g} s") from exc
        if seen.trouble:
            raise MtaError(f"{hangs}{seen.trouble}")
        return Counted(seen.queue.messages, seen.at_s)

    async def close(self) -> None:
        """A look under way is ended, and its command with it."""
        if self._looking is not None:
            self._looking.cancel()
            with suppress(asyncio.CancelledError):
                await self._looking

    async def _look(self) -> QueueLook:
        began_s = self._clock.monotonic_s()
        queue, trouble = QueueByDomain(), ""
        try:
            assert self._kind != "none"
            listing = listing_of(self._kind, self._clock.now_s())
            await hand_on_lines(self._listing_command(self._kind), listing.feed, self._within_s)
            queue = listing.value()
        except MtaError as exc:
            trouble = f"{exc}{self._advice(str(exc))}"
        finally:
            self._looking = None
        self._last = QueueLook(began_s, self._clock.monotonic_s() - began_s, queue, trouble)
        return self._last

    def _listing_command(self, kind: Literal["postfix", "exim"]) -> Sequence[str]:
        if self._command:
            return self._command
        if kind == "exim":
            return program("exim", "exim4"), "-bp"
        instance = () if self._config is None else ("-c", str(self._config))
        return program("postqueue"), *instance, "-j"

    async def _counted_in_directories(self) -> int:
        """Raises PermissionError, FileNotFoundError; TimeoutError: the directories are on a disk that does not answer."""
        spool = self._spool
        return await self._counting.ask(f"Postfix's queue in {spool}", lambda: count_postfix_queue(spool))

    async def _counted_by_exim(self) -> int:
        lines: list[str] = []
        try:
            await hand_on_lines((program("exim", "exim4"), "-bpc"), lines.append, COUNTED_WITHIN_S, 2**16)
        except MtaError as exc:
            raise MtaError(f"{exc}{self._advice(str(exc))}") from exc
        return parse_exim_count("\n".join(lines))

    def _advice(self, trouble: str) -> str:
        if self._command:
            return "; it is the command of mta.queue_command"
        if self._kind == "exim" and "ermission denied" in trouble:
            return (
                "; only an admin user may list Exim's queue: right would be drainer's user in Exim's group (Debian: "
                "SupplementaryGroups=Debian-exim in the unit), or queue_list_requires_admin = false in Exim's configuration"
            )
        return '; right would be the MTA that runs here, or mta.queue = "none"' if "not installed" in trouble else ""


def count_postfix_queue(spool: Path) -> int:
    """Queue files in Postfix's directories, hashed ones included. Raises PermissionError, FileNotFoundError."""
    return sum(_count_files(spool / name) for name in POSTFIX_QUEUES)


def parse_exim_count(output: str) -> int:
    """The number `exim -bpc` prints. Raises MtaError for anything else."""
    text = output.strip()
    if not text.isdecimal() or len(text) > 12:
        raise MtaError(f"exim -bpc said {text[:80]!r}")
    return int(text)


def _count_files(directory: Path) -> int:
    count = 0
    with os.scandir(directory) as listing:
        for found in listing:
            if found.is_dir(follow_symlinks=False):
                with suppress(FileNotFoundError):
                    count += _count_files(Path(found.path))
            else:
                count += 1
    return count
