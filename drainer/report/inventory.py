"""The inventory: what is here now and stands in no ledger: the snapshot, entries by list and class, held entries.

Pure  values only; the ledger keeps it as JSON, so that a report can be made without the service
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from drainer.report.snapshot import Snapshot
from drainer.text.clean_model import CleanModel

HELD_KEPT = 200
"""At most this many held entries are described."""


class Waiting(CleanModel):
    """Entries here of one list and one class of duplicate, held ones included; list and kind "": not read yet."""

    list: str
    kind: str
    entries: int
    recipients: int
    bytes: int


class HeldEntry(CleanModel):
    """An entry held for a person. at, by: when it was held, and who held it; 0.0 and "" if not known."""

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
    """held: the oldest HELD_KEPT of snapshot.backlog.held_entries."""

    snapshot: Snapshot
    waiting: list[Waiting] = []
    held: list[HeldEntry] = []


class Held(Protocol):
    """A held entry of the index. duplicate: its class, as found in this run."""

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
    """The same counts, with entries held as resends in the class "resend".

    After a restart the first sending is not in the index any more, so the index does not class them as resends.
    """
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
