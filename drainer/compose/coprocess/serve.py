"""The co-process: composes queue entries with Mailman's own delivery code, one request at a time.

In    frames on standard input (frames.py): HELLO once, then COMPOSE and DECORATE
Out   frames on standard output, which nothing else reaches: what Mailman prints goes to standard error
Shell a script for Mailman's Python; ends at end of input or with its parent, not by SIGTERM

An entry is processed by the site's own outgoing runner, as far as it goes without a queue: Runner._process_one_file
finds the list and sets the language, OutgoingRunner._dispose decides about VERP, then the configured delivery
function runs with smtplib's connections replaced by a recorder. Its outcome never gets back to the runner, which
would register bounces and write to the retry queue.
"""

# mypy: disable-error-code="import-not-found"
from __future__ import annotations

import contextlib
import ctypes
import email
import errno
import functools
import io
import os
import pickle
import signal
import smtplib
import sys
import traceback
from typing import TYPE_CHECKING, Any, BinaryIO, Callable, Iterator  # noqa: UP035 (runs on Python 3.8)

if TYPE_CHECKING:
    from drainer.compose.coprocess import decoration, frames, readonly, remembered
    from drainer.compose.coprocess.recorder import Recorder, Recording, Transaction
else:
    import decoration
    import frames
    import readonly
    import remembered
    from recorder import Recorder, Recording, Transaction

_OVERLAY = """\
[mta]
smtp_secure_mode: smtp
smtp_user:
smtp_pass:
{max_recipients}
[logging.smtp]
every: no
success: no
refused: no
failure: no
"""
_PR_SET_PDEATHSIG = 1


