"""Sends notices to the operator's own program or webhook.

In    snapshots, as the service takes them
Out   a child process with the notice on its standard input; a POST with the same JSON
Not here  which notices there are (notices.py)

INVARIANT never-in-the-way: `observe` returns at once. Whatever the program or the webhook does, it delays only later
notices: a task of its own sends them one after the other, each for at most `notify.timeout`.
The URL of a webhook is often its only secret: it is read from its file each time, and never logged.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import aiohttp

from drainer.blocking import kill_session
from drainer.errors import SettingsError
from drainer.report.notices import Notice, NoticeKind, NoticeState, after_snapshot
from drainer.report.snapshot import Snapshot
from drainer.secret_files import secret_in
from drainer.settings.surroundings import NotifySettings
from drainer.text.clean_model import CleanModel
from drainer.text.logfmt import logfmt

log = logging.getLogger("drainer")

MOST_WAITING = 16
"""Notices not sent yet. Beyond this number the oldest are dropped: the latest describe the present best."""
TRIES = 3
_BETWEEN_TRIES_S = 10.0


class Notifier:
    """Call `observe` with each snapshot; `run` is the task that sends."""

    def __init__(self, settings: NotifySettings) -> None:
        self._settings = settings
        self._state = NoticeState()
        self._waiting: deque[tuple[Notice, Snapshot]] = deque(maxlen=MOST_WAITING)
        self._news = asyncio.Event()
        self._ending = asyncio.Event()
        self._sending: asyncio.Task[None] | None = None

    def reconfigure(self, settings: NotifySettings) -> None:
        """Take settings that were read again."""
        self._settings = settings

    def observe(self, snapshot: Snapshot, *, is_last: bool = False) -> Sequence[Notice]:
        """Queue the notices that follow from this snapshot, and return them. Returns at once.

        is_last  there is no later snapshot: send the notice of the present condition now
        """
        settings = self._settings
        self._state, notices = after_snapshot(
            self._state,
            snapshot,
            after_s=0.0 if is_last else settings.after,
            quiet_s=settings.quiet,
            drained_from=settings.drained_from,
        )
        for notice in notices:
            log.info(logfmt(event="notice", notice=notice.event, text=notice.text))
            if notice.event in settings.events and (settings.command or settings.url_file):
                self._waiting.append((notice, snapshot))
                self._news.set()
        return notices

    async def run(self) -> None:
        """The task that sends one notice after the other; it never returns."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._waiting:
                self._sending = asyncio.create_task(self._send(*self._waiting.popleft()), name="notice")
                # Not cancelled with this task: the webhook may have the notice already, and would get it a second time.
                await asyncio.shield(self._sending)

    async def last_words(self) -> None:
        """At the end of the service, after `run`: let what is being sent come to its end, and send the waiting notices, one
        more try each."""
        self._ending.set()
        if self._sending is not None:
            await self._sending
        while self._waiting:
            await self._send(*self._waiting.popleft())

    async def _send(self, notice: Notice, snapshot: Snapshot) -> None:
        host = socket.gethostname()
        message = (
            Message(event=notice.event, text=notice.text, at=notice.at, host=host, status=snapshot)
            .model_dump_json()
            .encode()
        )
        async with asyncio.TaskGroup() as both:
            if self._settings.command:
                both.create_task(self._tried("command", lambda: self._command(notice, message)))
            if self._settings.url_file is not None:
                both.create_task(self._tried("webhook", lambda: self._post(message)))

    async def _tried(self, what: str, send: Callable[[], Awaitable[str]]) -> None:
        """Up to TRIES times; none after one that began when the service was ending."""
        for number in range(1, TRIES + 1):
            is_last = number == TRIES or self._ending.is_set()
            why_not = await send()
            if not why_not:
                return
            log.warning(logfmt(event="not_told", by=what, attempt=number, detail=why_not))
            if is_last:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_BETWEEN_TRIES_S):
                    await self._ending.wait()

    async def _command(self, notice: Notice, message: bytes) -> str:
        """Run the program. Returns "", or why it failed."""
        environment = {**os.environ, "DRAINER_EVENT": notice.event, "DRAINER_TEXT": notice.text}
        try:
            # A file in memory, not a pipe: a program may end without reading, and uvloop raises RuntimeError when it writes
            # to a closed pipe.
            with os.fdopen(os.memfd_create("notice"), "w+b") as file:
                file.write(message)
                file.seek(0)
                process = await asyncio.create_subprocess_exec(
                    *self._settings.command,
                    stdin=file,
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=asyncio.subprocess.DEVNULL,
                    env=environment,
                    start_new_session=True,
                )
        except OSError as exc:
            return f"{self._settings.command[0]} cannot be run: {exc.strerror}"
        try:
            async with asyncio.timeout(self._settings.timeout):
                await process.wait()
        except TimeoutError:
            return f"no end within {self._settings.timeout:g} s: killed"
        finally:
            if process.returncode is None:
                await kill_session(process)
        return f"exit status {process.returncode}" if process.returncode else ""

    async def _post(self, message: bytes) -> str:
        """Post to the webhook. Returns "", or why it failed, without the URL."""
        assert self._settings.url_file is not None
        try:
            url = await asyncio.to_thread(secret_in, self._settings.url_file, "notify.url_file")
        except SettingsError as exc:
            return str(exc)
        timeout = aiohttp.ClientTimeout(total=self._settings.timeout)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.post(url, data=message, headers={"Content-Type": "application/json"}) as reply,
            ):
                return "" if reply.status < 300 else f"answered {reply.status}"
        except (aiohttp.ClientError, TimeoutError, ValueError) as exc:
            return type(exc).__name__


class Message(CleanModel):
    """What the program and the webhook get. text: chat webhooks show it. at: seconds since the epoch."""

    event: NoticeKind
    text: str
    at: float
    host: str
    status: Snapshot
