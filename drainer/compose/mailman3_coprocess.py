"""One co-process that runs Mailman's delivery code in Mailman's own Python, seen from our side of the pipes.

In    requests: the entry, recipients
Out   answers, checked: a Slice of ComposedMessages, the header and footer of an entry, the lists
Shell one child process (coprocess/serve.py); Broken if it dies, hangs or answers garbage
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drainer.blocking import wait_for_killed
from drainer.compose.coprocess import frames
from drainer.compose.wire import ComposedMessage, Envelope
from drainer.duplicates.decoration import Decoration
from drainer.errors import ComposeDeferred, ComposeError, ComposerFailed, NoSuchList
from drainer.files.access import and_advice

ANSWER_TIMEOUT_S = 60.0  # between two frames; composing one copy takes milliseconds, a dead template server 5 s
START_TIMEOUT_S = 60.0  # importing Mailman takes 1 to 2 s on an idle machine
STDERR_KEPT = 4096
SCRIPT = Path(__file__).with_name("coprocess") / "serve.py"

_REASONS: dict[str, type[ComposeError]] = {"no_such_list": NoSuchList, "later": ComposeDeferred}


class Broken(Exception):
    """The co-process died, hung or wrote something that is not an answer; it cannot be used again."""


@dataclass(frozen=True, slots=True)
class MailmanVersions:
    """What a co-process reports of its Mailman: versions, its queue directory, the mailman.cfg it found."""

    mailman: str
    python: str
    queue_dir: str
    config: str


@dataclass(frozen=True, slots=True)
class Slice:
    """One answer. `complete`: it covers all recipients; `error`: why it ended early."""

    messages: list[ComposedMessage]
    complete: bool
    error: ComposeError | None


class Coprocess:
    """One co-process and its pipes. A method that raised Broken leaves it unusable: call end()."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._stderr: deque[bytes] = deque()
        self._stderr_task = asyncio.create_task(self._keep_stderr())

    async def greet(self, hello: dict[str, Any]) -> MailmanVersions:
        """Initialise Mailman in it. Raises Broken with the reason."""
        await self._send(frames.frame(frames.HELLO, hello))
        kind, fields, _ = await self._receive(START_TIMEOUT_S)
        if kind == frames.REFUSED:
            detail, words = str(fields.get("detail")), await self._last_words()
            said = f"says: {detail}" if detail in words else f"says: {detail}{words}"
            path = fields.get("path")
            writing = bool(fields.get("writing"))
            raise Broken(said + (and_advice(Path(path), writing=writing, of_mailman=True) if path else ""))
        try:
            if kind != frames.READY:
                raise Broken("answered the greeting with something else")
            return MailmanVersions(**fields)
        except TypeError as exc:
            raise Broken("said nothing of its versions") from exc

    async def ask(self, raw: bytes, owed: list[str], list_id: str) -> Slice:
        """Compose one slice. Raises Broken."""
        await self._send(frames.frame(frames.COMPOSE, {"recipients": owed, "list_id": list_id}, raw))
        contents: dict[int, bytes] = {}
        messages: list[ComposedMessage] = []
        unsettled = set(owed)
        while True:
            kind, fields, octets = await self._receive(ANSWER_TIMEOUT_S)
            try:
                if kind == frames.CONTENT:
                    contents[fields["number"]] = octets
                elif kind == frames.TRANSACTION:
                    message = _message(fields, contents)
                    messages.append(message)
                    _settle(message, unsettled)
                elif kind == frames.DONE:
                    return Slice(messages, fields["complete"], None)
                elif kind == frames.FAILED:
                    error = _REASONS.get(fields["reason"], ComposerFailed)
                    return Slice(messages, False, error(fields["detail"]))
                else:
                    raise Broken(f"answered with a frame of kind {kind}")
            except (KeyError, TypeError) as exc:
                raise Broken(f"left something out of a frame of kind {kind}: {exc}") from exc
            except ComposerFailed as exc:
                await self._drained()
                return Slice(messages[:-1], False, exc)

    async def lists(self) -> list[tuple[str, str]]:
        """List-id and posting address of each list. Raises Broken."""
        await self._send(frames.frame(frames.LISTS, {}))
        kind, fields, _ = await self._receive(ANSWER_TIMEOUT_S)
        if kind != frames.LISTED:
            raise Broken(f"says: {fields.get('detail')}")
        return [(str(list_id), str(address)) for list_id, address in fields["lists"]]

    async def ask_decoration(self, raw: bytes, list_id: str) -> Decoration:
        """The header and footer of an entry. Raises Broken, ComposeError."""
        await self._send(frames.frame(frames.DECORATE, {"list_id": list_id}, raw))
        kind, fields, _ = await self._receive(ANSWER_TIMEOUT_S)
        try:
            if kind == frames.DECORATION:
                return Decoration(**fields)
            if kind != frames.FAILED:
                raise Broken(f"answered with a frame of kind {kind}")
            raise _REASONS.get(fields["reason"], ComposerFailed)(fields["detail"])
        except (KeyError, TypeError) as exc:
            raise Broken(f"left something out of a frame of kind {kind}: {exc}") from exc

    async def end(self) -> None:
        """Kill it: it holds nothing that could be lost. Returns when it has ended, or cannot be ended."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await wait_for_killed(self._process)
        await asyncio.wait([self._stderr_task], timeout=1.0)  # a grandchild may hold the pipe
        self._stderr_task.cancel()
        if self._process.stdin is not None:
            self._process.stdin.close()

    async def _drained(self) -> None:
        """Read and drop the rest of an answer."""
        while (await self._receive(ANSWER_TIMEOUT_S))[0] not in (frames.DONE, frames.FAILED):
            pass

    async def _send(self, octets: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(octets)
            await asyncio.wait_for(self._process.stdin.drain(), ANSWER_TIMEOUT_S)
        except TimeoutError as exc:
            raise Broken(f"took no request within {ANSWER_TIMEOUT_S:g} s") from exc
        except (OSError, RuntimeError) as exc:  # uvloop raises RuntimeError for a closed pipe
            raise Broken(f"ended{await self._last_words()}") from exc

    async def _receive(self, timeout_s: float) -> tuple[int, dict[str, Any], bytes]:
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(timeout_s):
                announced = frames.prefix(await self._process.stdout.readexactly(frames.PREFIX_BYTES))
                rest = await self._process.stdout.readexactly(announced.rest_length)
            return (announced.kind, *frames.fields_and_octets(announced, rest))
        except TimeoutError as exc:
            raise Broken(f"did not answer within {timeout_s:g} s") from exc
        except (asyncio.IncompleteReadError, OSError) as exc:
            raise Broken(f"ended{await self._last_words()}") from exc
        except frames.FrameError as exc:
            raise Broken(f"wrote {exc}{await self._last_words()}") from exc

    async def _last_words(self) -> str:
        """The last line of its standard error. Kills the process, so that its standard error ends."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await asyncio.wait([self._stderr_task], timeout=1.0)
        lines = b"".join(self._stderr).decode("utf-8", "replace").strip().splitlines()
        return f" ({lines[-1].strip()})" if lines else ""

    async def _keep_stderr(self) -> None:
        assert self._process.stderr is not None
        kept = 0
        while chunk := await self._process.stderr.read(STDERR_KEPT):
            self._stderr.append(chunk)
            kept += len(chunk)
            while kept - len(self._stderr[0]) > STDERR_KEPT:
                kept -= len(self._stderr.popleft())


def _message(fields: dict[str, Any], contents: dict[int, bytes]) -> ComposedMessage:
    recipients = tuple(fields["recipients"])
    content = contents[fields["content"]]
    size = fields["size"]
    envelope = Envelope(
        fields["reverse_path"], recipients, tuple(fields["mail_parameters"]), None if size == len(content) else size
    )
    return ComposedMessage(envelope, content, tuple(fields.get("owed_for", recipients)))


def _settle(message: ComposedMessage, unsettled: set[str]) -> None:
    """Remove a message's recipients from those still owed. Raises ComposerFailed for a recipient that was not asked for."""
    strangers = [address for address in message.owed_for if address not in unsettled]
    if strangers or len(set(message.owed_for)) != len(message.owed_for):
        raise ComposerFailed(f"Mailman composed for recipients it was not asked for, or twice: {strangers!r:.200}")
    unsettled.difference_update(message.owed_for)
