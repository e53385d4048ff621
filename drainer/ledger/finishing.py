"""The end of an entry, inside the writer's transaction.

In    a Writer, and calls from within a group's transaction (group_commit.py)
Out   rows of its recipients that waited are gone; counts, and evidence for the report
Not here  what settled its recipients (attempts.py, outcomes.py)
"""

from __future__ import annotations

from drainer.ledger import entry_rows
from drainer.ledger.columns import stored_filebase
from drainer.ledger.evidence import Finish
from drainer.ledger.settle_rows import drop_waiting, leave_held
from drainer.ledger.states import State
from drainer.ledger.writer import Writer


def finish(writer: Writer, one: Finish) -> None:
    stored = stored_filebase(one.filebase)
    if writer.perhaps.has_entry(stored):
        entry_rows.forget_entry(writer.connection, writer.queue, stored)
        drop_waiting(writer, stored, State.DEFERRED)
        if one.ended is not None:
            leave_held(writer, stored)
    writer.count_all(one.counts)
    writer.write_evidence(one.evidence)
    writer.add_ended(one.ended)
