"""Requests and replies of the control socket: one definition for both ends.

    GET  /status                 Snapshot
    GET  /metrics                the same as text for Prometheus (report/metrics.py)
    GET  /eta?at=RATE&by=EPOCH   EtaReply
    GET  /entries?SELECTORS&limit=N  EntriesReply
    GET  /entries/{key}          ShowReply      key: filebase, unique beginning of one, or Message-ID
    POST /pause                  PauseRequest   -> Done
    POST /resume                 ResumeRequest  -> Done
    GET  /rate                   RateReply
    POST /rate                   RateRequest    -> RateReply
    POST /hold /release /drop    SelectRequest  -> SelectReply
    POST /handback               SelectRequest  -> SelectReply
    POST /import                 ImportRequest  -> ImportReply
    POST /undo                   UndoRequest    -> UndoReply
    GET  /journal?limit=N        JournalReply
    GET  /report?since=EPOCH     Incident (report/incident/document.py)
    GET  /config                 the settings in force

Errors are {"error": "text for the operator"} with 400 (bad request), 404 (no such entry), 409 (refused) or 500.
Pure  values only
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from drainer.backlog.selection import Selectors
from drainer.backlog.values import EntryLine
from drainer.estimate.eta import Eta
from drainer.report.snapshot import Snapshot, WithoutService
from drainer.settings import LONGEST_S, rate_per_s
from drainer.text.clean_model import CleanModel

if TYPE_CHECKING:
    from drainer.report.incident.document import Incident


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Reply(CleanModel):
    """Fields are only ever added, so an older client ignores what it does not know."""


class Peer(_Wire):
    """Who is at the other end of the socket (SO_PEERCRED)."""

    pid: int
    uid: int
    user: str


class PauseRequest(_Wire):
    """list "": everything; else as in Selectors. for_s None: until resumed."""

    list: str = ""
    for_s: float | None = Field(None, gt=0, le=LONGEST_S, allow_inf_nan=False)
    reason: str = ""


class ResumeRequest(_Wire):
    """list "": everything; else as in Selectors, or one that is paused."""

    list: str = ""
    reason: str = ""


def _new_rate(value: object) -> object:
    return value if value in (None, "unlimited") else rate_per_s(value)


_NewRate = Annotated[float | Literal["unlimited"] | None, BeforeValidator(_new_rate)]


class RateRequest(_Wire):
    """A rate is per second, or "20/s" as in the settings; "unlimited" lifts the ceiling; None leaves it as it is."""

    messages: _NewRate = None
    recipients: _NewRate = None
    reason: str = ""


class RateReply(_Reply):
    """Per second, None unlimited."""

    messages: float | None
    recipients: float | None
    messages_per_s: float | None = None
    recipients_per_s: float | None = None


class EntryQuery(Selectors):
    """The query string of GET /entries."""

    limit: int = Field(100, ge=0, le=2**31)


def _asked_rate(value: object) -> float | None:
    """A rate as a query string has it: "20/s", "20" or nothing. Raises ValueError."""
    if isinstance(value, str) and value.replace(".", "", 1).isdecimal():
        return float(value)
    if value == "unlimited":
        raise ValueError('not a rate to compute with; right would be "20/s", "600/m" or "5000/h"')
    return rate_per_s(value)


class EtaQuery(_Wire):
    """The query string of GET /eta. at: recipients per second, as a number or "20/s"; by: seconds since the epoch;
    list: its name, address or list-id, "" for none."""

    at: Annotated[float | None, BeforeValidator(_asked_rate)] = None
    by: float | None = Field(None, allow_inf_nan=False)
    list: str = ""


class ReportQuery(_Wire):
    """The query string of GET /report. since: seconds since the epoch."""

    since: float | None = Field(None, allow_inf_nan=False)


class SelectRequest(_Wire):
    """Without `yes` nothing is done: the reply says what would be."""

    selectors: Selectors = Selectors()
    yes: bool = False
    reason: str = ""


class EntriesReply(_Reply):
    """`total` matched; `entries` holds at most the number asked for. `without_service`: as in the snapshot."""

    total: int
    entries: list[EntryLine]
    without_service: WithoutService | None = None


class SelectReply(_Reply):
    """`done` False: a dry run. `matched` and `recipients` count what the selectors found; `skipped` says what could not
    be done now, with the reason (an entry in delivery, for example).

    gone         how many were settled, or another operator's, before their turn came
    gone_why     of these by reason: finished (no longer in custody), vanished (its file was taken away), settled (nobody
                 is owed), copy_goes (its recipients go back with another copy of the mail)
    unread       how many of the matched are not read yet: their recipients are not counted
    may_have_it  of a release: recipients held because they were in doubt, who get a second copy if the MTA has theirs
    number, undo_until  of the action in the journal, for undo, and until when (seconds since the epoch) that is possible;
                 null: nothing was done, or it is not limited by time
    """

    done: bool
    number: int | None = None
    undo_until: float | None = None
    matched: int
    recipients: int
    changed: int = 0
    gone: int = 0
    gone_why: dict[str, int] = {}
    unread: int = 0
    may_have_it: int = 0
    skipped: list[str] = []
    entries: list[EntryLine] = []


class DeliveryLine(_Reply):
    """What became of some recipients of one message on one list: a state of a delivery (ledger/states.py), or evidence
    (ledger/evidence.py): suppressed, doubt_delivered, dropped, ...

    of, of_at         suppressed: the entry that had delivered to them, and when
    addresses, reply  failed, held, in doubt: who, and the answer
    """

    list: str
    message_id: str
    state: str
    recipients: int
    entry: str
    at: float
    detail: str = ""
    of: str = ""
    of_at: float | None = None
    addresses: tuple[str, ...] = ()
    reply: str = ""


class ShowReply(_Reply):
    """`entry` None: no such entry waits; `others` wait as well under that Message-ID; `fates` is what the ledger knows.

    recipients  all that the entry names
    owed        of these, whom nothing is settled about yet; null from a service before this field
    """

    entry: EntryLine | None
    others: list[str] = []
    headers: list[tuple[str, str]] = []
    recipients: list[str] = []
    owed: list[str] | None = None
    metadata: dict[str, Any] = {}
    fates: list[DeliveryLine] = []
    without_service: WithoutService | None = None


class ListEta(_Reply):
    """When one list is through. `eta` "paused" if it or everything is; `what_if` at the rate asked about."""

    list: str
    entries: int
    recipients: int
    eta: Eta
    paused: bool = False
    what_if: Eta | None = None
    if_resumed: Eta | None = None


class EtaReply(_Reply):
    """All rates per second.

    what_if      the estimate at the rate asked about
    if_resumed   while paused: the estimate if everything, paused lists too, went on now
    by           the time asked about, seconds since the epoch
    needed_recipients_per_s     to be through by then; null: no rate would do, or the work is unknown
    chance       of being through by then as things go, 0 to 1; null while there is no forecast
    verdict      whether that rate can be had: estimate/drain_time.py, ByTime
    raise_messages_per_s, raise_recipients_per_s  limits in force that do not allow it, and what they would have to be
    shown_recipients_per_s      the fastest the MTA has been seen to take, over ten seconds
    sustained_recipients_per_s  the same over five minutes
    unread_entries              their recipients are not in backlog_recipients
    without_service             as in the snapshot; then shown_recipients_per_s is the rate last recorded
    """

    eta: Eta
    backlog_recipients: int
    what_if: Eta | None = None
    if_resumed: Eta | None = None
    by: float | None = None
    needed_recipients_per_s: float | None = None
    chance: float | None = None
    verdict: Literal["likely", "possible", "unproven", "impossible", "unknown"] | None = None
    raise_messages_per_s: float | None = None
    raise_recipients_per_s: float | None = None
    shown_recipients_per_s: float | None = None
    sustained_recipients_per_s: float | None = None
    list: ListEta | None = None
    unread_entries: int = 0
    without_service: WithoutService | None = None


class DeliveryInLog(_Wire):
    """Recipients of one message that had it, as a log tells. Fields as in mta_log/delivered.py, Delivered."""

    lists: tuple[str, ...] = Field(min_length=1)
    message_id: str = Field(min_length=1)
    recipients: tuple[str, ...]
    at_s: float = Field(allow_inf_nan=False)
    carried: int | None = Field(None, ge=0)


class ImportRequest(_Wire):
    """Some of what logs tell, under one name; many requests make an import. With `undo` all under that name is forgotten.

    note  for the journal, with the last request of an import; empty: more are to come
    """

    name: str = Field(pattern=r"\Aimport-[0-9A-Za-z.-]{1,60}\z")
    deliveries: list[DeliveryInLog] = []
    yes: bool = False
    undo: bool = False
    note: str = ""


class ImportedEntry(_Reply):
    """An entry that waits, some of whose recipients (`covered`) had its message."""

    entry: str
    list: str
    message_id: str
    recipients: int
    covered: int


class ImportReply(_Reply):
    """`deliveries`: recipients the log tells of that can be known again; `learnt` of them were news to the ledger (or were
    forgotten). `unmatched`: deliveries of Mailman's that name nobody, and fit no entry."""

    done: bool
    name: str
    deliveries: int = 0
    learnt: int = 0
    unmatched: int = 0
    entries: list[ImportedEntry] = []


