"""Requests and replies about the journal: who did what, undo, and the incident report.

Pure  values only
"""

from __future__ import annotations

from pydantic import Field

from drainer.control.messages.base import Reply, Request
from drainer.report.snapshot import WithoutService


class JournalQuery(Request):
    """The query string of GET /journal."""

    limit: int = Field(100, ge=1, le=100_000)


class JournalAction(Reply):
    """One line of the journal.

    entries     how many it did something to; null: it is not about entries
    undoable    whether `undo` may take it back; `why_not` says why it may not
    undo_until  seconds since the epoch; null: not limited by time
    undone_by   the undo that took it back, and undone_entries of how many entries
    undoes      of an undo: the action it took back
    cut_off     the service ended before the action was finished
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


class JournalReply(Reply):
    """Newest last. without_service: as in EntriesReply."""

    actions: list[JournalAction]
    without_service: WithoutService | None = None


class UndoRequest(Request):
    """number None: the last action that is not undone. Without `yes` nothing is done: the reply says what would be."""

    number: int | None = Field(None, ge=1, le=2**53, strict=True)
    yes: bool = False
    reason: str = ""


class NotUndone(Reply):
    """Entries that are not put back, for one reason; `names` has the first of them."""

    reason: str
    entries: int
    names: list[str] = []


class UndoReply(Reply):
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


class ReportQuery(Request):
    """The query string of GET /report. since: seconds since the epoch."""

    since: float | None = Field(None, allow_inf_nan=False)
