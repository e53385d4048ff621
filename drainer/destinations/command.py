"""Runs a command of the MTA and hands on what it prints, line by line, so that a long listing is never in memory.

In    the command's words; what to do with a line; how long it may take
Out   nothing: the lines were handed on, and the command ended with status 0
Raises  MtaError: the command cannot be run, failed, hangs, or prints without end

A command that does not end is killed with all that it started (ssh, a shell). The lines of a command are handled in pieces
between which the event loop goes on, because delivery runs in the same loop. One that has ended is not waited for because
something that it left behind has its output open: ssh's ControlPersist does.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from drainer.blocking import kill_session
from drainer.errors import MtaError
from drainer.files.access import set_id_advice

PIECE_BYTES = 2**16
LONGEST_LINE_BYTES = 2**23
"""A message of 50,000 recipients, each with a reason, has such a line in Postfix' listing."""
MOST_BYTES = 2**29
_MOST_ERROR_BYTES = 2**14
_SILENT_S = 0.5
"""A command that has ended and prints nothing for so long has printed all."""
_SBIN = "/usr/sbin:/sbin:/usr/local/sbin"


def program(*names: str) -> str:
    """The path of the first program that is installed, in sbin too: the PATH of a service may lack it. Raises MtaError."""
    search = f"{os.environ.get('PATH', os.defpath)}:{_SBIN}"
    for name in names:
        if path := shutil.which(name, path=search):
            return path
    raise MtaError(f"{names[0]} is not installed here, or not executable by drainer's user")


async def hand_on_lines(
    command: Sequence[str], take: Callable[[str], None], within_s: float, most_bytes: int = MOST_BYTES
) -> None:
    """Run the command; each line of its output, without its end, is given to `take`.

    within_s  seconds from start to end
    Raises    MtaError; what `take` raises
    """
    async with _pipe() as (output, to_output), _pipe() as (errors, to_errors):
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, stdout=to_output, stderr=to_errors, start_new_session=True
            )
        except OSError as exc:
            raise MtaError(f"{command[0]}: {exc.strerror}") from exc
        finally:
            os.close(to_output)
            os.close(to_errors)
        said = bytearray()
        complaints = asyncio.create_task(_keep_end_of(errors, said))
        try:
            async with asyncio.timeout(within_s):
                await _hand_on(process, output, take, command[0], most_bytes)
                await process.wait()
                await asyncio.wait([complaints], timeout=_SILENT_S)
        except BaseException as exc:
            await _kill(process, output)
            if isinstance(exc, TimeoutError):
                raise MtaError(f"{command[0]} did not answer within {within_s:g} s") from exc
            raise
        finally:
            complaints.cancel()
    if process.returncode:
        raise MtaError(_failed(command[0], process.returncode, said.decode("utf-8", "replace")))


@asynccontextmanager
async def _pipe() -> AsyncIterator[tuple[asyncio.StreamReader, int]]:
    """A pipe: our end, and the other one, which the caller closes. The pipes that asyncio would make for a command cannot be
    closed while something that the command left behind has them open, and wait() may wait for them."""
    ours, others = os.pipe()
    output = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(output), os.fdopen(ours, "rb", buffering=0)
    )
    try:
        yield output, others
    finally:
        transport.close()


async def _hand_on(
    process: asyncio.subprocess.Process,
    output: asyncio.StreamReader,
    take: Callable[[str], None],
    name: str,
    most_bytes: int,
) -> None:
    begun: list[bytes] = []
    read = of_line = 0
    while piece := await _piece(process, output):
        read += len(piece)
        first, *others = piece.split(b"\n")
        begun.append(first)
        of_line += len(first)
        if of_line > LONGEST_LINE_BYTES:
            raise _too_much(name, "a line", LONGEST_LINE_BYTES)
        if read > most_bytes:
            raise _too_much(name, "a listing", most_bytes)
        if others:
            for line in (b"".join(begun), *others[:-1]):
                take(line.decode("utf-8", "replace"))
            begun, of_line = [others[-1]], len(others[-1])
    if rest := b"".join(begun):
        take(rest.decode("utf-8", "replace"))


async def _piece(process: asyncio.subprocess.Process, output: asyncio.StreamReader) -> bytes:
    """The next piece of its output; empty at the end."""
    reading = asyncio.ensure_future(output.read(PIECE_BYTES))
    try:
        while True:
            # Asked before the wait: what a command wrote before it ended is there when its end is known.
            has_ended = process.returncode is not None
            done, _ = await asyncio.wait([reading], timeout=_SILENT_S)
            if done:
                return reading.result()
            if has_ended:
                return b""
    finally:
        if reading.cancel():
            await asyncio.wait([reading])  # until it has let go of the output, which _kill reads to its end


def _too_much(name: str, what: str, most: int) -> MtaError:
    return MtaError(f"{name} printed {what} of more than {most:,} bytes: that is no queue's")


async def _keep_end_of(errors: asyncio.StreamReader, said: bytearray) -> None:
    """The end of what it complained of, into `said`; all of it is read, so that the command never waits for us."""
    while piece := await errors.read(_MOST_ERROR_BYTES):
        said += piece
        del said[:-_MOST_ERROR_BYTES]


async def _kill(process: asyncio.subprocess.Process, output: asyncio.StreamReader) -> None:
    """With all that it started, of which one may still hold its output."""
    await kill_session(process)
    with suppress(TimeoutError):
        async with asyncio.timeout(_SILENT_S):
            while await output.read(PIECE_BYTES):
                pass


def _failed(name: str, status: int, complaints: str) -> str:
    lines = complaints.strip().splitlines()
    with suppress(OSError):
        if advice := set_id_advice(Path(name)):
            return f"{_ended(name, status, lines)}; {advice.in_one_line()}"
    return _ended(name, status, lines)


def _ended(name: str, status: int, lines: Sequence[str]) -> str:
    return f"{name} ended with status {status}: {lines[-1] if lines else 'no message'}"