class Done(_Reply):
    """`number`: of the action in the journal; null: nothing was changed."""

    message: str
    number: int | None = None


class JournalQuery(_Wire):
    """The query string of GET /journal."""

    limit: int = Field(100, ge=1, le=100_000)


class JournalAction(_Reply):
    """One line of the journal.

    entries     how many it did something to; null: it is not about entries
    undoable    whether `undo` may take it back; `why_not` says why it may not
    undo_until  seconds since the epoch; null: not limited by time
    undone_by   the undo that took it back, and undone_entries of how many entries
    undoes      of an undo: the action it took back
    cut_off     the service ended before it was through
    """

    number: int
    at: float
    by: str
    action: str
    detail: str
    reason: str = ""
    entries: int | None = None
    undoable: bool = False
    why_not: str = ""
    undo_until: float | None = None
    undone_by: int | None = None
    undone_entries: int = 0
    undoes: int | None = None
    cut_off: bool = False


class JournalReply(_Reply):
    """Newest last. without_service: as in EntriesReply."""

    actions: list[JournalAction]
    without_service: WithoutService | None = None


class UndoRequest(_Wire):
    """number None: the last action that stands. Without `yes` nothing is done: the reply says what would be."""

    number: int | None = Field(None, ge=1, le=2**53)
    yes: bool = False
    reason: str = ""


