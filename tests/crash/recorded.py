"""What a process really asked of the kernel: writes, syncs, names and sends, in order, as strace saw them.

In    the trace of `strace -f -yy -xx` (TRACED)
Out   Calls in the order they began, each with the moments (lines of the trace) it began and ended
Refuses to know  what a disk makes of them (model_disk.py)

Debian's strace with --seccomp-bpf stops the process at the traced calls only. SQLite writes its log and its file with
pwrite64; only PATH-shm is mapped, which is rebuilt from the log and need not survive.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

TRACED = (
    "open,openat,creat,write,pwrite64,writev,pwritev,pwritev2,ftruncate,truncate,fallocate,rename,renameat,renameat2,"
    "link,linkat,symlink,symlinkat,unlink,unlinkat,rmdir,mkdir,mkdirat,fsync,fdatasync,sync,syncfs,sync_file_range,msync,"
    "sendto,sendmsg,sendmmsg,sendfile,copy_file_range,io_uring_enter,io_submit"
)
"""Every way to change a file, a name or what a peer knows; io_uring and AIO so that their use would be noticed."""

NEVER = 2**62
"""The end of a call that had not returned when the trace ended."""

_BEGUN = re.compile(r"^(\d+)\s+(\w+)\((.*)$")
_RESUMED = re.compile(r"^(\d+)\s+<\.\.\. (\w+) resumed>(.*)$")
_RESULT = re.compile(r"\)\s+= (-?\d+)(?:<(.*)>)?(?: .*)?$")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_HEX = re.compile(r"\\x([0-9a-f]{2})")


@dataclass(frozen=True, slots=True)
class Call:
    """One system call that did not fail.

    began, ended  lines of the trace; NEVER if it did not return
    arguments     as strace wrote them, paths and data in hexadecimal
    result        -1 if it did not return
    result_path   what strace says of a descriptor that was returned
    """

    name: str
    arguments: str
    began: int
    ended: int
    result: int
    result_path: str

    def texts(self) -> list[bytes]:
        """The strings among the arguments."""
        return [_octets(found) for found in _TEXT.findall(self.arguments)]

    def descriptor(self) -> str:
        """What the first argument, a descriptor, stands for: a path, "TCP:[...]", "UNIX-STREAM:[...]"."""
        found = re.match(r"\d+<(.*?)>[,)\s]", self.arguments + ")")
        return os.fsdecode(_octets_within(found[1])) if found else ""

    def path(self, place: int = 0) -> str:
        """The absolute path that is the place-th string argument."""
        return os.fsdecode(self.texts()[place])

    def numbers_after_data(self) -> list[int]:
        """The integers behind the last string: length and offset of a pwrite64."""
        return [int(number) for number in re.findall(r", (\d+)", self.arguments.rpartition('"')[2])]


def needed_strace() -> str:
    """Where strace is; the test fails in CI and is skipped elsewhere where there is none, or tracing is not allowed."""
    strace = shutil.which("strace")
    if strace and subprocess.run([strace, "-o", "/dev/null", "true"], check=False, capture_output=True).returncode == 0:
        return strace
    if os.environ.get("CI"):
        pytest.fail("this test needs strace (apt-get install strace) and the right to trace a child")
    pytest.skip("watches system calls: apt-get install strace")


def strace_command(trace: Path) -> list[str]:
    """In front of a command: the command stays the child, strace watches from aside."""
    return [
        needed_strace(), "-D", "-f", "-q", "-yy", "-xx", "-s", "4194304", "--seccomp-bpf", "-e", f"trace={TRACED}",
        "-e", "signal=none", "-o", str(trace),
    ]  # fmt: skip


def read_trace(trace: Path, pid: int, within_s: float = 60.0) -> list[Call]:
    """The calls of a process that has ended, and of its children.

    pid  of the process: the trace is complete once it says that this one has ended
    """
    deadline_s = time.monotonic() + within_s
    end = re.compile(rf"^{pid}\s+\+\+\+ ".encode(), re.MULTILINE)
    while not end.search(trace.read_bytes()[-65536:]):
        assert time.monotonic() < deadline_s, f"strace has not written the end of {pid} in {within_s} s"
        time.sleep(0.01)
    with trace.open("r", encoding="ascii") as lines:
        return sorted(_calls(lines), key=lambda call: call.began)


def _calls(lines: Iterator[str]) -> Iterator[Call]:
    unfinished: dict[str, tuple[str, int]] = {}
    for number, line in enumerate(lines):
        if begun := _BEGUN.match(line):
            thread, name, rest = begun.groups()
            if rest.endswith("<unfinished ...>"):
                unfinished[thread] = (rest.removesuffix("<unfinished ...>"), number)
                continue
            yield from _call(name, rest, number, number)
        elif resumed := _RESUMED.match(line):
            thread, name, rest = resumed.groups()
            before, began = unfinished.pop(thread)
            yield from _call(name, before + rest, began, number)
    for before, began in unfinished.values():
        yield Call("unfinished", before, began, NEVER, -1, "")


def _call(name: str, text: str, began: int, ended: int) -> Iterator[Call]:
    found = _RESULT.search(text, max(0, len(text) - 4096))
    if found is not None and not found[1].startswith("-"):
        yield Call(
            name, text[: found.start()], began, ended, int(found[1]), os.fsdecode(_octets_within(found[2] or ""))
        )


def _octets(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def _octets_within(text: str) -> bytes:
    """Text of which parts are in hexadecimal."""
    return _HEX.sub(lambda found: chr(int(found[1], 16)), text).encode("latin-1")
