"""Requests and replies about entries: listed, shown, held, released, dropped, handed back.

Pure  values only
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from drainer.backlog.selection import EntryLine, Selectors
from drainer.control.messages.base import Reply, Request
from drainer.report.snapshot import WithoutService


class EntryQuery(Selectors):
    """The query string of GET /entries."""

    limit: int = Field(100, ge=0, le=2**31)


class EntriesReply(Reply):
    """`total` matched; `entries` holds at most the number asked for. `without_service`: as in the snapshot."""

    total: int
    entries: list[EntryLine]
    without_service: WithoutService | None = None


class DeliveryLine(Reply):
    """What became of some recipients of one message on one list: a state of a delivery (ledger/states.py), or evidence
    (ledger/evidence.py): suppressed, doubt_delivered, dropped, ...

    of, of_at         suppressed: the entry that had delivered to them, and when
    addresses, reply  failed, held, in doubt: the recipients, and the reply
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


class ShowReply(Reply):
    """`entry` None: no such entry waits; `others` wait as well under that Message-ID; `fates` is what the ledger knows.

    recipients  all that the entry names
    owed        those of them that are not settled yet; null from a service older than this field
    """

    entry: EntryLine | None
    others: list[str] = []
    headers: list[tuple[str, str]] = []
    recipients: list[str] = []
    owed: list[str] | None = None
    metadata: dict[str, Any] = {}
    fates: list[DeliveryLine] = []
    without_service: WithoutService | None = None


class SelectRequest(Request):
    """Without `yes` nothing is done: the reply says what would be."""

    selectors: Selectors = Selectors()
    yes: bool = False
    reason: str = ""


class SelectReply(Reply):
    """`done` False: a dry run. `matched` and `recipients` count what the selectors found; `skipped` says what could not
    be done now, with the reason (an entry in delivery, for example).

    gone         how many were settled, or another operator's, before their turn came
    gone_why     of these by reason: finished (no longer in custody), vanished (its file was taken away), settled (no
                 recipient is owed), copy_goes (its recipients go back with another copy of the mail)
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