class NotUndone(_Reply):
    """Entries that are not put back, for one reason; `names` has the first of them."""

    reason: str
    entries: int
    names: list[str] = []


class UndoReply(_Reply):
    """`done` False: a dry run.

    number   of the undo itself, which can be undone as well; null: nothing was done
    of       the action it takes back
    changed  entries put back, or that would be; `left` those that are not
    decided, kept   pauses and limits taken back, and those that are not, in words
    """

    done: bool
    number: int | None = None
    of: JournalAction
    changed: int = 0
    left: list[NotUndone] = []
    decided: list[str] = []
    kept: list[str] = []


class Answers(Protocol):
    """What can be asked without changing anything: of the service, or of ledger and custody (without_service/)."""

    async def status(self) -> Snapshot: ...

    async def eta(self, at_recipients_per_s: float | None, by_s: float | None, list_name: str) -> EtaReply: ...

    async def entries(self, selectors: Selectors, limit: int) -> EntriesReply: ...

    async def show(self, key: str) -> ShowReply: ...

    async def journal(self, limit: int) -> JournalReply: ...


class Operations(Answers, Protocol):
    """What the service can be asked; operate/operations.py implements it. Raises RequestRefused (409) or KeyError (404)."""

    async def pause(self, request: PauseRequest, peer: Peer) -> Done: ...

    async def resume(self, request: ResumeRequest, peer: Peer) -> Done: ...

    async def rate(self) -> RateReply: ...

    async def set_rate(self, request: RateRequest, peer: Peer) -> RateReply: ...

    async def hold(self, request: SelectRequest, peer: Peer) -> SelectReply: ...

    async def release(self, request: SelectRequest, peer: Peer) -> SelectReply: ...

    async def drop(self, request: SelectRequest, peer: Peer) -> SelectReply: ...

    async def handback(self, request: SelectRequest, peer: Peer) -> SelectReply: ...

    async def import_log(self, request: ImportRequest, peer: Peer) -> ImportReply: ...

    async def undo(self, request: UndoRequest, peer: Peer) -> UndoReply: ...

    async def report(self, since_s: float | None) -> Incident: ...

    async def config(self) -> dict[str, Any]: ...
