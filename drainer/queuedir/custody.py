"""Custody of queue entries: the only code that renames or unlinks there.

In    Mailman's queue_dir, entries by name
Out   the same files, moved: taken, held, suppressed, handed back, preserved as bad, finished
Raises    EntryVanished if an entry is not where it should be; CustodyRefused if the filesystem refuses (no space to grow a
      directory, read-only, no permission): then nothing has moved
Not here  why an entry moves: the callers decide, this keeps every file whole. How one move is safe: moves.py. The
      directories and the lock: premises.py
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Self

from drainer.clock import Clock
from drainer.errors import CustodyRefused, EntryVanished
from drainer.queuedir.filebase import (
    HOME_QUEUE,
    QueueFile,
    Suffix,
    custody_filebase,
    mailman_filebase,
    parse_name,
    queue_of,
    renamed_filebase,
)
from drainer.queuedir.known_names import KnownNames
from drainer.queuedir.moves import Moves, find, is_same_file, names_for, write_like
from drainer.queuedir.premises import Premises, Scope, listed_names, refusing
from drainer.queuedir.scan import ListedFile, QueueScan
from drainer.queuedir.unlinker import Unlinker


class Custody:
    """The entries of one queue_dir that are ours. `prepare` before anything else; `close` gives up the lock, not the
    entries (a `with` block does both).

    queues     names of Mailman's queues taken from, "out" first
    scope      "all", or "backlog": only what was written before the drain began
    bak_age_s  a .bak that was claimed longer ago than this is taken if no runner of its queue lives
    step       called with a name between two steps of a move; tests kill the process there

    If `take` is refused for want of space, going on is right: each entry finished makes room for more. (ext4 with not one
    block free let 16 of 200 entries in, and 129 more after those were finished; tmpfs, whose directories take no blocks, let
    all in.)
    """

    _moved_by: type[Moves] = Moves

    def __init__(
        self,
        queue_dir: Path,
        *,
        clock: Clock,
        queues: Sequence[str] = (HOME_QUEUE,),
        scope: Scope = "all",
        bak_age_s: float = 3600.0,
        step: Callable[[str], None] = lambda name: None,
    ) -> None:
        self.premises = premises = Premises(queue_dir, queues, scope)
        self.queue_dir, self.queues = premises.queue_dir, premises.queues
        self.home, self.bad = premises.home, premises.bad
        self.backlog, self.held, self.duplicates = premises.backlog, premises.held, premises.duplicates
        self._bak_age_s = bak_age_s
        self._clock = clock
        self._step = step
        self._moves = self._moved_by(step)
        self._unlinker = Unlinker(self.finish)
        # Text for what is asked for each entry: for 100,000 entries Path objects took twice as long as the renames.
        self._backlog, self._held, self._duplicates = str(self.backlog), str(self.held), str(self.duplicates)
        self._known = {place: KnownNames(place, clock) for place in (self._held, self._duplicates)}

    def reconfigure(self, bak_age_s: float) -> None:
        """Settings read again."""
        self._bak_age_s = bak_age_s

    def __enter__(self) -> Self:
        self.prepare()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def prepare(self) -> None:
        """As Premises.prepare."""
        self.premises.prepare()

    def close(self) -> None:
        """End what `finish_later` has begun, make moves durable and let another drainer have the queue."""
        self._unlinker.close()
        if self.premises.are_locked:
            self.sync()
            self.premises.close()

    def sync(self) -> None:
        """As Moves.sync; may be called in threads."""
        self._moves.sync()

    def wants(self, queue: str, listed: ListedFile, runner_lives: bool) -> bool:
        """Whether an entry of Mailman's is to be taken.

        runner_lives  a Mailman runner that works this queue lives, or it is not known that none does

        Scope "backlog" goes by time, not by a list of names: an entry is taken if it was written no later than
        drainer/cutoff, a file that the same filesystem dated when the drain began. That holds across restarts, needs no
        space, and takes a backup that was restored with its old times. Mail that Mailman writes later is newer.
        """
        if queue not in self.queues:
            return False
        if listed.written_s > self.premises.wanted_until_s:
            return False
        if listed.file.suffix is Suffix.CLAIMED:
            return not runner_lives and self._clock.now_s() - listed.changed_s >= self._bak_age_s
        return listed.file.suffix is Suffix.WAITING

    def take(self, queue: str, file: QueueFile) -> QueueFile:
        """Make an entry of Mailman's ours; the caller has asked `wants`. Sync before its first attempt.

        Returns  its name in drainer/backlog/: its own, or another with the same time if that is in use there. From
                 retry/ it carries the queue's name. A .bak from out/ is still a .bak: its recipients are in doubt until
                 the ledger says so (promote_bak). A .bak from retry/ becomes a .pck: RetryRunner delivers nothing
        Raises   EntryVanished: somebody else took it, or it was a second name of a file already ours
        """
        source = f"{self.queue_dir}/{queue}/{file.filebase}{file.suffix}"
        suffix = file.suffix if queue == HOME_QUEUE else Suffix.WAITING
        for filebase in names_for(file.filebase, queue):
            known = self._in_custody(filebase)
            if known is None:
                # INVARIANT take: one rename makes the entry ours.
                #   Crash before: it is in out/, Mailman's. Crash after: it is in backlog/ and found at the next start.
                self._moves.rename(source, f"{self._backlog}/{filebase}{suffix}")
                return QueueFile(file.when_s, filebase, suffix)
            if is_same_file(known, source):
                self._moves.unlink(source)
                raise EntryVanished(f"{source} was a second name of {known}, which is in custody already")
        raise AssertionError("unreachable: there is always another name")

    def take_in(self, file: QueueFile, content: bytes, like: os.stat_result) -> bool:
        """Write an entry that lay elsewhere into backlog/, durably. Returns False if its name is in custody already.

        like    whose mode, owner and group it gets
        Raises  CustodyRefused when there is no room to write it; nothing half-written is left
        """
        if self._in_custody(file.filebase):
            return False
        written = self.home / f"{mailman_filebase(file.filebase)[:200]}.tmp"
        try:
            with refusing(f"write {written}"):
                write_like(written, content, like)
            self._moves.rename(written, f"{self.backlog}/{file.name}")
        except BaseException:
            written.unlink(missing_ok=True)
            raise
        self.sync()
        return True

    def promote_bak(self, filebase: str) -> None:
        """The ledger has the recipients of a taken .bak in doubt: from now on the file is named as any entry's. It is in
        backlog/, or in held/ if an operator held it before it was read. Done already: nothing happens.

        Crash before: it is still a .bak at the next start, and is put in doubt again, which changes nothing.
        Crash after: the ledger was first, so no doubt is lost.
        """
        found = self.file(filebase)
        if found.endswith(Suffix.CLAIMED):
            self._moves.rename(found, found.removesuffix(Suffix.CLAIMED) + Suffix.WAITING)

    def path(self, filebase: str) -> Path:
        """As `file`, to work with."""
        return Path(self.file(filebase))

    def file(self, filebase: str) -> str:
        """Where an entry of ours is now, as text: in backlog/, held/ or duplicates/. Raises EntryVanished."""
        found = find(filebase, (self._backlog, self._held, self._duplicates))
        if found is None:
            raise EntryVanished(f"{filebase} is not in {self.home}")
        return found

    def status(self, filebase: str) -> os.stat_result:
        """What the filesystem says of its file: `st_size`, and in `st_ctime` when it was last moved (taken, or released from
        held/). Raises EntryVanished."""
        try:
            return os.lstat(f"{self._backlog}/{filebase}{Suffix.WAITING}")
        except FileNotFoundError:  # it is named otherwise, as few are
            pass
        try:
            return os.lstat(self.file(filebase))
        except FileNotFoundError as exc:
            raise EntryVanished(f"{filebase} is not in {self.home}") from exc

    def hold(self, filebase: str) -> str:
        """backlog/ to held/. Done already: nothing happens. Returns its filebase. It is another one only if a person has
        put that name there by hand; then the ledger and the index have to learn it. So do the next four verbs."""
        return self._move(filebase, (self._backlog,), self._held)

    def release(self, filebase: str) -> str:
        """held/ to backlog/."""
        return self._move(filebase, (self._held,), self._backlog)

    def suppress(self, filebase: str) -> str:
        """backlog/ or held/ to duplicates/, where `expire_duplicates` finds it."""
        return self._move(filebase, (self._backlog, self._held), self._duplicates)

    def drop(self, filebase: str) -> str:
        """As suppress: what an operator drops stays on disk as long, so that it can be brought back."""
        return self.suppress(filebase)

    def restore(self, filebase: str, *, hold: bool = False) -> str:
        """duplicates/ to backlog/, or to held/."""
        return self._move(filebase, (self._duplicates,), self._held if hold else self._backlog)

    def kept(self, filebase: str) -> Path | None:
        """Where a suppressed or dropped entry is; None: not in duplicates/, or not any more."""
        found = find(filebase, (self._duplicates,))
        return Path(found) if found else None

    def try_again(self, filebase: str) -> tuple[QueueFile, int]:
        """duplicates/ to backlog/ under another name with the same time: the ledger has no final state for that name.

        Returns  the new name, and the size in bytes
        """
        source = find(filebase, (self._duplicates,))
        if source is None:
            raise EntryVanished(f"{filebase} is not in {self.duplicates}")
        name, queue = mailman_filebase(filebase), queue_of(filebase)
        names = (custody_filebase(renamed_filebase(name, f"again {salt}"), queue) for salt in count(1))
        moved = self._moves.move(source, self._backlog, names, Suffix.WAITING)
        parsed = parse_name(moved[moved.rfind("/") + 1 :])
        assert isinstance(parsed, QueueFile)
        return parsed, os.lstat(moved).st_size

    def finish(self, filebase: str) -> bool:
        """Remove a completed entry; the ledger has every recipient settled. Returns False if it was gone already.

        A held entry may be completed too, if copies of it were delivered to all that it still owed. May be called in a
        thread: other entries can be moved meanwhile.
        Crash before: it is in backlog/, the ledger says that it owes no recipient, and it is finished again.
        """
        try:
            self._moves.unlink(f"{self._backlog}/{filebase}{Suffix.WAITING}")
        except EntryVanished:  # it is named otherwise, as few are
            found = find(filebase, (self._backlog, self._held))
            if found is None:
                return False
            self._moves.unlink(found)
        return True

    def finish_later(self, filebase: str) -> asyncio.Future[bool]:
        """The same, begun now and done in a thread: await it, or give it a callback. Whoever has the entry in hand keeps it
        until then. What `finish` returns or raises is what the future has."""
        return self._unlinker.finish(filebase)

    def expire_duplicates(self, keep_s: float, limit: int = 1000) -> int:
        """Remove entries that were moved to duplicates/ more than keep_s seconds ago (by ctime, which a rename sets).

        limit    at most this many in one call, so that the call stays short
        Returns  how many were removed
        """
        removed = 0
        now_s = self._clock.now_s()
        with refusing(f"clear {self.duplicates} of what is too old"):
            for found in QueueScan(self.duplicates):
                if now_s - found.changed_s > keep_s:
                    with contextlib.suppress(EntryVanished):  # a person may clear up there too
                        self._moves.unlink(self.duplicates / found.file.name)
                    removed += 1
                    if removed == limit:
                        break
        return removed

    def preserve_bad(self, filebase: str) -> Path:
        """Move an unreadable entry to Mailman's bad/ as .psv, as Mailman itself does. Returns where it is."""
        source = self._waiting_or_held(filebase)
        names = names_for(mailman_filebase(filebase), HOME_QUEUE)
        return Path(self._moves.move(source, str(self.bad), names, Suffix.PRESERVED))

    def hand_back(self, filebase: str, queue: str = "") -> Path:
        """Give an entry in backlog/ or held/ back to Mailman, untouched. Sync at once after the last of a batch.

        queue    "": the one it came from; "out": for Mailman's runner to deliver now. An entry of retry/ has a
                 `deliver_after`. Until that time the runner of out/ writes the entry anew on every pass; on a full disk
                 this can fail, and then the entry is shunted
        Returns  where it is: under its old name, or another with the same time if Mailman has that name

        INVARIANT hand-back: one rename makes the entry Mailman's.
          Crash before: it is ours, nothing has changed. Crash after: it is in out/ only; the next start takes it again
          as it takes any entry, and the ledger knows what was settled.
        """
        source = self._waiting_or_held(filebase)
        target = queue or queue_of(filebase)
        if not (self.queue_dir / target).is_dir():
            target = HOME_QUEUE
        names = names_for(mailman_filebase(filebase), HOME_QUEUE)
        return Path(self._moves.move(source, str(self.queue_dir / target), names, _suffix(source)))

    def hand_back_rewritten(self, filebase: str, raw: bytes, queue: str = "") -> Path:
        """Give a part-delivered entry back with its metadata rewritten to the recipients still owed.

        raw      the whole file: message pickle byte for byte, then the new metadata pickle
        Returns  where it is, as hand_back
        Raises   CustodyRefused if there is no room to write it (an inode and its size are needed for a moment). Then the
                 entry is in custody, unchanged, and nothing half-written is left

        INVARIANT rewritten-in-custody: the new file replaces the old one here, before Mailman can see either.
          1 write drainer/FILEBASE.tmp, fsync   Crash: a .tmp, removed at the next start.
          2 rename it over the entry, fsync     Crash: the entry in custody names exactly the recipients the ledger owes.
          3 hand_back, one rename               Crash: it is Mailman's alone.
          Mailman can never see one of the two files while the other is still ours. If the new file were written into out/
          first and the old one unlinked after, a crash would leave both, and each recipient still owed would get two.
        """
        self.rewrite(filebase, raw)
        return self.hand_back(filebase, queue)

    def rewrite(self, filebase: str, raw: bytes) -> None:
        """Steps 1 and 2 of hand_back_rewritten, and what they raise: for copies of one mail that go back together."""
        source = self.file(filebase)
        rewritten = self.home / f"{mailman_filebase(filebase)[:200]}.tmp"
        try:
            with refusing(f"write {rewritten}, so {source} stays in custody unchanged"):
                write_like(rewritten, raw, os.lstat(source))
            self._step("rewritten")
            self._moves.rename(rewritten, source)
        except BaseException:
            rewritten.unlink(missing_ok=True)
            raise
        self.sync()
        self._step("replaced")

    def take_back(self, queue: str, file: QueueFile, filebase: str, *, hold: bool = False) -> Path:
        """An entry that was handed back for Mailman to deliver, and was not delivered, is ours again, under its old name.

        queue, file  where Mailman has left it: another name in out/ or shunt/, a .psv in bad/
        filebase     the name it had in custody
        hold         to held/, else to backlog/
        Returns      where it is: a .pck, but a .bak stays one until promote_bak

        Crash before: Mailman has it. Crash after: the next start finds it in custody, and the ledger has an open attempt
        under this name.
        """
        if known := self._in_custody(filebase):
            raise CustodyRefused(f"cannot take {file.name} back from {queue}/: {known} is there")
        suffix = Suffix.CLAIMED if file.suffix is Suffix.CLAIMED else Suffix.WAITING
        destination = (self.held if hold else self.backlog) / (filebase + suffix)
        self._moves.rename(self.queue_dir / queue / file.name, destination)
        self._known[self._held].changed()
        return destination

    def _move(self, filebase: str, sources: Sequence[str], destination: str) -> str:
        source = find(filebase, sources)
        if source is None:
            if find(filebase, (destination,)):
                return filebase
            looked_in = listed_names(place.rpartition("/")[2] + "/" for place in sources)
            raise EntryVanished(f"{filebase} is not in {looked_in} of {self.home}")
        names = names_for(mailman_filebase(filebase), queue_of(filebase))
        moved = self._moves.move(source, destination, names, _suffix(source))
        if destination in self._known:
            self._known[destination].changed()
        return moved[moved.rfind("/") + 1 :].removesuffix(_suffix(moved))

    def _waiting_or_held(self, filebase: str) -> str:
        source = find(filebase, (self._backlog, self._held))
        if source is None:
            raise EntryVanished(f"{filebase} is neither in {self.backlog} nor in {self.held}")
        return source

    def _in_custody(self, filebase: str) -> str | None:
        """Where an entry of this name is, if there is one: for an entry that comes, and that nothing knows yet."""
        if any(names.may_hold(filebase) for names in self._known.values()):
            return find(filebase, (self._backlog, self._held, self._duplicates))
        return find(filebase, (self._backlog,))


def _suffix(file: str) -> str:
    return file[file.rfind(".") :]
