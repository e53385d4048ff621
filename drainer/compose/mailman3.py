"""Composes Mailman 3 entries by asking co-processes that run Mailman's own delivery code in Mailman's own Python.

In    queue entries and the recipients still owed
Out   ComposedMessages, as Mailman's outgoing runner would have written them; the header and footer in one
Shell starts, asks and ends co-processes (coprocess/serve.py); what they answer is checked here

An answer is a slice: all transactions of a bulk entry, whose content is shared, or as many personal copies as
SLICE_CONTENTS and SLICE_OCTETS allow. A slice is received whole before its first message is yielded, so a co-process
never waits for the MTA, and at most one slice per caller is in memory. A co-process that dies, hangs or answers
rubbish is ended, and the slice asked for once more in a new one; nothing of it was handed on, so nothing doubles.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shlex
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from drainer.compose.coprocess import frames
from drainer.compose.wire import ComposedMessage, Envelope
from drainer.duplicates.decoration import Decoration
from drainer.errors import (
    ComposeDeferred,
    ComposeError,
    ComposerFailed,
    ComposerUnavailable,
    CoprocessBroke,
    NoSuchList,
    SettingsError,
)
from drainer.files.access import and_advice
from drainer.pickles.allowed import ALLOWED
from drainer.queuedir.entry import QueueEntry
from drainer.queuedir.list_names import MailingList
from drainer.text.logfmt import logfmt

ANSWER_TIMEOUT_S = 60.0  # between two frames; composing one copy takes milliseconds, a dead template server 5 s
START_TIMEOUT_S = 60.0  # importing Mailman takes 1 to 2 s on an idle machine
SLICE_CONTENTS = 100
SLICE_OCTETS = 4 * 2**20
STDERR_KEPT = 4096
OFFERS = ("8BITMIME", "SMTPUTF8", "SIZE")

_SCRIPT = Path(__file__).with_name("coprocess") / "serve.py"
_REASONS: dict[str, type[ComposeError]] = {"no_such_list": NoSuchList, "later": ComposeDeferred}

_Answer = TypeVar("_Answer")

log = logging.getLogger(__name__)


class _Broken(Exception):
    """The co-process died, hung or wrote what is no answer; it cannot be used again."""


@dataclass(frozen=True, slots=True)
class MailmanVersions:
    """What a co-process said of its Mailman: versions, its queue directory, the mailman.cfg it found."""

    mailman: str
    python: str
    queue_dir: str
    config: str


@dataclass(frozen=True, slots=True)
class _Slice:
    """One answer. `complete`: Mailman was through with all it was asked for; `error`: what ended it instead."""

    messages: list[ComposedMessage]
    complete: bool
    error: ComposeError | None


class Mailman3Composer:
    """A Composer for Mailman 3.

    python          the Python that can `import mailman`
    config          its mailman.cfg; None: Mailman looks for it itself
    coprocesses     how many work side by side, >= 1
    max_recipients  most recipients in a transaction; 0: as Mailman's own setting says
    remember_s      how long list settings and templates are remembered; 0: looked up each time
    offers          what the MTA announces at EHLO
    """

    def __init__(
        self,
        python: Path,
        config: Path | None,
        coprocesses: int,
        max_recipients: int,
        remember_s: float,
        offers: Sequence[str] = OFFERS,
    ) -> None:
        # -W: else a warning about Mailman's own code would be the last line said, and be told as the reason of an end
        self._command = (str(python), "-B", "-W", "ignore", str(_SCRIPT))
        self._hello = {
            "config": None if config is None else str(config),
            "max_recipients": max_recipients,
            "remember_s": remember_s,
            "offers": list(offers),
            "allowed": sorted(ALLOWED),
            "slice_contents": SLICE_CONTENTS,
            "slice_octets": SLICE_OCTETS,
        }
        self._slots = asyncio.Semaphore(coprocesses)
        self._coprocesses = coprocesses
        self._idle: list[_Coprocess] = []
        self._working: set[_Coprocess] = set()
        self._closed = False
        self.versions: MailmanVersions | None = None
        self.trouble = ""
        """Why no co-process could be started when that was tried last, in one line; "" if it could."""

    async def start(self) -> None:
        """Start all co-processes. Raises ComposerUnavailable with the reason and a command to try by hand."""
        self._closed = False
        started = await asyncio.gather(*(self._started() for _ in range(self._coprocesses)), return_exceptions=True)
        self._idle = [item for item in started if isinstance(item, _Coprocess)]
        for item in started:
            if isinstance(item, BaseException):
                await self.close()
                raise item

    def require_queue_dir(self, queue_dir: Path) -> None:
        """Raise SettingsError where the Mailman that was started works on another queue than we do."""
        assert self.versions is not None, "asked before the start"
        of_mailman = Path(self.versions.queue_dir)
        if of_mailman.resolve() != queue_dir.resolve():
            raise SettingsError(
                f"mailman.queue_dir = {str(queue_dir)!r}: the Mailman of {self.versions.config or 'its own mailman.cfg'} "
                f"has its queues in {of_mailman}, so it would compose with another site's lists; right would be "
                f"{str(of_mailman)!r}, or in mailman.config the mailman.cfg that belongs to {str(queue_dir)!r}"
            )

    async def compose(self, entry: QueueEntry, recipients: Sequence[str]) -> AsyncGenerator[ComposedMessage, None]:
        """See Composer. Raises ComposeError; ComposerUnavailable when Mailman cannot be started any more."""
        owed = list(dict.fromkeys(recipients))
        while owed:
            answer = await self._slice(entry, owed)
            for message in answer.messages:
                yield message
            if answer.error is not None:
                raise answer.error
            covered = {address for message in answer.messages for address in message.owed_for}
            owed = [address for address in owed if address not in covered]
            if owed and (answer.complete or not covered):
                raise ComposerFailed(f"Mailman composed nothing for {len(owed)} recipients, such as {owed[0]}")

    async def lists(self) -> list[MailingList]:
        """Every list Mailman has. Raises ComposeError, ComposerUnavailable."""
        async with self._slots:
            coprocess = self._idle.pop() if self._idle else await self._started()
            self._working.add(coprocess)
            is_reusable = False
            try:
                found = await coprocess.lists()
                is_reusable = True
            except _Broken as exc:
                raise ComposerFailed(f"asked for its lists, Mailman {exc}") from exc
            finally:
                self._working.discard(coprocess)
                if is_reusable and not self._closed:
                    self._idle.append(coprocess)
                else:
                    await coprocess.end()
        return [MailingList(list_id, *address.rsplit("@", 1)) for list_id, address in found]

    async def close(self) -> None:
        """End all co-processes, working ones too."""
        self._closed = True
        ending = [*self._idle, *self._working]
        self._idle.clear()
        await asyncio.gather(*(item.end() for item in ending))

    async def decoration(self, entry: QueueEntry) -> Decoration:
        """Header and footer as Mailman would put them into this mail in bulk. Raises as compose."""
        return await self._asked(entry.filebase, lambda coprocess: coprocess.ask_decoration(entry.raw, entry.list_id))

    async def _slice(self, entry: QueueEntry, owed: list[str]) -> _Slice:
        return await self._asked(entry.filebase, lambda coprocess: coprocess.ask(entry.raw, owed, entry.list_id))

    async def _asked(self, filebase: str, ask: Callable[[_Coprocess], Awaitable[_Answer]]) -> _Answer:
        """One answer, from a second co-process if the first broke."""
        async with self._slots:
            for is_last_try in (False, True):
                # The second is a new one: whatever killed one while it was idle may have killed the others as well, and that
                # is no fault of the entry.
                coprocess = self._idle.pop() if self._idle and not is_last_try else await self._started()
                self._working.add(coprocess)
                is_reusable = False
                try:
                    answer = await ask(coprocess)
                    is_reusable = True
                except ComposeError:
                    is_reusable = True
                    raise
                except _Broken as exc:
                    log.warning(logfmt(event="coprocess_broken", filebase=filebase, reason=exc))
                    if is_last_try:
                        raise CoprocessBroke(f"two co-processes broke on it; the last one {exc}") from exc
                else:
                    return answer
                finally:
                    self._working.discard(coprocess)
                    if is_reusable and not self._closed:
                        self._idle.append(coprocess)
                    else:
                        await coprocess.end()
        raise AssertionError("unreachable: the last try returns or raises")

    async def _started(self) -> _Coprocess:
        if self._closed:
            raise ComposerUnavailable("the composer is closed")
        try:
            coprocess = await self._greeted()
        except ComposerUnavailable as exc:
            self.trouble = str(exc).replace("\n", "; ")
            raise
        self.trouble = ""
        return coprocess

    async def _greeted(self) -> _Coprocess:
        coprocess = await self._launched()
        try:
            self.versions = await coprocess.greet(self._hello)
        except BaseException as exc:
            await coprocess.end()
            if isinstance(exc, _Broken):
                raise ComposerUnavailable(self._unavailable(f"it {exc}")) from exc
            raise
        return coprocess

    async def _launched(self) -> _Coprocess:
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as exc:
            raise ComposerUnavailable(self._unavailable(f"{self._command[0]}: {exc.strerror}")) from exc
        return _Coprocess(process)

    def _unavailable(self, reason: str) -> str:
        probe = [self._command[0], "-m", "mailman.bin.mailman", "info"]
        config = self._hello["config"]
        environment = f"MAILMAN_CONFIG_FILE={shlex.quote(str(config))} " if config else ""
        return f"the composer for Mailman 3 did not start: {reason}\ntry by hand: {environment}{shlex.join(probe)}"


class _Coprocess:
    """One co-process and its pipes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._stderr: deque[bytes] = deque()
        self._stderr_task = asyncio.create_task(self._keep_stderr())

    async def greet(self, hello: dict[str, Any]) -> MailmanVersions:
        """Have Mailman initialised. Raises _Broken with the reason."""
        await self._send(frames.frame(frames.HELLO, hello))
        kind, fields, _ = await self._receive(START_TIMEOUT_S)
        if kind == frames.REFUSED:
            detail, words = str(fields.get("detail")), await self._last_words()
            said = f"says: {detail}" if detail in words else f"says: {detail}{words}"
            path = fields.get("path")
            writing = bool(fields.get("writing"))
            raise _Broken(said + (and_advice(Path(path), writing=writing, of_mailman=True) if path else ""))
        try:
            if kind != frames.READY:
                raise _Broken("answered the greeting with something else")
            return MailmanVersions(**fields)
        except TypeError as exc:
            raise _Broken("said nothing of its versions") from exc

    async def ask(self, raw: bytes, owed: list[str], list_id: str) -> _Slice:
        """Have a slice composed. Raises _Broken."""
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
                    return _Slice(messages, fields["complete"], None)
                elif kind == frames.FAILED:
                    error = _REASONS.get(fields["reason"], ComposerFailed)
                    return _Slice(messages, False, error(fields["detail"]))
                else:
                    raise _Broken(f"answered with a frame of kind {kind}")
            except (KeyError, TypeError) as exc:
                raise _Broken(f"left something out of a frame of kind {kind}: {exc}") from exc
            except ComposerFailed as exc:
                await self._drained()
                return _Slice(messages[:-1], False, exc)

    async def lists(self) -> list[tuple[str, str]]:
        """List-id and posting address of each. Raises _Broken."""
        await self._send(frames.frame(frames.LISTS, {}))
        kind, fields, _ = await self._receive(ANSWER_TIMEOUT_S)
        if kind != frames.LISTED:
            raise _Broken(f"says: {fields.get('detail')}")
        return [(str(list_id), str(address)) for list_id, address in fields["lists"]]

    async def ask_decoration(self, raw: bytes, list_id: str) -> Decoration:
        """Raises _Broken, ComposeError."""
        await self._send(frames.frame(frames.DECORATE, {"list_id": list_id}, raw))
        kind, fields, _ = await self._receive(ANSWER_TIMEOUT_S)
        try:
            if kind == frames.DECORATION:
                return Decoration(**fields)
            if kind != frames.FAILED:
                raise _Broken(f"answered with a frame of kind {kind}")
            raise _REASONS.get(fields["reason"], ComposerFailed)(fields["detail"])
        except (KeyError, TypeError) as exc:
            raise _Broken(f"left something out of a frame of kind {kind}: {exc}") from exc

    async def end(self) -> None:
        """Kill it; it holds nothing that could be lost. Returns when it is gone."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        await asyncio.wait([self._stderr_task], timeout=1.0)  # a grandchild may hold the pipe
        self._stderr_task.cancel()
        if self._process.stdin is not None:
            self._process.stdin.close()

    async def _drained(self) -> None:
        """Read the rest of an answer nobody wants."""
        while (await self._receive(ANSWER_TIMEOUT_S))[0] not in (frames.DONE, frames.FAILED):
            pass

    async def _send(self, octets: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(octets)
            await asyncio.wait_for(self._process.stdin.drain(), ANSWER_TIMEOUT_S)
        except TimeoutError as exc:
            raise _Broken(f"took no request within {ANSWER_TIMEOUT_S:g} s") from exc
        except (OSError, RuntimeError) as exc:  # uvloop has RuntimeError for a pipe it knows to be closed
            raise _Broken(f"ended{await self._last_words()}") from exc

    async def _receive(self, timeout_s: float) -> tuple[int, dict[str, Any], bytes]:
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(timeout_s):
                announced = frames.prefix(await self._process.stdout.readexactly(frames.PREFIX_BYTES))
                rest = await self._process.stdout.readexactly(announced.rest_length)
            return (announced.kind, *frames.fields_and_octets(announced, rest))
        except TimeoutError as exc:
            raise _Broken(f"did not answer within {timeout_s:g} s") from exc
        except (asyncio.IncompleteReadError, OSError) as exc:
            raise _Broken(f"ended{await self._last_words()}") from exc
        except frames.FrameError as exc:
            raise _Broken(f"wrote {exc}{await self._last_words()}") from exc

    async def _last_words(self) -> str:
        """The end of its standard error, read to its end: the process is on its way out."""
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
    """Take a message's recipients off those still owed. Raises ComposerFailed where it was asked for something else."""
    strangers = [address for address in message.owed_for if address not in unsettled]
    if strangers or len(set(message.owed_for)) != len(message.owed_for):
        raise ComposerFailed(f"Mailman composed for somebody it was not asked for, or twice: {strangers!r:.200}")
    unsettled.difference_update(message.owed_for)
