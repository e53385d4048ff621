"""A disk that forgets: what may be found on it after power was lost at a given moment.

In    recorded calls (recorded.py), what was there before them
Out   names and contents as a file system may show them after the cut

What was synced is there. Of everything else any part may be: each write, each name on its own, the last write torn at a
512-octet sector. POSIX promises less than ext4 and XFS do, and this disk does what POSIX promises:

  fsync of a file keeps its octets, not its name. A name is kept once its own directory was synced, and is reachable
  only if every directory above it is.
  Of two changes of one name the later is never kept without the earlier.
  A rename within or between directories is one change (`whole_renames`), as with every journal; or two of which the new
  name comes first, as with soft updates: then the entry may be seen under both names, never under none.

A call counts as under way from its beginning, as done at its end: a sync keeps what had ended before it began.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from tests.crash.recorded import Call

SECTOR = 512


@dataclass(frozen=True, slots=True)
class Kept:
    """What of the unsynced is found: the share of names and of writes, drawn by `seed`; whether writes may be torn."""

    name: str
    names: float
    writes: float
    seed: int = 0
    torn: bool = False


NOTHING = Kept("nothing unsynced", 0, 0)
EVERYTHING = Kept("everything", 1, 1)
NAMES_ONLY = Kept("names only", 1, 0)
OCTETS_ONLY = Kept("octets only", 0, 1)


def some(seed: int) -> Kept:
    return Kept(f"some, seed {seed}", 0.5, 0.5, seed, torn=True)


@dataclass(slots=True)
class _Write:
    """At `offset`; data None: cut or stretched to `offset`."""

    offset: int
    data: bytes | None
    ended: int


@dataclass(slots=True, eq=False)
class _File:
    content: bytes = b""
    size: int = 0
    unsynced: list[_Write] = field(default_factory=list)


class _Directory:
    pass


_Node = _File | _Directory


@dataclass(slots=True, eq=False)
class _Change:
    """A name given to a node, or taken away (None). `other` is the half of a rename that goes or came before."""

    path: str
    node: _Node | None
    ended: int
    other: _Change | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What is found after the cut: files by path. Two names of one file have equal content."""

    files: dict[str, bytes]
    directories: frozenset[str]


def moments(calls: Sequence[Call]) -> Iterator[tuple[int, bool, Call]]:
    """The beginning and the end (True) of each call, in order."""
    both = ((m, ended, number) for number, call in enumerate(calls) for m, ended in ((call.began, 0), (call.ended, 1)))
    for moment, has_ended, number in sorted(both):
        yield moment, bool(has_ended), calls[number]


