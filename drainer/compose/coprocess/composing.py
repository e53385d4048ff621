"""Mailman's own delivery code, made ready to compose queue entries in this process.

In    an entry and the recipients to compose for
Out   its transactions, written as frames; the header and footer of an entry; the lists of the site
Shell runs in Mailman's Python

The site's own outgoing runner processes an entry, as far as it goes without a queue: Runner._process_one_file finds the list
and sets the language, OutgoingRunner._dispose decides about VERP, then the configured delivery function runs. The
connections of smtplib are replaced (captured_smtp.py). The runner never learns how the delivery ended: it would register
bounces and write to the retry queue.
"""

# mypy: disable-error-code="import-not-found"
from __future__ import annotations

import contextlib
import email
import gc
import io
import pickle
import smtplib
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any, BinaryIO, Callable, Iterator  # noqa: UP035 (runs on Python 3.8)

if TYPE_CHECKING:
    from drainer.compose.coprocess import answer_cache, decoration, frames, readonly, serialising
    from drainer.compose.coprocess.captured_smtp import Capture, CapturedTransaction, capturing_class
else:
    import answer_cache
    import decoration
    import frames
    import readonly
    import serialising
    from captured_smtp import Capture, CapturedTransaction, capturing_class

_LONGEST_SILENCE_S = 1.0

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


