"""The client's side of an open SMTP session: what was sent, which replies are owed for it, and what came.

In    the stages of the commands that go out; the octets that come in, however they are cut; the end of the connection
Out   one Answer for each exchange: its replies in order, or the SessionLost that came in their place
Pure  no socket, no clock

An exchange is what goes out at once: one command, or several where the MTA pipelines (RFC 2920). It is over when each of its
commands has its reply; at a 421, which may come at any time (RFC 5321 §3.8); or with the session.

A reply too many is never taken for the reply to the next command. Read together with the last one owed, it takes the answer
back: which reply belongs to which command is not certain. Read later, it ends the session before the next command goes out.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from drainer.feed.outcome import Reply, SessionLost, Stage, parse_reply

Answer = Sequence[Reply] | SessionLost
"""Of one exchange. Fewer replies than commands: the last one is a 421."""

_LONGEST_LINE = 8192
_LONGEST_REPLY = 4 * _LONGEST_LINE
_SHOWN = 80
_CLOSING = 421
_GO_AHEAD = 354


class UnreadableReply(Exception):
    """The octets that arrived are no SMTP reply."""


class SmtpClient:
    """The state of one session between greeting and QUIT.

    lost      the loss that ended it; None while it stands, or when it was closed in order
    got_421   the MTA said it is closing; refused_a_recipient: in answer to RCPT
    errors    4xx and 5xx replies since the MTA last accepted a content
    """

    def __init__(self) -> None:
        self.lost: SessionLost | None = None
        self.got_421 = self.refused_a_recipient = False
        self.errors = 0
        self._end = ""
        self._stages: Sequence[Stage] = ()
        self._replies: list[Reply] = []
        self._rest = b""
        self._lines: list[str] = []
        self._lines_bytes = 0
        self._unasked = b""

    @property
    def owed(self) -> int:
        """Replies that are still to come; 0: no exchange is under way."""
        return len(self._stages) - len(self._replies)

    @property
    def is_over(self) -> bool:
        """Nothing can be sent any more."""
        return self.got_421 or bool(self._end)

    @property
    def is_in_step(self) -> bool:
        """The session stands, and nothing came that was not asked for."""
        return not (self._end or self._unasked or self.got_421)

    def sends(self, stages: Sequence[Stage]) -> SessionLost | None:
        """An exchange begins: these commands go out now, unless the session is lost at the first of them."""
        if self._end:
            return self._lose(stages[0], self._end)
        if self._unasked:
            return self._lose(stages[0], f"a reply to nothing: {_shown(self._unasked)}")
        self._stages, self._replies = stages, []
        return None

    def final_dot_goes(self) -> None:
        """The exchange of the content: from now on its final dot may be out."""
        self._stages = (Stage.FINAL_DOT,)

    def receives(self, octets: bytes) -> Answer | None:
        """Octets from the MTA. Returns the answer of the exchange if it is over with them."""
        if self._end or self.got_421:
            return None
        *lines, rest = (self._rest + octets).split(b"\n")
        self._rest = b""
        replies, stages = self._replies, self._stages
        owed, read = len(stages) - len(replies), 0
        try:
            for line in lines:
                if not owed:
                    break
                read += 1
                is_whole = line[3:4] != b"-" and not self._lines
                reply = _reply_of(line) if is_whole else self._reply_ended_by(line)
                if reply is not None:
                    replies.append(reply)
                    owed -= 1
                    if reply.code >= 400 and self._closes_with(stages[len(replies) - 1], reply):
                        break
            if owed and not self.got_421:
                _check_length(len(rest), _LONGEST_LINE)
                self._rest = rest
                return None
        except UnreadableReply as exc:
            return self._lose(stages[len(replies)], str(exc))
        self._unasked = (self._unasked + b"\n".join([*lines[read:], rest]))[:_SHOWN]
        return self._answer(replies) if stages else None

    def ends(self, why: str) -> SessionLost | None:
        """The connection has ended, or is given up. Returns the answer of the exchange that was under way."""
        if self.is_over:
            return None
        self._end = why
        return self._lose(self._stages[len(self._replies)], why) if self._stages else None

    def closes(self) -> None:
        """This side drops the connection: no answer any more."""
        self._end = self._end or "connection closed"
        self._stages, self._replies = (), []

    def _reply_ended_by(self, line: bytes) -> Reply | None:
        """Note a line of a reply of several lines; the reply, if it is the last one."""
        self._lines.append(_text_of(line))
        self._lines_bytes += len(line)
        _check_length(self._lines_bytes, _LONGEST_REPLY)
        if line[3:4] == b"-":
            return None
        text = "\n".join(self._lines)
        self._lines, self._lines_bytes = [], 0
        return _parsed(int(line[:3]), text)

    def _closes_with(self, stage: Stage, refusal: Reply) -> bool:
        """Note a refusal; whether the MTA closes the session with it."""
        self.errors += 1
        if refusal.code == _CLOSING:
            self.got_421, self.refused_a_recipient = True, stage is Stage.RCPT
        return self.got_421

    def _answer(self, replies: list[Reply]) -> Answer:
        stage, last = self._stages[len(replies) - 1], replies[-1]
        if self._unasked and len(replies) == len(self._stages):
            if not self._unasked.startswith(b"421"):  # it may come at any time and does not undo the reply
                return self._lose(stage, f"more than one reply: {last}, then {_shown(self._unasked)!r}")
            self.got_421 = True
        if last.code < 400:
            if stage is Stage.FINAL_DOT:
                self.errors = 0
            elif stage is Stage.CONTENT or (stage is Stage.DATA and last.code != _GO_AHEAD):
                return self._lose(stage, f"out-of-turn reply: {last}")
        self._stages, self._replies = (), []
        return replies

    def _lose(self, stage: Stage, detail: str) -> SessionLost:
        self.closes()
        self.lost = SessionLost(stage, detail)
        return self.lost


def _shown(octets: bytes) -> str:
    return " ".join(octets.decode("ascii", "replace").split())


def _check_length(octets: int, longest: int) -> None:
    if octets > longest:
        raise UnreadableReply("reply too long")


def _text_of(line: bytes) -> str:
    """What a line of a reply says behind its code. Raises UnreadableReply."""
    _check_length(len(line), _LONGEST_LINE)
    code = line[:3]
    if not (len(code) == 3 and code.isdigit()):
        raise UnreadableReply(f"malformed reply: {ascii(line[:_SHOWN])[2:-1]}")
    return line[4:].strip(b" \t\r\n").decode("utf-8", "surrogateescape")


@functools.lru_cache(256)
def _reply_of(line: bytes) -> Reply:
    """A reply of one line. An MTA says the same thousands of times."""
    text = _text_of(line)
    return _parsed(int(line[:3]), text)


def _parsed(code: int, text: str) -> Reply:
    try:
        return parse_reply(code, text)
    except ValueError as exc:
        raise UnreadableReply(f"unparsable reply: {exc}") from exc
