"""Questions that change nothing: put to the service; if it does not run or answer, to its ledger and the queue.

In    a question to Answers (control/operations.py)
Out   the answer; the lines above an answer that is not the service's
Not here  what is read from the disk, and how (without_service/)
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from drainer.cli.output import terminal_width
from drainer.cli.service import ask, client_settings, start_command
from drainer.errors import DrainerError, ServiceNotRunning, ServiceSilent, SiteUnreadable
from drainer.text.columns import wrapped
from drainer.text.wording import clock_time, duration, shown

if TYPE_CHECKING:
    from drainer.control.operations import Answers
    from drainer.report.snapshot import SilentState, WithoutService

SILENT_AFTER_S = 5.0
"""A service without an answer for this time counts as hanging; then the disk is read."""

_Answer = TypeVar("_Answer")


def consult(config: Path | None, question: Callable[[Answers], Awaitable[_Answer]]) -> _Answer:
    """The answer of the service, or else of ledger and custody.

    Raises  as ask; ServiceNotRunning, ServiceSilent where the disk has no answer either, with both reasons
    """
    try:
        return ask(config, question, answer_within_s=SILENT_AFTER_S)
    except ServiceNotRunning as exc:
        return _from_disk(config, question, "not_running", exc)
    except ServiceSilent as exc:
        return _from_disk(config, question, "not_answering", exc)


def _from_disk(
    config: Path | None,
    question: Callable[[Answers], Awaitable[_Answer]],
    state: SilentState,
    silent: DrainerError,
) -> _Answer:
    from drainer.without_service.answers import (
        from_disk,  # nearly all of drainer, which is not needed while the service answers
    )

    reason = f"no answer in {SILENT_AFTER_S:.0f} s" if state == "not_answering" else ""

    async def exchange() -> _Answer:
        async with from_disk(client_settings(config), state, reason) as answers:
            return await question(answers)

    try:
        return asyncio.run(exchange())
    except SiteUnreadable as exc:
        raise type(silent)(f"{silent}\n{exc}") from exc


def without_service_lines(without: WithoutService | None, config: Path | None) -> list[str]:
    """Above an answer from the disk: why, as of when, and how to start the service. None above one of the service's."""
    if without is None:
        return []
    now_s = time.time()
    since = f"since {clock_time(without.since, now_s)} ({duration(now_s - without.since)})"
    word = "is not running" if without.state == "not_running" else "does not answer"
    reason = f": {shown(without.reason)}" if without.reason else ""
    written = f"the ledger was last written at {clock_time(without.as_of, now_s)}; entries as they lie on the disk now"
    way = f"start it with {start_command(config)}"
    said = (
        f"drainer {word} {since}{reason}",
        f"as of: {written}",
        way if without.state == "not_running" else "its log says more: `journalctl -u drainer`",
    )
    return [line for text in said for line in wrapped(text, max(terminal_width(), 20), "", "  ")] + [""]