class RequestFailed(Exception):
    """The request cannot be carried out. `reason` is a word that the parent knows (compose/mailman3_coprocess.py)."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class _SliceFull(BaseException):
    """Enough messages for one answer; the parent asks again for the rest. Not an Exception: Mailman must not catch it."""


class _Outcome(BaseException):
    """The delivery function has returned, or raised `error`. Not an Exception: the runner must see neither."""

    def __init__(self, error: BaseException | None) -> None:
        super().__init__()
        self.error = error


class _Decorated(BaseException):
    """The decorate handler has returned; the runner must not go on to deliver."""

    def __init__(self, texts: dict[str, str]) -> None:
        super().__init__()
        self.texts = texts


class _Owed(list):  # type: ignore[type-arg]
    """The recipients asked for; its len() is that of the whole entry.

    Mailman's decorate handler does not decorate a mail that goes to the Mail Archive only, and recognises it by the number
    of recipients. So the last one of many recipients must look like many, or its copy would have no footer.
    """

    whole = 0

    def __len__(self) -> int:
        return self.whole


class TransactionWriter:
    """Writes the transactions of one request to the parent; equal content goes once.

    slice_contents, slice_octets  the answer ends after this many different contents, or this many octets of them
    slice_copies                  or after this many transactions with one recipient

    They go in one frame, unless Mailman takes long: the parent ends a co-process that it does not hear from.
    """

    def __init__(self, answers: BinaryIO, slice_contents: int, slice_octets: int, slice_copies: int) -> None:
        self._answers = answers
        self._slice_contents = slice_contents
        self._slice_octets = slice_octets
        self._copies_left = slice_copies
        self._numbers: dict[bytes, int] = {}
        self._octets = 0
        self._transactions: list[frames.Transaction] = []
        self._contents: list[bytes] = []
        self._written_s = time.monotonic()

    def note(self, done: CapturedTransaction) -> None:
        number = self._numbers.get(done.content)
        if number is None:
            number = self._numbers[done.content] = len(self._numbers)
            self._octets += len(done.content)
            self._contents.append(done.content)
        owed_for = None if done.owed_for == done.recipients else done.owed_for
        self._transactions.append(
            frames.Transaction(done.reverse_path, done.recipients, done.mail_parameters, done.size, number, owed_for)
        )
        if time.monotonic() - self._written_s > _LONGEST_SILENCE_S:
            self.write(None)
            self._answers.flush()
            self._written_s = time.monotonic()
        if len(done.recipients) == 1:
            self._copies_left -= 1
        if len(self._numbers) >= self._slice_contents or self._octets >= self._slice_octets or self._copies_left <= 0:
            raise _SliceFull

    def write(self, complete: bool | None) -> None:
        """Write what was noted. complete: see frames.composed()"""
        self._answers.write(frames.composed(self._transactions, self._contents, complete))
        self._transactions, self._contents = [], []


class Composing:
    """Mailman, ready to compose. Raises readonly.Unusable, and what Mailman's own initialisation raises."""

    def __init__(self, hello: dict[str, Any]) -> None:
        self._allowed = frozenset((module, name) for module, name in hello["allowed"])
        self._slice = tuple(int(hello[name]) for name in ("slice_contents", "slice_octets", "slice_copies"))
        limit = int(hello["max_recipients"])
        overlay = _OVERLAY.format(max_recipients=f"max_recipients: {limit}" if limit else "")
        readonly.start_mailman(hello["config"], overlay)
        self._capture = Capture({name.lower(): "" for name in hello["offers"]})
        smtplib.SMTP = smtplib.SMTP_SSL = capturing_class(self._capture)  # type: ignore[misc]
        _note_owed(self._capture)
        self._cache = answer_cache.install(float(hello["remember_s"]))
        if float(hello["remember_s"]):
            serialising.install()
        self._delivery = _delivery_function()
        self._runner = _runner(self._deliver_and_stop)
        self._is_decorating = False
        gc.collect()
        gc.freeze()  # Mailman and its libraries stay: a collection need not look at them again

    def versions(self) -> dict[str, str]:
        from mailman.config import config
        from mailman.version import VERSION

        return {
            "mailman": VERSION,
            "python": ".".join(map(str, sys.version_info[:3])),
            "queue_dir": config.QUEUE_DIR,
            "config": config.filename or "",
        }

    def compose(self, recipients: list[str], raw: bytes, list_id: str, answers: BinaryIO) -> None:
        """Write the transactions for these recipients of an entry, or as many as an answer holds. Raises RequestFailed."""
        writer = TransactionWriter(answers, *self._slice)
        self._capture.begin(writer.note)
        try:
            with _failing(), self._cache.request():
                msg, msgdata = self._opened(raw)
                self._deliver(recipients, msg, msgdata, list_id)
        except _SliceFull:
            writer.write(complete=False)
        except RequestFailed:
            writer.write(None)
            raise
        else:
            writer.write(complete=True)

    def lists(self) -> list[tuple[str, str]]:
        """List-id and posting address of every list. Raises RequestFailed."""
        from mailman.interfaces.listmanager import IListManager
        from zope.component import getUtility

        try:
            with self._cache.request():
                return [(mlist.list_id, mlist.fqdn_listname) for mlist in getUtility(IListManager)]
        except Exception as exc:
            traceback.print_exc()
            raise RequestFailed("later", f"{type(exc).__name__}: {exc!s:.500}") from exc

    def decoration(self, raw: bytes, list_id: str) -> dict[str, str]:
        """Header and footer of an entry, see decoration.py. Raises RequestFailed."""
        with _failing(), self._cache.request():
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
        raise RequestFailed("failed", "Mailman's outgoing runner did not come to decorating")

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
        msgdata.pop("deliver_after", None)  # the parent decides when it is due
        try:
            self._runner._process_one_file(msg, msgdata)
        except _Outcome as outcome:
            if outcome.error is not None:
                raise outcome.error from None
        else:
            raise RequestFailed("failed", "Mailman's outgoing runner did not come to delivering")

    def _deliver_and_stop(self, mlist: Any, msg: Any, msgdata: dict[str, Any]) -> None:
        """Stands in for the runner's delivery function."""
        from mailman.mta.deliver import deliver

        try:
            if self._is_decorating:
                raise _Decorated(decoration.decoration(mlist, msg, msgdata))
            self._cache.members.begin(msgdata["recipients"])
            if self._delivery is deliver:
                # For its log only, which is off; else Mailman writes the mail once more to measure it.
                msgdata.setdefault("original_size", 0)
            self._delivery(mlist, msg, msgdata)
        except Exception as exc:  # noqa: BLE001 (passed by the runner, raised again after it)
            raise _Outcome(exc) from None
        raise _Outcome(None)


