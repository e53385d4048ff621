"""What is here now that no ledger knows: the figures of this moment, what waits per list and class, what is held.

Pure  values only; kept in the ledger as JSON, so that a report can be made without the service
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from drainer.report.snapshot import Snapshot
from drainer.text.clean_model import CleanModel

HELD_KEPT = 200
"""Held entries described at most."""


class Waiting(CleanModel):
    """Entries here of one list and class of duplicate, held ones too; "" and "": not read yet. recipients: all they name."""

    list: str
    kind: str
    entries: int
    recipients: int
    bytes: int


class HeldEntry(CleanModel):
    """An entry that waits for a person. at, by: when and by whom it was set aside; 0.0 and "" where that is not known."""

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


class Inventory(CleanModel):
    """held: the oldest, at most HELD_KEPT of snapshot.backlog.held_entries."""

    snapshot: Snapshot
    waiting: list[Waiting] = []
    held: list[HeldEntry] = []


class Held(Protocol):
    """A held entry as the index lists it: `duplicate` is the class it was found to be in this run."""

    @property
    def list(self) -> str: ...
    @property
    def duplicate(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def recipients(self) -> int | None: ...
    @property
    def bytes(self) -> int: ...


def known_resends(waiting: Sequence[Waiting], held: Sequence[Held]) -> list[Waiting]:
    """With entries held as resends counted as such: after a restart the first sending is gone, and only the ledger knows."""
    sums = {(one.list, one.kind): (one.entries, one.recipients, one.bytes) for one in waiting}
    for entry in held:
        source, target = (entry.list, entry.duplicate), (entry.list, "resend")
        if source != target and source in sums and entry.reason.startswith("resend"):
            for key, sign in ((source, -1), (target, 1)):
                entries, recipients, octets = sums.get(key, (0, 0, 0))
                sums[key] = entries + sign, recipients + sign * (entry.recipients or 0), octets + sign * entry.bytes
    return [
        Waiting(list=name, kind=kind, entries=entries, recipients=recipients, bytes=octets)
        for (name, kind), (entries, recipients, octets) in sums.items()
        if entries
    ]
