"""A content in many blocks, and an MTA that takes its time, refuses in the middle, falls silent or hangs up (virtual time).

What the MTA took is never free to be sent again, and what it did not take never counts as delivered.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable
from typing import Any, cast

import aiosmtplib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drainer.clock import StoppedClock
from drainer.compose.wire import ComposedMessage
from drainer.feed import session
from drainer.feed.deliver import deliver
from drainer.feed.session import Session
from drainer.ledger.states import State
from tests.feed.conftest import composed, mta_settings, record_of
from tests.feed.virtual_time import run_in_virtual_time
from tests.ledger.memory import MemoryLedger

_REFUSALS = (b"450 4.2.0 later\r\n", b"550 5.1.1 no\r\n", b"421 4.3.2 bye\r\n")
_SILENCE, _HANG_UP = b"silence", b""
_OTHERS = (b"452 4.5.3 many\r\n", b"250 Ok\r\n421 bye\r\n", b"nonsense\r\n", b"250 ha", b"354 go\r\n")
_LINES = (b".", b"..", b".x", b"x" * 50, b"", b"a.b")
_DELAYS_S = (0.0,) * 8 + (1.0, 1.0, 1.0, 400.0)
"""The last one is longer than any timeout but that of the final dot."""


class Mta(asyncio.Transport):
    """taken  contents that it owns, as they were on the wire; commands: the verbs that it has read"""

    def __init__(self, choice: random.Random) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._choice = choice
        self._misbehaves = choice.choice((0.0, 0.05, 0.3))
        self._holds_up, self._refuses_early = choice.choice((0.0, 0.5)), choice.choice((0.0, 0.0, 0.1))
        self._octets = b""
        self._is_closed = self._is_lost = self._is_in_content = self._has_refused = False
        self._later: list[tuple[Callable[..., None], tuple[bytes, ...]]] = []
        self._at_s = 0.0
        self.esmtp_extensions = {"pipelining": ""} if choice.random() < 0.7 else {}
        self.transport = self
        self.taken: list[bytes] = []
        self.commands: set[bytes] = set()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self

    def fileno(self) -> int:
        raise OSError("there is no socket")

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._session = cast(Session, protocol)

    def is_closing(self) -> bool:
        return self._is_closed

    def abort(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._loop.call_soon(self._lose)

    close = abort

    def write(self, octets: bytes | bytearray | memoryview) -> None:
        if self._is_closed:
            return
        self._octets += bytes(octets)
        if self._choice.random() < self._holds_up:
            self._session.pause_writing()
            self._soon(self._takes_more)
        self._soon(self._reads)

    def _soon(self, step: Callable[..., None], *octets: bytes) -> None:
        """One after the other, whatever each of them waits for."""
        self._later.append((step, octets))
        self._at_s = max(self._at_s, self._loop.time() + self._choice.choice(_DELAYS_S))
        self._loop.call_at(self._at_s, self._next)

    def _next(self) -> None:
        step, octets = self._later.pop(0)
        if not self._is_closed:
            step(*octets)

    def _takes_more(self) -> None:
        self._session.resume_writing()

    def _reads(self) -> None:
        while not self._is_closed:
            if self._is_in_content:
                content, dot, rest = self._octets.partition(b"\r\n.\r\n")
                if not dot:
                    if self._choice.random() < self._refuses_early:
                        self._has_refused, self._refuses_early = True, 0.0
                        self._says(self._choice.choice((*_REFUSALS, _HANG_UP)))
                    return
                self._octets, self._is_in_content = rest, False
                reply = self._reply(b"250 2.1.0 Ok\r\n")
                if reply.startswith(b"250") and reply.endswith(b"\n"):
                    self.taken.append(content + b"\r\n")
            else:
                line, end, rest = self._octets.partition(b"\n")
                if not end:
                    return
                self._octets, is_data = rest, line.startswith(b"DATA")
                self.commands.add(line[:4])
                reply = self._reply(b"354 go\r\n" if is_data else b"250 2.1.0 Ok\r\n")
                self._is_in_content = is_data and reply.startswith(b"354")
            self._says(reply)

    def _reply(self, kind: bytes) -> bytes:
        if self._has_refused:
            return _SILENCE
        is_kind = self._choice.random() >= self._misbehaves
        return kind if is_kind else self._choice.choice((*_REFUSALS, *_OTHERS, _SILENCE, _HANG_UP))

    def _says(self, reply: bytes) -> None:
        if reply == _SILENCE:
            return
        piece = self._choice.choice((1, 3, 1000))
        for at in range(0, len(reply), piece):
            self._soon(self._session.data_received, reply[at : at + piece])
        if not reply.endswith(b"\n"):
            self._soon(self._hangs_up)

    def _hangs_up(self) -> None:
        self._is_closed = True
        if self._choice.random() < 0.5:
            self._session.eof_received()
        self._lose()

    def _lose(self) -> None:
        if not self._is_lost:
            self._is_lost = True
            self._session.connection_lost(None)


def message_of(choice: random.Random) -> ComposedMessage:
    lines = [choice.choice(_LINES) for _ in range(choice.choice((1, 5, 30)))]
    head = b"Message-ID: <%d@example.org>\r\n\r\n" % choice.randrange(10**9)
    recipients = [f"{number}@{number % 3}.example.org" for number in range(choice.choice((1, 2, 5)))]
    return composed(*recipients, content=head + b"\r\n".join(lines) + choice.choice((b"\r\n", b"")))


async def three_mails(choice: random.Random) -> None:
    mta, ledger = Mta(choice), MemoryLedger()
    await ledger.open()
    used = Session(cast(aiosmtplib.SMTP, mta), mta_settings(25))
    for _ in range(3):
        message, before = message_of(choice), len(mta.taken)
        task = asyncio.create_task(deliver(message, "1.0+a", record_of(message), ledger, used, StoppedClock()))
        if choice.random() < 0.3:
            asyncio.get_running_loop().call_later(choice.choice((0.0, 0.5, 1.0, 5.0, 300.0)), task.cancel)
        await asyncio.wait([task])
        history = await ledger.history(record_of(message).identity)
        assert State.ATTEMPTING not in [attempt.state for attempt in await ledger.unresolved_attempts()]
        taken = mta.taken[before:]
        if history.with_state(State.DELIVERED):
            assert len(taken) == 1
        if taken:
            assert history.with_state(State.DELIVERED) or history.with_state(State.IN_DOUBT)
            whole = message.content if message.content.endswith(b"\r\n") else message.content + b"\r\n"
            assert re.sub(rb"(?m)^\.", b"", taken[0]) == whole
        if not task.cancelled():
            done = task.result()
            settled = [name for outcome in done.outcomes for name in outcome.recipients]
            assert {*settled, *done.over_limit, *done.untouched} == set(message.owed_for)
        if not used.usable:
            break
    used.close()
    assert mta.commands <= {b"MAIL", b"RCPT", b"DATA", b"RSET"}, "part of a content was read as a command"


@settings(deadline=None, max_examples=300)
@given(st.integers(0, 2**32))
def test_what_the_mta_took_is_delivered_or_in_doubt_and_nothing_else_is_delivered(seed: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "_BLOCK_BYTES", 64)
        run_in_virtual_time(patch, three_mails(random.Random(seed)))
