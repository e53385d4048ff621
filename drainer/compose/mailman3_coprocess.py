"""One co-process that runs Mailman's delivery code in Mailman's own Python, seen from our side of the pipes.

In    requests: the entry, recipients
Out   answers, checked: a Slice of ComposedMessages, the header and footer of an entry, the lists
Shell one child process (coprocess/serve.py); Broken if it dies, hangs or answers garbage

Requests are written at once, also while others wait for their answers, which come in order. So the co-process finds the next
request when it has answered one, however long we take to read the answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from drainer.blocking import wait_for_killed
from drainer.compose.coprocess import frames
from drainer.compose.wire import ComposedMessage, Envelope
from drainer.duplicates.decoration import Decoration
from drainer.errors import ComposeDeferred, ComposeError, ComposerFailed, NoSuchList
from drainer.files.access import and_advice

ANSWER_TIMEOUT_S = 60.0  # without a word; composing one copy takes milliseconds, a dead template server 5 s
START_TIMEOUT_S = 60.0  # importing Mailman takes 1 to 2 s on an idle machine
STDERR_KEPT = 4096
SCRIPT = Path(__file__).with_name("coprocess") / "serve.py"

_REASONS: dict[str, type[ComposeError]] = {"no_such_list": NoSuchList, "later": ComposeDeferred}

_Answer = TypeVar("_Answer")
_Take = Callable[[int, dict[str, Any], bytes], _Answer | None]
"""Takes a frame of the answer: its kind, fields and octets. None: the answer goes on."""


class Broken(Exception):
    """The co-process died, hung or wrote something that is not an answer; it cannot be used again.

    while_others  it worked on another request, so this one is not to blame
    """

    def __init__(self, reason: str, while_others: bool = False) -> None:
        super().__init__(reason)
        self.while_others = while_others


@dataclass(frozen=True, slots=True)
class MailmanVersions:
    """What a co-process reports of its Mailman: versions, its queue directory, the mailman.cfg it found."""

    mailman: str
    python: str
    queue_dir: str
    config: str


@dataclass(frozen=True, slots=True)
class Slice:
    """One answer.

    complete  it covers all recipients, as Mailman sees it
    left      those that it does not cover
    error     why it ended early
    """

    messages: list[ComposedMessage]
    complete: bool
    left: set[str]
    error: ComposeError | None

    @property
    def may_go_on(self) -> bool:
        """Whether another request may bring what is left."""
        return self.error is None and not self.complete and bool(self.messages)


@dataclass(frozen=True, slots=True)
class _Asked(Generic[_Answer]):
    take: _Take[_Answer]
    answer: asyncio.Future[Any]
    timeout_s: float


class Coprocess(asyncio.Protocol):
    """One co-process and its pipes; the protocol of what it writes. After Broken it is unusable: call end()."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._stderr: deque[bytes] = deque()
        self._stderr_task = asyncio.create_task(self._keep_stderr())
        self._loop = asyncio.get_running_loop()
        self._reader = frames.FrameReader()
        self._asked: deque[_Asked[Any]] = deque()
        self._heard_s = 0.0
        self._watch: asyncio.TimerHandle | None = None
        self._output: asyncio.BaseTransport | None = None
        self.is_broken = False

    @classmethod
    async def started(cls, command: tuple[str, ...]) -> Coprocess:
        """Start it. Raises OSError."""
        ours, its = os.pipe()
        output = os.fdopen(ours, "rb", buffering=0)
        try:
            with os.fdopen(its, "wb", buffering=0) as inherited:
                process = await asyncio.create_subprocess_exec(
                    *command, stdin=asyncio.subprocess.PIPE, stdout=inherited, stderr=asyncio.subprocess.PIPE
                )
        except BaseException:
            output.close()
            raise
        coprocess = cls(process)
        await asyncio.get_running_loop().connect_read_pipe(lambda: coprocess, output)
        return coprocess

    @property
    def requests(self) -> int:
        """How many wait for their answers."""
        return len(self._asked)

    async def greet(self, hello: dict[str, Any]) -> MailmanVersions:
        """Initialise Mailman in it. Raises Broken with the reason."""
        kind, fields = await self._answered(frames.frame(frames.HELLO, hello), _kind_and_fields, START_TIMEOUT_S)
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
        request = frames.frame(frames.COMPOSE, {"recipients": owed, "list_id": list_id}, raw)
        return await self._answered(request, _SliceReader(owed).take)

    async def lists(self) -> list[tuple[str, str]]:
        """List-id and posting address of each list. Raises Broken."""
        kind, fields = await self._answered(frames.frame(frames.LISTS, {}), _kind_and_fields)
        if kind != frames.LISTED:
            raise Broken(f"says: {fields.get('detail')}")
        return [(str(list_id), str(address)) for list_id, address in fields["lists"]]

    async def ask_decoration(self, raw: bytes, list_id: str) -> Decoration:
        """The header and footer of an entry. Raises Broken, ComposeError."""
        request = frames.frame(frames.DECORATE, {"list_id": list_id}, raw)
        kind, fields = await self._answered(request, _kind_and_fields)
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
        self._break("ended")
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await wait_for_killed(self._process)
        await asyncio.wait([self._stderr_task], timeout=1.0)  # a grandchild may hold the pipe
        self._stderr_task.cancel()
        if self._process.stdin is not None:
            self._process.stdin.close()
        if self._output is not None:
            self._output.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Its standard output is ours to read."""
        self._output = transport

    def data_received(self, data: bytes) -> None:
        """Hand the frames to those who wait for them."""
        self._heard_s = self._loop.time()
        try:
            for kind, fields, octets in self._reader.fed(data):
                if self.is_broken:
                    return
                if not self._asked:
                    raise Broken(f"wrote a frame of kind {kind} without being asked")
                self._take(self._asked[0], kind, fields, octets)
        except (Broken, frames.FrameError) as exc:
            self._break(str(exc) if isinstance(exc, Broken) else f"wrote {exc}")

    def connection_lost(self, exc: Exception | None) -> None:
        """It has closed its standard output: it has ended."""
        self._break("ended")

    def _take(self, asked: _Asked[Any], kind: int, fields: dict[str, Any], octets: bytes) -> None:
        found = asked.take(kind, fields, octets)
        if found is None:
            return
        self._asked.popleft()
        if not self._asked and self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if not asked.answer.done():  # else its caller was cancelled
            asked.answer.set_result(found)

    async def _answered(self, request: bytes, take: _Take[_Answer], timeout_s: float | None = None) -> _Answer:
        """Ask, and wait for the answer. Raises Broken."""
        assert self._process.stdin is not None
        if self.is_broken:
            raise Broken(f"ended{await self._last_words()}", while_others=True)
        asked = _Asked(take, self._loop.create_future(), ANSWER_TIMEOUT_S if timeout_s is None else timeout_s)
        self._asked.append(asked)
        if len(self._asked) == 1:
            self._heard_s = self._loop.time()
        if self._watch is None:
            self._watch = self._loop.call_later(asked.timeout_s, self._look)
        try:
            self._process.stdin.write(request)
        except (OSError, RuntimeError):  # uvloop raises RuntimeError for a closed pipe
            self._break("ended")
        try:
            found: _Answer = await asked.answer
            return found
        except Broken as exc:
            raise Broken(f"{exc}{await self._last_words()}", exc.while_others) from exc

    def _look(self) -> None:
        """Break it if it was silent for too long."""
        self._watch = None
        if not self._asked:
            return
        limit_s = self._asked[0].timeout_s
        left_s = self._heard_s + limit_s - self._loop.time()
        if left_s <= 0:
            self._break(f"did not answer within {limit_s:g} s")
        else:
            self._watch = self._loop.call_later(left_s, self._look)

    def _break(self, reason: str) -> None:
        """Nobody gets an answer any more. The oldest request is the one that it worked on."""
        self.is_broken = True
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        for place, asked in enumerate(self._asked):
            if not asked.answer.done():
                asked.answer.set_exception(Broken(reason, while_others=place > 0))
                asked.answer.exception()  # looked at, even if its caller is cancelled before it comes to that
        self._asked.clear()

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


class _SliceReader:
    """Puts the frames of an answer together."""

    def __init__(self, owed: list[str]) -> None:
        self._contents: list[bytes] = []
        self._messages: list[ComposedMessage] = []
        self._left = set(owed)
        self._error: ComposeError | None = None

    def take(self, kind: int, fields: dict[str, Any], octets: bytes) -> Slice | None:
        """Raises Broken."""
        try:
            if kind == frames.COMPOSED:
                self._compose(fields, octets)
                complete = fields["complete"]
                if complete is None:
                    return None
                return Slice(self._messages, complete and self._error is None, self._left, self._error)
            if kind == frames.FAILED:
                error = self._error or _REASONS.get(fields["reason"], ComposerFailed)(fields["detail"])
                return Slice(self._messages, False, self._left, error)
        except (KeyError, TypeError, IndexError) as exc:
            raise Broken(f"left something out of a frame of kind {kind}: {exc}") from exc
        raise Broken(f"answered with a frame of kind {kind}")

    def _compose(self, fields: dict[str, Any], octets: bytes) -> None:
        transactions, contents = frames.transactions_and_contents(fields, octets)
        self._contents += contents
        for transaction in transactions:
            if self._error is None:
                message = _message(transaction, self._contents)
                self._error = _settled(message, self._left)
                if self._error is None:
                    self._messages.append(message)


def _kind_and_fields(kind: int, fields: dict[str, Any], _octets: bytes) -> tuple[int, dict[str, Any]]:
    return kind, fields


def _message(transaction: frames.Transaction, contents: list[bytes]) -> ComposedMessage:
    recipients = tuple(transaction.recipients)
    content = contents[transaction.content]
    size = None if transaction.size == len(content) else transaction.size
    envelope = Envelope(transaction.reverse_path, recipients, tuple(transaction.mail_parameters), size)
    return ComposedMessage(
        envelope, content, recipients if transaction.owed_for is None else tuple(transaction.owed_for)
    )


def _settled(message: ComposedMessage, left: set[str]) -> ComposerFailed | None:
    """Remove a message's recipients from those still owed. Returns the error if one of them was not asked for."""
    owed_for = set(message.owed_for)
    if len(owed_for) != len(message.owed_for) or not owed_for <= left:
        strangers = [address for address in message.owed_for if address not in left]
        return ComposerFailed(f"Mailman composed for recipients it was not asked for, or twice: {strangers!r:.200}")
    left -= owed_for
    return None