class Refusal(Exception):
    """This request cannot be answered. `reason` is a word the parent knows."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class _SliceFull(BaseException):
    """Enough copies for one answer; the parent asks again for the rest. Not an Exception: Mailman must not catch it."""


class _Outcome(BaseException):
    """The delivery function is through, with or without an error; the runner must not see which."""

    def __init__(self, error: BaseException | None) -> None:
        super().__init__()
        self.error = error


class _Decorated(BaseException):
    """The decorate handler is through; the runner must not go on to deliver."""

    def __init__(self, texts: dict[str, str]) -> None:
        super().__init__()
        self.texts = texts


class _Owed(list):  # type: ignore[type-arg]
    """The recipients asked for, whose len() is that of the whole entry.

    Mailman's decorate handler leaves a mail alone that goes to the Mail Archive only, which it sees by the number of
    recipients: asked for the last one of many, it must decorate as it did for the others.
    """

    whole = 0

    def __len__(self) -> int:
        return self.whole


class Answer:
    """Transactions of one request on their way to the parent; equal content goes once.

    slice_contents, slice_octets  the answer ends after that many different contents, or that many octets of them
    """

    def __init__(self, write: Callable[[bytes], None], slice_contents: int, slice_octets: int) -> None:
        self._write = write
        self._slice_contents = slice_contents
        self._slice_octets = slice_octets
        self._numbers: dict[bytes, int] = {}
        self._octets = 0

    def note(self, done: Transaction) -> None:
        number = self._numbers.get(done.content)
        if number is None:
            number = self._numbers[done.content] = len(self._numbers)
            self._octets += len(done.content)
            self._write(frames.frame(frames.CONTENT, {"number": number}, done.content))
        fields = done._asdict()
        fields["content"] = number
        if fields["owed_for"] == fields["recipients"]:
            del fields["owed_for"]
        self._write(frames.frame(frames.TRANSACTION, fields))
        if len(self._numbers) >= self._slice_contents or self._octets >= self._slice_octets:
            raise _SliceFull


class Composing:
    """Mailman, ready to compose. Raises readonly.Unusable, and what Mailman's own initialisation raises."""

    def __init__(self, hello: dict[str, Any]) -> None:
        self._allowed = frozenset((module, name) for module, name in hello["allowed"])
        self._slice = (int(hello["slice_contents"]), int(hello["slice_octets"]))
        limit = int(hello["max_recipients"])
        overlay = _OVERLAY.format(max_recipients=f"max_recipients: {limit}" if limit else "")
        readonly.start_mailman(hello["config"], overlay)
        self._recording = Recording({name.lower(): "" for name in hello["offers"]}, lambda done: None)
        Recorder.recording = self._recording
        smtplib.SMTP = smtplib.SMTP_SSL = Recorder  # type: ignore[misc, assignment]
        smtplib.quoteaddr = functools.lru_cache(maxsize=65536)(smtplib.quoteaddr)  # the same subscribers come again
        _tell_owed(self._recording)
        self._memory = remembered.install(float(hello["remember_s"]))
        self._delivery = _delivery_function()
        self._runner = _runner(self._deliver_and_stop)
        self._is_decorating = False

    def versions(self) -> dict[str, str]:
        from mailman.config import config
        from mailman.version import VERSION

        return {
            "mailman": VERSION,
            "python": ".".join(map(str, sys.version_info[:3])),
            "queue_dir": config.QUEUE_DIR,
            "config": config.filename or "",
        }

    def compose(self, recipients: list[str], raw: bytes, list_id: str, write: Callable[[bytes], None]) -> bool:
        """Write the transactions for these recipients of an entry.

        Returns  whether that is all; False: the answer was full, ask again for those not covered yet
        Raises   Refusal
        """
        self._recording.note = Answer(write, *self._slice).note
        self._recording.owed = None
        self._recording.serialised = None
        try:
            with _refusing(), self._memory.request():
                msg, msgdata = self._opened(raw)
                self._deliver(recipients, msg, msgdata, list_id)
        except _SliceFull:
            return False
        return True

    def lists(self) -> list[tuple[str, str]]:
        """List-id and posting address of every list. Raises Refusal."""
        from mailman.interfaces.listmanager import IListManager
        from zope.component import getUtility

        try:
            with self._memory.request():
                return [(mlist.list_id, mlist.fqdn_listname) for mlist in getUtility(IListManager)]
        except Exception as exc:
            traceback.print_exc()
            raise Refusal("later", f"{type(exc).__name__}: {exc!s:.500}") from exc

    def decoration(self, raw: bytes, list_id: str) -> dict[str, str]:
        """Header and footer of an entry, see decoration.py. Raises Refusal."""
        with _refusing(), self._memory.request():
            msg, msgdata = self._opened(raw)
            _require_list(msgdata, list_id)
            msgdata.pop("deliver_after", None)
            self._is_decorating = True
            try:
                self._runner._process_one_file(msg, msgdata)
            except _Decorated as found:
                return found.texts
            finally:
                self._is_decorating = False
        raise Refusal("failed", "Mailman's outgoing runner did not come to decorating")

    def _opened(self, raw: bytes) -> tuple[Any, dict[str, Any]]:
        """The message and metadata, as Switchboard.dequeue makes them."""
        from mailman.email.message import Message

        stream = io.BytesIO(raw)
        msg, msgdata = (_Unpickler(stream, self._allowed).load() for _ in range(2))
        if msgdata.get("_parsemsg"):
            original_size = len(msg)
            msg = email.message_from_string(msg, Message)
            msg.original_size = original_size
            msgdata["original_size"] = original_size
        return msg, msgdata

    def _deliver(self, recipients: list[str], msg: Any, msgdata: dict[str, Any], list_id: str) -> None:
        _require_list(msgdata, list_id)
        owed = _Owed(recipients)
        owed.whole = max(len(recipients), len(msgdata.get("recipients") or ()))
        msgdata["recipients"] = owed
        msgdata.pop("deliver_after", None)  # when it is due is the parent's business
        try:
            self._runner._process_one_file(msg, msgdata)
        except _Outcome as outcome:
            if outcome.error is not None:
                raise outcome.error from None
        else:
            raise Refusal("failed", "Mailman's outgoing runner did not come to delivering")

    def _deliver_and_stop(self, mlist: Any, msg: Any, msgdata: dict[str, Any]) -> None:
        """What the runner takes for its delivery function."""
        try:
            if self._is_decorating:
                raise _Decorated(decoration.decoration(mlist, msg, msgdata))
            self._memory.begin_delivery(msgdata["recipients"])
            self._delivery(mlist, msg, msgdata)
        except Exception as exc:  # noqa: BLE001 (carried past the runner, raised again behind it)
            raise _Outcome(exc) from None
        raise _Outcome(None)


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    """What ends Mailman's code becomes a Refusal the parent knows."""
    from mailman.interfaces.mta import SomeRecipientsFailed
    from sqlalchemy.exc import DBAPIError

    try:
        yield
    except Refusal:
        raise
    except SomeRecipientsFailed as exc:
        failed = [*exc.permanent_failures, *exc.temporary_failures]
        raise Refusal("failed", f"Mailman could not write to some recipients: {failed!r:.500}") from exc
    except readonly.ChangeRefused as exc:
        traceback.print_exc()
        raise Refusal("failed", str(exc)) from exc
    except (OSError, DBAPIError) as exc:
        # a template server, an archiver or the database that does not answer: Mailman's runner tries again later
        traceback.print_exc()
        raise Refusal("later", f"{type(exc).__name__}: {exc!s:.500}") from exc
    except Exception as exc:
        traceback.print_exc()
        raise Refusal("failed", f"{type(exc).__name__}: {exc!s:.500}") from exc


class _Unpickler(pickle.Unpickler):
    """Opens an entry with Mailman's real classes, but only the allowed ones."""

    def __init__(self, stream: BinaryIO, allowed: frozenset[tuple[str, str]]) -> None:
        super().__init__(stream)
        self._allowed = allowed

    def find_class(self, module_name: str, global_name: str) -> Any:
        if (module_name, global_name) not in self._allowed:
            raise Refusal("unsafe_pickle", f"{module_name}.{global_name} is not on the allowed list")
        return super().find_class(module_name, global_name)


