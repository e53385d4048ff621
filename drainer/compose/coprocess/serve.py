"""The co-process: composes queue entries with Mailman's own delivery code, one request at a time.

In    frames on standard input (frames.py): HELLO once, then COMPOSE, LISTS and DECORATE
Out   frames on standard output. What Mailman prints goes to standard error
Shell a script for Mailman's Python; it ends at the end of input or with its parent, not by SIGTERM
Not here  the composing itself (composing.py)
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import sys
import traceback
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from drainer.compose.coprocess import frames, readonly
    from drainer.compose.coprocess.composing import Composing, RequestFailed
else:
    import frames
    import readonly
    from composing import Composing, RequestFailed

_PR_SET_PDEATHSIG = 1
_PIPE_BYTES = 2**16  # what a pipe holds (Linux)


def _read(stream: BinaryIO) -> tuple[int, dict[str, Any], bytes] | None:
    """The next frame; None at the end of input."""
    head = stream.read(frames.PREFIX_BYTES)
    if not head:
        return None
    announced = frames.prefix(head)
    return (announced.kind, *frames.fields_and_octets(announced, stream.read(announced.rest_length)))


def _answer(composing: Composing, kind: int, fields: dict[str, Any], raw: bytes, answers: BinaryIO) -> None:
    try:
        if kind == frames.LISTS:
            answers.write(frames.frame(frames.LISTED, {"lists": composing.lists()}))
        elif kind == frames.DECORATE:
            answers.write(frames.frame(frames.DECORATION, composing.decoration(raw, fields["list_id"])))
        else:
            composing.compose(fields["recipients"], raw, fields["list_id"], answers)
    except RequestFailed as exc:
        answers.write(frames.frame(frames.FAILED, {"reason": exc.reason, "detail": exc.detail}))


def _reserve_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Keep standard input and output for frames: other code that reads finds nothing, what it prints goes to stderr."""
    requests, answers = os.fdopen(os.dup(0), "rb", _PIPE_BYTES), os.fdopen(os.dup(1), "wb", _PIPE_BYTES)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    return requests, answers


def _end_with_parent() -> None:
    """End when the parent is killed, even while Mailman's code hangs (Linux; elsewhere the end of input ends us)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _leave_signals_to_parent() -> None:
    """systemd and a terminal signal the whole process group, but the parent still needs the answers in flight."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def main() -> int:
    requests, answers = _reserve_pipes()
    _end_with_parent()
    _leave_signals_to_parent()

    greeting = _read(requests)
    if greeting is None or greeting[0] != frames.HELLO:
        return 2
    try:
        composing = Composing(greeting[1])
        answers.write(frames.frame(frames.READY, composing.versions()))
    except SystemExit:
        # Mailman has written the reason to standard error; the parent quotes its last line.
        answers.write(frames.frame(frames.REFUSED, {"detail": "Mailman gave up"}))
        answers.flush()
        return 1
    except readonly.Unusable as exc:
        answers.write(frames.frame(frames.REFUSED, {"detail": str(exc), "path": exc.unwritable, "writing": True}))
        answers.flush()
        return 1
    except Exception as exc:  # noqa: BLE001 (the parent reports whatever stops Mailman)
        traceback.print_exc()
        fields: dict[str, Any] = {"detail": f"{type(exc).__name__}: {exc}"}
        if isinstance(exc, OSError) and isinstance(exc.filename, str):
            fields.update(path=os.path.normpath(exc.filename), writing=exc.errno == errno.EROFS)
        answers.write(frames.frame(frames.REFUSED, fields))
        answers.flush()
        return 1
    answers.flush()
    while True:
        request = _read(requests)
        if request is None:
            return 0
        _answer(composing, *request, answers)
        answers.flush()


if __name__ == "__main__":
    sys.exit(main())