class Disk:
    """Of everything below `roots`.

    before   files that were there, durably; directories that were there end in "/"
    ignores  part of a path that need not be modelled
    """

    def __init__(self, before: dict[str, bytes], ignores: tuple[str, ...] = (), *, whole_renames: bool = True) -> None:
        self._ignores = ignores
        self._whole_renames = whole_renames
        self._kept: dict[str, _Node] = {}
        for path, content in before.items():
            self._kept[path.rstrip("/")] = _Directory() if path.endswith("/") else _File(content, len(content))
        self._now: dict[str, _Node] = dict(self._kept)
        self._roots = tuple(path for path in self._kept if _parent(path) not in self._kept)
        self._changes: list[_Change] = []

    def may_have_begun(self, call: Call) -> bool:
        """Something was written, named or unnamed: from now on it may be found. Returns whether it concerned this disk."""
        match call.name:
            case "openat" | "open" | "creat":
                return self._opened(call)
            case "mkdir" | "mkdirat":
                return self._named(call.path(), _Directory(), call)
            case "pwrite64":
                return self._written(call, call.numbers_after_data()[1], call.texts()[0][: call.result])
            case "write":
                node = self._now.get(call.descriptor())
                return isinstance(node, _File) and self._written(call, node.size, call.texts()[0][: call.result])
            case "ftruncate":
                return self._written(call, int(call.arguments.rpartition(",")[2]), None)
            case "rename" | "renameat" | "renameat2":
                return self._renamed(call)
            case "unlink" | "unlinkat" | "rmdir":
                return self._named(call.path(), None, call)
            case _:
                return False

    def is_synced_by(self, call: Call) -> bool:
        """fsync, fdatasync: what ended before it began is kept for good. Returns whether it concerned this disk."""
        node = self._now.get(call.descriptor())
        if isinstance(node, _File):
            done = [write for write in node.unsynced if write.ended < call.began]
            node.content = _after(node.content, done)
            node.unsynced = [write for write in node.unsynced if write.ended >= call.began]
            return True
        directory = call.descriptor()
        done_changes = [
            change for change in self._changes if _parent(change.path) == directory and change.ended < call.began
        ]
        closed = self._with_what_they_need(done_changes)
        for change in closed:
            _apply(self._kept, change)
        self._changes = [change for change in self._changes if change not in closed]
        return isinstance(node, _Directory) or bool(closed)

    def found(self, kept: Kept) -> Found:
        """What is there if power is lost now."""
        chance = random.Random(kept.seed)
        names = dict(self._kept)
        drawn = [change for change in self._changes if chance.random() < kept.names]
        for change in self._with_what_they_need(drawn):
            _apply(names, change)
        files: dict[str, bytes] = {}
        contents: dict[int, bytes] = {}
        directories = {
            path for path, node in names.items() if isinstance(node, _Directory) and self._reachable(path, names)
        }
        for path, node in sorted(names.items()):
            if isinstance(node, _File) and self._reachable(path, names):
                if id(node) not in contents:
                    contents[id(node)] = _after(node.content, _drawn(node.unsynced, kept, chance))
                files[path] = contents[id(node)]
        return Found(files, frozenset(directories))

    def names_now(self) -> set[str]:
        """As processes saw them at this moment."""
        return set(self._now)

    def _reachable(self, path: str, names: dict[str, _Node]) -> bool:
        while path not in self._roots:
            if path not in names:
                return False
            path = _parent(path)
            if path == "/":
                return True
        return True

    def _opened(self, call: Call) -> bool:
        path = call.result_path
        if not self._concerns(path):
            return False
        node = self._now.get(path)
        if node is None and "O_CREAT" in call.arguments:
            return self._named(path, _File(), call)
        if isinstance(node, _File) and "O_TRUNC" in call.arguments and node.size:
            node.size = 0
            node.unsynced.append(_Write(0, None, call.ended))
            return True
        return False

    def _named(self, path: str, node: _Node | None, call: Call) -> bool:
        if not self._concerns(path) or (node is None and path not in self._now):
            return False
        self._change(_Change(path, node, call.ended))
        return True

    def _renamed(self, call: Call) -> bool:
        source, destination = call.path(0), call.path(1)
        node = self._now.get(source)
        if node is None or not self._concerns(destination) or node is self._now.get(destination):
            return False
        appears = _Change(destination, node, call.ended)
        vanishes = _Change(source, None, call.ended, other=appears)
        if self._whole_renames:
            appears.other = vanishes
        self._change(appears)
        self._change(vanishes)
        return True

    def _change(self, change: _Change) -> None:
        self._changes.append(change)
        _apply(self._now, change)

    def _written(self, call: Call, offset: int, data: bytes | None) -> bool:
        node = self._now.get(call.descriptor())
        if not isinstance(node, _File):
            return False
        node.unsynced.append(_Write(offset, data, call.ended))
        node.size = offset if data is None else max(node.size, offset + len(data))
        return True

    def _concerns(self, path: str) -> bool:
        return not any(ignored in path for ignored in self._ignores) and _parent(path) in self._now

    def _with_what_they_need(self, changes: Iterable[_Change]) -> list[_Change]:
        """In the order they were made."""
        wanted = set(changes)
        todo = list(wanted)
        while todo:
            change = todo.pop()
            needed = [change.other] if change.other else []
            for earlier in self._changes:
                if earlier is change:
                    break
                if earlier.path == change.path:
                    needed.append(earlier)
            new = [other for other in needed if other not in wanted and other in self._changes]
            wanted.update(new)
            todo += new
        return [change for change in self._changes if change in wanted]


def _parent(path: str) -> str:
    return path.rpartition("/")[0] or "/"


def _apply(names: dict[str, _Node], change: _Change) -> None:
    if change.node is None:
        names.pop(change.path, None)
    else:
        names[change.path] = change.node


def _after(content: bytes, writes: Sequence[_Write]) -> bytes:
    if not writes:
        return content
    result = bytearray(content)
    for write in writes:
        if write.data is None:
            del result[write.offset :]
        end = write.offset + len(write.data or b"")
        result += bytes(max(0, end - len(result)))
        if write.data is not None:
            result[write.offset : end] = write.data
    return bytes(result)


def _drawn(writes: list[_Write], kept: Kept, chance: random.Random) -> list[_Write]:
    drawn: list[_Write] = []
    for write in writes:
        if chance.random() >= kept.writes:
            continue
        if kept.torn and write.data and chance.random() < 0.25:
            sectors = chance.randrange(len(write.data) // SECTOR + 1)
            drawn.append(_Write(write.offset, write.data[: sectors * SECTOR], write.ended))
        else:
            drawn.append(write)
    return drawn
