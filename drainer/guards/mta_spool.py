"""Where the MTA keeps the mail that it has accepted, as it says itself.

In    which MTA, and its configuration directory
Out   its spool directory, or why it is not known
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from drainer.blocking import kill_session

_SBIN = "/usr/sbin:/sbin:/usr/local/sbin"
ANSWERS_WITHIN_S = 10.0


@dataclass(frozen=True, slots=True)
class Spool:
    """directory: None where it is not known; `why` then says why, "" if no MTA is watched."""

    directory: Path | None = None
    why: str = ""


async def mta_spool(
    kind: Literal["none", "postfix", "exim"], config: Path | None = None, queue_command: Sequence[str] = ()
) -> Spool:
    """Ask the MTA: `postconf -h queue_directory` or `exim -bP spool_directory`, which any user may do.

    config         of the Postfix instance; None: the default one
    queue_command  mta.queue_command; if there is one, the MTA is on another host
    """
    if kind == "none":
        return Spool()
    if queue_command:
        return Spool(why="the MTA is on another host (mta.queue_command)")
    names = ("postconf",) if kind == "postfix" else ("exim", "exim4")
    search = f"{os.environ.get('PATH', os.defpath)}:{_SBIN}"
    program = next((path for name in names if (path := shutil.which(name, path=search))), None)
    if program is None:
        return Spool(why=f"{names[0]} is not installed here")
    of_instance = ("-c", str(config)) if config is not None else ()
    words = (*of_instance, "-h", "queue_directory") if kind == "postfix" else ("-bP", "spool_directory")
    try:
        said = await _said(program, *words)
    except OSError as exc:
        return Spool(why=f"{program}: {exc.strerror or exc}")
    return spool_in(said, program)


def spool_in(said: str, program: str) -> Spool:
    """What `postconf -h` or `exim -bP` printed: a path, in Exim's case behind a name and a "="."""
    path = said.strip().rpartition("= ")[2].strip()
    if not path.startswith("/") or "\n" in path or "\0" in path:
        return Spool(why=f"{program} said {said[:80]!r}")
    return Spool(Path(path))


async def _said(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), ANSWERS_WITHIN_S)
    except TimeoutError as exc:
        raise TimeoutError(f"no answer within {ANSWERS_WITHIN_S:g} s") from exc
    finally:
        if process.returncode is None:
            await kill_session(process)
    return output.decode("utf-8", "surrogateescape")
