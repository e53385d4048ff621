"""Whatever an MTA says, in whatever pieces: replies, or a named end; and never more of it kept than a reply may be long."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from drainer.feed.outcome import parse_reply
from drainer.feed.wire_replies import UnreadableReply, WireReplies

_PIECES = st.lists(
    st.binary(max_size=30)
    | st.sampled_from(
        [b"250 ok\r\n", b"250-a\r\n250 b\r\n", b"25", b"0 x\n", b"\r\n", b"\n", b"999 \xff\r\n", b"250-" * 3000]
    ),
    max_size=12,
)


class _Transport(asyncio.Transport):
    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self

    def setsockopt(self, *option: int) -> None:
        """A socket that takes every option."""

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        """Nothing is connected."""


async def _heard(pieces: list[bytes]) -> list[tuple[int, str]]:
    """The replies in the pieces; the end is a named one."""
    replies: list[tuple[int, str]] = []
    wire = WireReplies(_Transport())
    for piece in pieces:
        wire.data_received(piece)
    wire.connection_lost(None)
    assert len(wire.unasked()) <= 70_000
    try:
        while True:
            replies.append(await wire.reply(0))
    except (UnreadableReply, ConnectionResetError) as end:
        assert str(end).isprintable()
    return replies


@settings(deadline=None, max_examples=150)
@given(_PIECES)
@example([b"250-" + b"x" * 8000 + b"\r\n"] * 12)
@example([b"\0" * 60_000])
def test_any_bytes_give_replies_or_a_named_end_however_they_are_cut(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    replies = asyncio.run(_heard(pieces))
    for code, text in replies:
        try:
            assert str(parse_reply(code, text)).isprintable()
        except ValueError as exc:
            assert str(exc)
    if len(whole) < 8192:
        assert asyncio.run(_heard([whole[at : at + 1] for at in range(len(whole))])) == replies
