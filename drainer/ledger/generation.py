"""Does this ledger belong to this queue, and does it know all that happened there?

In    the stamp in the ledger, the stamp in the queue (drainer/lock), whether entries lie in custody
Out   an Objection, or None; the stamp that both get next
Pure  no file, no ledger

A ledger that was deleted, put back from an old backup, or taken from another site looks as sound as any, and with it
recipients would get what they have already. So both carry a stamp: the ledger's id, the queue's id, and a generation that
grows at every start and about once a minute while mail goes out.

The queue's id is made once and names the directory for good: it lies in the directory, so it moves with it, and a copy of
the directory has it too. Attempts, holds, deferrals, DSNs and counters in the ledger belong to it (ledger/queue_rows.py).

INVARIANT ledger-before-queue: the next generation is committed in the ledger before it is written to the queue.
  Crash before: both have the old one. Crash between: the ledger is ahead, which is never objected to (a queue directory put
  back from a backup is behind as well, and its ledger knows more, not less). Behind is only a ledger that forgot.
What it cannot see: ledger and queue restored from one backup together; a backup younger than the last generation.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

KEPT_AS = "belongs_to"
"""Name under which the ledger keeps its stamp (Ledger.keep)."""

_LINE = re.compile(r"ledger ([0-9a-f]{16}) ([0-9]{1,18})(?: queue ([0-9a-f]{16}))?\s*\Z")


@dataclass(frozen=True, slots=True)
class Stamp:
    """generation  grows
    queue_id    "" if none was made yet
    queue_dir   where the queue was when the ledger got this stamp; "" in the queue's own
    """

    ledger_id: str
    generation: int
    queue_dir: str = ""
    queue_id: str = ""

    def line(self) -> str:
        """As the queue carries it: always as long, so that it is written in place, without room on the disk."""
        return f"ledger {self.ledger_id} {self.generation:018d} queue {self.queue_id}"

    def value(self) -> bytes:
        """As the ledger keeps it."""
        return json.dumps([self.ledger_id, self.generation, self.queue_dir, self.queue_id]).encode()


@dataclass(frozen=True, slots=True)
class Objection:
    """what: what is wrong and what would follow. grave: the service does not start before an operator accepts it."""

    what: str
    grave: bool


def stamp_in_line(line: str) -> Stamp | None:
    """None for what no drainer wrote."""
    match = _LINE.match(line)
    return Stamp(match[1], int(match[2]), queue_id=match[3] or "") if match else None


def stamp_in_value(value: bytes | None) -> Stamp | None:
    """None for a ledger that has belonged to no queue yet."""
    return None if value is None else Stamp(*json.loads(value))


def next_stamp(ledgers: Stamp | None, queues: Stamp | None, queue_dir: str, new_id: str, new_queue_id: str) -> Stamp:
    """The stamp for both, above either. The ledger keeps its id, and the queue its own."""
    generation = 1 + max((stamp.generation for stamp in (ledgers, queues) if stamp), default=0)
    queue_id = queues.queue_id if queues else ""
    if not queue_id and ledgers and ledgers.queue_dir == queue_dir:
        queue_id = ledgers.queue_id  # the queue's stamp was lost, or never written
    return Stamp(ledgers.ledger_id if ledgers else new_id, generation, queue_dir, queue_id or new_queue_id)


def objection(ledgers: Stamp | None, queues: Stamp | None, queue_dir: str, has_custody: bool) -> Objection | None:
    """Why this queue should not be drained with this ledger; None: no objection.

    ledgers, queues  their stamps; None: it has none
    queue_dir        the queue's directory now, without symbolic links
    has_custody      entries of earlier runs lie in drainer/backlog/ or drainer/held/: then some may be part-delivered
    """
    if ledgers is None:
        if queues is None and not has_custody:
            return None
        return Objection("it is new and knows nothing of what an earlier ledger had written down here", has_custody)
    if queues is None:
        if ledgers.queue_dir == queue_dir:
            return None
        return Objection(f"it belongs to another queue, {ledgers.queue_dir}", grave=True)
    if ledgers.ledger_id != queues.ledger_id:
        return Objection(
            f"it is not the ledger this queue was drained with (that was {queues.ledger_id}, this one is "
            f"{ledgers.ledger_id}, of {ledgers.queue_dir})",
            grave=True,
        )
    if ledgers.generation < queues.generation:
        behind = queues.generation - ledgers.generation
        return Objection(
            f"it is older than what was done here, as if put back from a backup (generation {ledgers.generation}, the "
            f"queue has seen {queues.generation}: {behind} later)",
            has_custody,
        )
    return None
