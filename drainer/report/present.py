"""What is here now that no ledger knows: the figures of this moment, what waits per list and class, what is held.

Pure  values only; kept in the ledger as JSON, so that a report can be made without the service
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from drainer.report.snapshot import Snapshot

HELD_KEPT = 200
"""Held entries described at most."""


class Waiting(BaseModel):
    """Entries here of one list and class of duplicate, held ones too; "" and "": not read yet. recipients: still owed."""

    model_config = ConfigDict(frozen=True)

    list: str
    kind: str
    entries: int
    recipients: int
    bytes: int


class HeldEntry(BaseModel):
    """An entry that waits for a person. at, by: when and by whom it was set aside; 0.0 and "" where that is not known."""

    model_config = ConfigDict(frozen=True)

    entry: str
    list: str = ""
    sender: str = ""
    subject: str = ""
    message_id: str = ""
    recipients: int | None = None
    reason: str = ""
    at: float = 0.0
    by: str = ""
    of: str = ""


class Present(BaseModel):
    """held: the oldest, at most HELD_KEPT of snapshot.backlog.held_entries."""

    model_config = ConfigDict(frozen=True)

    snapshot: Snapshot
    waiting: list[Waiting] = []
    held: list[HeldEntry] = []