@contextlib.contextmanager
def _failing() -> Iterator[None]:
    """Turn what Mailman's code raises into a RequestFailed."""
    from mailman.interfaces.mta import SomeRecipientsFailed
    from sqlalchemy.exc import DBAPIError

    try:
        yield
    except RequestFailed:
        raise
    except SomeRecipientsFailed as exc:
        failed = [*exc.permanent_failures, *exc.temporary_failures]
        raise RequestFailed("failed", f"Mailman could not write to some recipients: {failed!r:.500}") from exc
    except readonly.ChangeRefused as exc:
        traceback.print_exc()
        raise RequestFailed("failed", str(exc)) from exc
    except (OSError, DBAPIError) as exc:
        # A template server, an archiver or the database does not answer: Mailman's runner would try again later.
        traceback.print_exc()
        raise RequestFailed("later", f"{type(exc).__name__}: {exc!s:.500}") from exc
    except Exception as exc:
        traceback.print_exc()
        raise RequestFailed("failed", f"{type(exc).__name__}: {exc!s:.500}") from exc


_found: dict[tuple[str, str], Any] = {}


class _Unpickler(pickle.Unpickler):
    """Loads an entry with Mailman's real classes, but only the allowed ones."""

    def __init__(self, stream: BinaryIO, allowed: frozenset[tuple[str, str]]) -> None:
        super().__init__(stream)
        self._allowed = allowed

    def find_class(self, module_name: str, global_name: str) -> Any:
        name = (module_name, global_name)
        if name not in self._allowed:
            raise RequestFailed("unsafe_pickle", f"{module_name}.{global_name} is not on the allowed list")
        found = _found.get(name)
        if found is None:
            found = _found[name] = super().find_class(module_name, global_name)
        return found


def _require_list(msgdata: dict[str, Any], list_id: str) -> None:
    """Raise RequestFailed if there is no such list (Runner._process_one_file would shunt the entry), or if the list has
    another list-id than the parent expects: the parent would not recognise copies of its mail."""
    from mailman.interfaces.listmanager import IListManager
    from zope.component import getUtility

    lists = getUtility(IListManager)
    if "listid" in msgdata:
        named, mlist = msgdata["listid"], lists.get_by_list_id(msgdata["listid"])
    else:
        named = msgdata.get("listname")
        mlist = None if named is None else lists.get(named)
    if mlist is None:
        raise RequestFailed("no_such_list", f"Mailman has no list {named!r}")
    if "listid" not in msgdata and mlist.list_id != list_id:
        raise RequestFailed("failed", f"list {named!r} has the list-id {mlist.list_id}, and the entry does not say so")


def _delivery_function() -> Any:
    from mailman.config import config
    from mailman.utilities.modules import find_name

    return find_name(config.mta.outgoing)


def _runner(delivery: Callable[[Any, Any, dict[str, Any]], None]) -> Any:
    """The site's outgoing runner without its queue. Its constructor is not called: it would recover .bak files."""
    from mailman.config import config
    from mailman.utilities.modules import find_name

    genuine = find_name(getattr(config, "runner.out")["class"])
    runner = genuine.__new__(genuine)
    runner.name = "out"
    runner._func = delivery
    return runner


def _note_owed(capture: Capture) -> None:
    """Keep the recipients that Mailman's connection is given, since its developer mode replaces them."""
    from mailman.mta.connection import Connection

    genuine = Connection.sendmail

    def sendmail(connection: Any, envsender: str, recipients: list[str], msg: Any) -> Any:
        capture.owed = recipients
        try:
            return genuine(connection, envsender, recipients, msg)
        finally:
            capture.owed = None

    Connection.sendmail = sendmail
