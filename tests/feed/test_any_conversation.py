"""One transaction without a socket, against an MTA that says anything, in any pieces, and hangs up anywhere."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any, cast

import aiosmtplib
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from drainer.clock import StoppedClock
from drainer.feed.deliver import deliver
from drainer.feed.session import Session
from drainer.feed.transaction import Transaction
from drainer.ledger.evidence import Finish
from drainer.ledger.records import AttemptId, NewAttempt, NewDsn
from drainer.ledger.states import State
from tests.feed.conftest import composed, mta_settings, record_of
from tests.feed.virtual_time import run_in_virtual_time
from tests.ledger.memory import MemoryLedger

EVERYBODY = ("ann@example.org", "a>b@example.org", "ben@example.net", "cat@example.com")

_HANG_UP = b""
_AFTER_FINAL_DOT = {
    b"250 2.1.0 Ok\r\n": {State.DELIVERED},
    b"250-two\r\n250 lines\r\n": {State.DELIVERED},
    b"354 go\r\n": {State.IN_DOUBT},
    b"450 4.2.0 later\r\n": {State.DEFERRED},
    b"452 4.5.3 many\r\n": {State.DEFERRED},
    b"452 bare\r\n": {State.DEFERRED},
    b"550 5.1.1 unknown\r\n": {State.FAILED},
    b"552 full\r\n": {State.DEFERRED},
    b"421 4.3.2 bye\r\n": {State.DEFERRED},
    b"503 5.5.1 what\r\n": {State.FAILED},
    b"250 Ok\r\n250 Ok\r\n": {State.IN_DOUBT, State.DELIVERED},
    b"250 Ok\r\n421 bye\r\n": {State.DELIVERED},
    b"nonsense\r\n": {State.IN_DOUBT},
    b"250 ha": {State.IN_DOUBT},
    b"220 hello\r\n": {State.IN_DOUBT},
    _HANG_UP: {State.IN_DOUBT},
}
"""What the MTA may say, and what becomes of the recipients of a content if it says that to its final dot. Of two replies it
depends on whether they are read together."""

_REPLY = st.sampled_from([*_AFTER_FINAL_DOT])
_KIND = b"250 2.1.0 Ok\r\n"


class Mta(asyncio.Transport):
    """Answers each command with the next of `replies`, in pieces of `piece` octets; then kindly for ever.

    dots       contents that arrived whole
    answer     to the last of them, as far as it came
    """

    def __init__(self, replies: list[bytes], piece: int) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._replies: Iterator[bytes] = iter(replies)
        self._piece = piece
        self._in_content = self._closed = False
        self.esmtp_extensions: dict[str, str] = {}
        self.transport = self
        self.dots = 0
        self.answer = b""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self

    def fileno(self) -> int:
        raise OSError("there is no socket")

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = cast(Session, protocol)

    def is_closing(self) -> bool:
        return self._closed

    def abort(self) -> None:
        self._closed = True

    close = abort

    def write(self, octets: bytes | bytearray | memoryview) -> None:
        if self._in_content:
            assert bytes(octets).endswith(b"\r\n.\r\n"), "the content fits into one block"
            self._in_content, self.dots = False, self.dots + 1
            self.answer = self._say(next(self._replies, _KIND))
            return
        for command in bytes(octets).splitlines():
            said = self._say(next(self._replies, b"354 go\r\n" if command == b"DATA" else _KIND))
            self._in_content = command == b"DATA" and said.startswith(b"354")

    def _say(self, reply: bytes) -> bytes:
        if self._closed:
            return b""
        for at in range(0, len(reply), self._piece):
            self._loop.call_soon(self._hear, reply[at : at + self._piece])
        if reply == _HANG_UP or not reply.endswith(b"\n"):
            self._closed = True
            self._loop.call_soon(self._protocol.connection_lost, None)
        return reply

    def _hear(self, octets: bytes) -> None:
        self._protocol.data_received(octets)


def session_with(mta: Mta, *, pipelined: bool) -> Session:
    mta.esmtp_extensions = {"pipelining": ""} if pipelined else {}
    return Session(cast(aiosmtplib.SMTP, mta), mta_settings(25))


async def carried_out(replies: list[bytes], piece: int, *, pipelined: bool) -> tuple[Mta, Session, Transaction]:
    mta, ledger = Mta(replies, piece), MemoryLedger()
    await ledger.open()
    session = session_with(mta, pipelined=pipelined)
    message = composed(*EVERYBODY)
    done = await deliver(message, "1.0+a", record_of(message), ledger, session, StoppedClock())
    still_open = [attempt.state for attempt in await ledger.unresolved_attempts()]
    assert State.ATTEMPTING not in still_open
    assert bool(still_open) is bool(done.recipients(State.IN_DOUBT))
    return mta, session, done


@settings(deadline=None, max_examples=300)
@given(st.lists(_REPLY, max_size=7), st.sampled_from([1, 7, 1000]), st.booleans())
@example([_KIND, _KIND, _KIND, _KIND, b"354 go\r\n", b"250 Ok\r\n250 Ok\r\n"], 1000, True)
@example([_KIND, _KIND, _KIND, _KIND, b"354 go\r\n", b"250 Ok\r\n250 Ok\r\n"], 1, True)
@example([_KIND, _KIND, _KIND, _KIND, b"354 go\r\n", _HANG_UP], 1, False)
@example([_KIND, b"452 bare\r\n", b"452 bare\r\n", _KIND], 1000, False)
def test_every_recipient_ends_in_one_place_and_only_a_lost_final_dot_is_in_doubt(
    replies: list[bytes], piece: int, pipelined: bool
) -> None:
    mta, session, done = asyncio.run(carried_out(replies, piece, pipelined=pipelined))
    settled = [name for outcome in done.outcomes for name in outcome.recipients]
    beyond = [*done.over_limit, *(name for name in done.untouched if name not in settled)]
    assert sorted([*settled, *beyond]) == sorted(EVERYBODY)
    assert set(done.recipients(State.DEFERRED)) >= set(done.untouched) & set(settled)
    assert (done.attempt_id is None) is (done.accepted == 0)
    if mta.dots:
        assert done.outcomes[0].state in _AFTER_FINAL_DOT[mta.answer]
    else:
        assert not done.recipients(State.DELIVERED) and not done.recipients(State.IN_DOUBT)
    if done.trouble and not done.session_limit:
        assert done.untouched or done.recipients(State.IN_DOUBT)
    assert session.lost is None or not session.usable


class SlowLedger(MemoryLedger):
    """Writes take some turns of the loop, as a disk would."""

    async def open_attempt(self, attempt: NewAttempt) -> AttemptId:
        await _turns(3)
        return await super().open_attempt(attempt)

    async def close_attempt(
        self,
        attempt_id: AttemptId,
        state: State,
        reply: str,
        at_s: float,
        dsns: Sequence[NewDsn] = (),
        finish: Finish | None = None,
    ) -> None:
        await _turns(3)
        await super().close_attempt(attempt_id, state, reply, at_s, dsns, finish)


async def _turns(turns: int) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


async def cancelled_after(turns: int, *, pipelined: bool) -> str:
    """What came of a transaction that is cancelled so many turns of the loop after it began; "" if it had ended."""
    mta, ledger = Mta([], 1000), SlowLedger()
    await ledger.open()
    session = session_with(mta, pipelined=pipelined)
    message = composed(*EVERYBODY)
    ended: list[Transaction] = []
    sending = deliver(message, "1.0+a", record_of(message), ledger, session, StoppedClock(), on_end=ended.append)
    task = asyncio.create_task(sending)
    await _turns(turns)
    if task.done():
        return ""
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await ledger.unresolved_attempts() == []
    history = await ledger.history(record_of(message).identity)
    if not mta.dots:
        assert history.coverage == () and not ended
        return "stopped"
    assert len(history.with_state(State.DELIVERED)) == len(ended[0].recipients(State.DELIVERED)) == 3
    assert session.usable and session.transactions == 1
    return "finished"


@pytest.mark.parametrize("pipelined", [True, False])
def test_cancelled_at_any_moment_it_is_stopped_before_the_attempt_or_comes_to_its_end(pipelined: bool) -> None:
    async def at_each_moment() -> list[str]:
        came = [await cancelled_after(turns, pipelined=pipelined) for turns in range(40)]
        return [what for place, what in enumerate(came) if what != came[place - 1]]

    assert asyncio.run(at_each_moment()) == ["stopped", "finished", ""]


class DeliberateMta(Mta):
    """Takes its time over each reply, one after the other, as one does that asks others about each recipient."""

    def __init__(self, each_s: float, replies: Sequence[bytes] = ()) -> None:
        super().__init__([*replies], 1000)
        self._each_s = each_s
        self._says_at_s = 0.0

    def _say(self, reply: bytes) -> bytes:
        self._says_at_s = max(self._says_at_s, self._loop.time()) + self._each_s
        if not self._closed:
            self._loop.call_at(self._says_at_s, self._hear, reply)
        return reply


async def taken_slowly(each_s: float) -> Transaction:
    ledger = MemoryLedger()
    await ledger.open()
    session = session_with(DeliberateMta(each_s), pipelined=True)
    message = composed(*(f"{number}@example.org" for number in range(100)))
    return await deliver(message, "1.0+a", record_of(message), ledger, session, StoppedClock())


def test_each_of_a_hundred_pipelined_recipients_has_the_timeout_of_a_reply_to_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    patience_s = mta_settings(25).command_timeout
    done = run_in_virtual_time(monkeypatch, taken_slowly(0.9 * patience_s))
    assert len(done.recipients(State.DELIVERED)) == 100
    done = run_in_virtual_time(monkeypatch, taken_slowly(1.1 * patience_s))
    assert len(done.untouched) == 100 and "timed out" in done.trouble