def _require_list(msgdata: dict[str, Any], list_id: str) -> None:
    """Raise Refusal where Runner._process_one_file would shunt for want of a list, or the list is not the one that the
    parent knows the entry by: it would not recognise copies of its mail."""
    from mailman.interfaces.listmanager import IListManager
    from zope.component import getUtility

    lists = getUtility(IListManager)
    if "listid" in msgdata:
        named, mlist = msgdata["listid"], lists.get_by_list_id(msgdata["listid"])
    else:
        named = msgdata.get("listname")
        mlist = None if named is None else lists.get(named)
    if mlist is None:
        raise Refusal("no_such_list", f"Mailman has no list {named!r}")
    if "listid" not in msgdata and mlist.list_id != list_id:
        raise Refusal("failed", f"list {named!r} has the list-id {mlist.list_id}, and the entry does not say so")


def _delivery_function() -> Any:
    from mailman.config import config
    from mailman.utilities.modules import find_name

    return find_name(config.mta.outgoing)


def _runner(delivery: Callable[[Any, Any, dict[str, Any]], None]) -> Any:
    """The site's outgoing runner without its queue: its constructor would recover .bak files."""
    from mailman.config import config
    from mailman.utilities.modules import find_name

    genuine = find_name(getattr(config, "runner.out")["class"])
    runner = genuine.__new__(genuine)
    runner.name = "out"
    runner._func = delivery
    return runner


def _tell_owed(recording: Recording) -> None:
    """Note the recipients before Mailman's developer mode replaces them."""
    from mailman.mta.connection import Connection

    genuine = Connection.sendmail

    def sendmail(connection: Any, envsender: str, recipients: list[str], msg: Any) -> Any:
        recording.owed = recipients
        try:
            return genuine(connection, envsender, recipients, msg)
        finally:
            recording.owed = None

    Connection.sendmail = sendmail


def _read(stream: BinaryIO) -> tuple[int, dict[str, Any], bytes] | None:
    """The next frame; None at end of input."""
    head = stream.read(frames.PREFIX_BYTES)
    if not head:
        return None
    announced = frames.prefix(head)
    return (announced.kind, *frames.fields_and_octets(announced, stream.read(announced.rest_length)))


def _answer(
    composing: Composing, kind: int, fields: dict[str, Any], raw: bytes, write: Callable[[bytes], None]
) -> None:
    try:
        if kind == frames.LISTS:
            answer = frames.frame(frames.LISTED, {"lists": composing.lists()})
        elif kind == frames.DECORATE:
            answer = frames.frame(frames.DECORATION, composing.decoration(raw, fields["list_id"]))
        else:
            complete = composing.compose(fields["recipients"], raw, fields["list_id"], write)
            answer = frames.frame(frames.DONE, {"complete": complete})
    except Refusal as exc:
        answer = frames.frame(frames.FAILED, {"reason": exc.reason, "detail": exc.detail})
    write(answer)


def _reserve_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Standard input and output for frames alone: whatever else reads finds nothing, whatever prints goes to stderr."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    return requests, answers


def _end_with_parent() -> None:
    """A parent that is killed while Mailman's code hangs must not leave us behind (Linux; elsewhere end of input)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _leave_signals_to_parent() -> None:
    """systemd and a terminal signal the whole group; the parent still wants the answers in flight."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def main() -> int:
    requests, answers = _reserve_pipes()
    _end_with_parent()
    _leave_signals_to_parent()

    def write(octets: bytes) -> None:
        answers.write(octets)

    greeting = _read(requests)
    if greeting is None or greeting[0] != frames.HELLO:
        return 2
    try:
        composing = Composing(greeting[1])
        write(frames.frame(frames.READY, composing.versions()))
    except SystemExit:
        # Mailman has said why on standard error, whose last line the parent quotes
        write(frames.frame(frames.REFUSED, {"detail": "Mailman gave up"}))
        answers.flush()
        return 1
    except readonly.Unusable as exc:
        write(frames.frame(frames.REFUSED, {"detail": str(exc), "path": exc.unwritable, "writing": True}))
        answers.flush()
        return 1
    except Exception as exc:  # noqa: BLE001 (whatever stops Mailman is told to the parent)
        traceback.print_exc()
        fields: dict[str, Any] = {"detail": f"{type(exc).__name__}: {exc}"}
        if isinstance(exc, OSError) and isinstance(exc.filename, str):
            fields.update(path=os.path.normpath(exc.filename), writing=exc.errno == errno.EROFS)
        write(frames.frame(frames.REFUSED, fields))
        answers.flush()
        return 1
    answers.flush()
    while True:
        request = _read(requests)
        if request is None:
            return 0
        _answer(composing, *request, write)
        answers.flush()


if __name__ == "__main__":
    sys.exit(main())
