"""python -m tests.walk: follows one entry through the service and prints the functions of the data path in the order they
are entered; for docs/architecture.md.

In    nothing; one entry is written, one service is run inside this process, its MTA is the sink
Out   two walks: an entry delivered; an entry whose recipients go in doubt and are sent again

A function is listed where it is entered first. A jump back: code of another file, or a callback of the event loop, enters a
file of a stage that the reader has been in before. A return to the caller is none. A question to a file that only keeps
facts is counted apart.
"""

from __future__ import annotations

import asyncio
import inspect
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from drainer.demo.misbehaviour import Behaviour, SinkStep
from drainer.demo.sample_queue import write_plain
from drainer.demo.sink import Sink
from tests.stages.inside import inside

ON_THE_WAY = re.compile(
    r"drainer/((?:stages|in_doubt|via_mailman)/\w+|pipeline|feed/(?:deliver|pick|shaping|gate)|backlog/(?:signals|waiters))"
    r"\.py$"
)
FACTS = re.compile(
    r"stages/(entry_facts|resources|progress|recipient_limits|outcome_log|hold_reasons)|feed/(gate|shaping|pick)"
    r"|via_mailman/|backlog/signals"
)
LEFT_OUT = frozenset(
    {
        "InDoubt.recipients", "OpenHandovers.entries", "OpenHandovers.retrying_recipients", "Feed.active",
        "Resolution.outcome", "Transaction.recipients",
    }
)  # fmt: skip
"""What the snapshot asks each second, whatever the entry does; and properties of values."""


@dataclass(frozen=True)
class Entered:
    """caller: the file that called it, "" for a task or a callback of the event loop."""

    file: str
    function: str
    caller: str
    is_task: bool


class Trace:
    """Every function of the data path, once."""

    def __init__(self) -> None:
        self.entered: list[Entered] = []
        self._known: set[tuple[str, str]] = set()

    @contextmanager
    def on(self) -> Iterator[None]:
        sys.setprofile(self._called)
        try:
            yield
        finally:
            sys.setprofile(None)

    def _called(self, frame: FrameType, event: str, _: Any) -> None:
        place = ON_THE_WAY.search(frame.f_code.co_filename) if event == "call" else None
        if place is None:
            return
        name = re.sub(r"\.<locals>.*|<(module|lambda|listcomp|genexpr|dictcomp|setcomp)>", "", frame.f_code.co_qualname)
        if not name or "__" in name or name in LEFT_OUT or (place[1], name) in self._known:
            return
        self._known.add((place[1], name))
        is_task = bool(frame.f_code.co_flags & inspect.CO_COROUTINE)
        self.entered.append(Entered(place[1], name, _caller(frame), is_task))

    def text(self) -> str:
        files: dict[str, None] = {}
        lines, last, back, asked = [], "", 0, 0
        for one in self.entered:
            note = ""
            if one.file in files and one.caller != one.file and (one.caller or not one.is_task):
                if FACTS.match(one.file):
                    asked, note = asked + 1, "   (asked again)"
                else:
                    back += 1
                    note = f"   <- jump back {back}, from {one.caller or 'the event loop'}"
            files[one.file] = None
            if one.file != last:
                lines.append(f"{one.file}.py")
            lines.append(f"    {one.function}{note}")
            last = one.file
        lines.append(
            f"\n{len(self.entered)} functions in {len(files)} files; {back} jumps back; {asked} times a file of facts is"
            " asked again\n"
        )
        return "\n".join(lines)


def _caller(frame: FrameType) -> str:
    while (caller := frame.f_back) is not None:
        if place := ON_THE_WAY.search(caller.f_code.co_filename):
            return place[1]
        frame = caller
    return ""


class HangsUpOnce:
    """Script: the MTA hangs up after the first final dot."""

    def __init__(self) -> None:
        self._done = False

    def __call__(self, step: SinkStep) -> Behaviour | None:
        if step.stage != "dot" or self._done:
            return None
        self._done = True
        return Behaviour(b"", "hang_up")


async def walk(home: Path, in_doubt: bool) -> Trace:
    """One entry, which arrives while the service runs, until it is off the disk."""
    outage, trace = write_plain(home, 1, 2), Trace()
    ((file, content),) = [(path, path.read_bytes()) for path in (outage.queue_dir / "out").iterdir()]
    file.unlink()
    scripts = [HangsUpOnce()] if in_doubt else []
    mta, ledger = {"sessions": 1}, {"in_doubt": "resend"}
    async with Sink(None, *scripts) as sink, inside(home, outage, sink, mta=mta, ledger=ledger) as run:
        await run.until("the first listing is done", lambda: run.service.pipeline.progress.listed)
        with trace.on():
            run.arrive(file, content)
            await run.until("it is sent", lambda: run.taken() == run.owed())
            await run.until("it is off the disk", lambda: not run.files("backlog"))
    return trace


def main() -> None:
    for title, in_doubt in (
        ("Walk 1: an entry delivered, from intake to finish", False),
        ("Walk 2: its recipients go in doubt (a hang-up after the final dot), and are sent again", True),
    ):
        with tempfile.TemporaryDirectory(prefix="drainer-walk-") as home:
            print(f"{title}\n{'=' * len(title)}\n{asyncio.run(walk(Path(home), in_doubt)).text()}")


if __name__ == "__main__":
    main()
