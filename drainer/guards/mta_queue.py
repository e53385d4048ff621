"""How long the MTA's own queue is.

In    which MTA; its queue directory or its own queue command
Out   a guard that stops feeding above queue_high until below queue_low

Postfix: its queue directories are counted where we may read them (root, postfix). Otherwise `postqueue -j` is run, which
any user may do; Postfix then reads all its queue files. For an instance other than the default, `postqueue -c` is run,
because only its main.cf says where its queue is. Exim: `exim -bpc` (for its admin users).
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

from drainer.errors import MtaError
from drainer.files.access import set_id_advice
from drainer.guards.verdict import Guard, between_limits, unknown

POSTFIX_QUEUES = ("maildrop", "incoming", "active", "deferred")
"""hold/ is left out: Postfix delivers from there only after an operator has released the mail."""

_SBIN = "/usr/sbin:/sbin:/usr/local/sbin"


class MtaQueue:
    """Measures the length, and remembers whether it has stopped feeding.

    high, low  messages; see settings mta.queue_high, mta.queue_low
    config     Postfix's configuration directory; None: the default instance's
    spool      queue_directory of the default instance
    command    runs instead of the MTA's usual command
    stopped    feeding is stopped because of the length
    """

    def __init__(
        self,
        kind: Literal["none", "postfix", "exim"],
        high: int,
        low: int,
        *,
        config: Path | None = None,
        spool: Path = Path("/var/spool/postfix"),
        command: Sequence[str] = (),
        timeout_s: float = 30.0,
        stopped: bool = False,
    ) -> None:
        self._kind = kind
        self._high = high
        self._low = low
        self._config = config
        self._spool = spool
        self._command = tuple(command)
        self._timeout_s = timeout_s
        self.stopped = stopped

    async def look(self) -> Guard:
        """go, slow or stop; slow, with the reason, if the length cannot be measured."""
        if self._kind == "none":
            return Guard(name="mta_queue", verdict="go", reason="not watched (mta.queue)")
        try:
            length = await self.length()
        except MtaError as exc:
            return unknown("mta_queue", "slow", str(exc))
        guard = between_limits("mta_queue", length, self._high, self._low, "messages in the MTA's queue:", self.stopped)
        self.stopped = guard.verdict == "stop"
        return guard

    async def length(self) -> int:
        """Messages in the MTA's queue. Raises MtaError with the reason if it cannot be measured."""
        if self._kind == "exim":
            output = await self._run(self._command or (_program("exim", "exim4"), "-bpc"))
            return parse_exim_count(output)
        if not self._command and self._config is None:
            with suppress(PermissionError, FileNotFoundError):
                return await asyncio.to_thread(count_postfix_queue, self._spool)
        instance = () if self._config is None else ("-c", str(self._config))
        output = await self._run(self._command or (_program("postqueue"), *instance, "-j"))
        return sum(count for name, count in parse_postqueue(output.splitlines()).items() if name in POSTFIX_QUEUES)

    async def _run(self, command: Sequence[str]) -> str:
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as exc:
            raise MtaError(f"{command[0]}: {exc.strerror}") from exc
        try:
            output, errors = await asyncio.wait_for(process.communicate(), self._timeout_s)
        except TimeoutError as exc:
            raise MtaError(f"{command[0]} did not answer within {self._timeout_s:g} s") from exc
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            lines = errors.decode("utf-8", "replace").strip().splitlines()
            advice = set_id_advice(Path(command[0]))
            raise MtaError(
                f"{command[0]} ended with status {process.returncode}: {lines[-1] if lines else 'no message'}"
                f"{f'; {advice.in_one_line()}' if advice else ''}"
            )
        return output.decode("utf-8", "replace")


def count_postfix_queue(spool: Path) -> int:
    """Queue files in Postfix's directories, hashed ones included. Raises PermissionError, FileNotFoundError."""
    return sum(_count_files(spool / name) for name in POSTFIX_QUEUES)


def parse_postqueue(lines: Iterable[str]) -> dict[str, int]:
    """Messages by queue_name, from `postqueue -j`: one JSON object a line. Raises MtaError for anything else.

    Source  postqueue(1), "JSON OBJECT FORMAT"
    """
    counts: dict[str, int] = {}
    for line in lines:
        if not line.strip():
            continue
        try:
            name = json.loads(line)["queue_name"]
        except (ValueError, KeyError, TypeError) as exc:
            raise MtaError(f"postqueue -j said {line[:80]!r}") from exc
        counts[str(name)] = counts.get(str(name), 0) + 1
    return counts


def parse_exim_count(output: str) -> int:
    """The number `exim -bpc` prints. Raises MtaError for anything else."""
    text = output.strip()
    if not text.isdecimal():
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


def _program(*names: str) -> str:
    """The path of the first program that is installed, in sbin too: the PATH of a service may lack it."""
    search = f"{os.environ.get('PATH', os.defpath)}:{_SBIN}"
    for name in names:
        if path := shutil.which(name, path=search):
            return path
    raise MtaError(f'{names[0]} is not installed here; right would be mta.queue = "none"')
