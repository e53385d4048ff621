"""Does this ledger belong to this queue, and does it know all that happened there?

In    the mark a ledger carries, the one the queue carries (drainer/lock), what lies in custody
Out   an Objection, or None; the mark both get next
Pure  no file, no ledger

A ledger that was deleted, put back from an old backup, or taken from another site looks as sound as any, and with it
recipients would get what they have already. So both carry the ledger's id and a generation, which grows at every start and
about once a minute while mail goes out.

INVARIANT ledger-before-queue: the next generation is committed in the ledger before it is written to the queue.
  Crash before: both have the old one. Crash between: the ledger is ahead, which is never objected to (a queue directory put
  back from a backup is behind as well, and its ledger knows more, not less). Behind is only a ledger that forgot.
What it cannot see: ledger and queue put back from one backup together; a backup younger than the last generation.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

KEPT_AS = "belongs_to"
"""Name under which the ledger keeps its mark (Ledger.keep)."""

_LINE = re.compile(r"ledger ([0-9a-f]{16}) ([0-9]{1,18})\s*\Z")


@dataclass(frozen=True, slots=True)
class Mark:
    """generation  grows; queue_dir  where the queue was when the ledger got this mark, "" in the queue's own"""

    ledger_id: str
    generation: int
    queue_dir: str = ""

    def line(self) -> str:
        """As the queue carries it: always as long, so that it is written in place, without room on the disk."""
        return f"ledger {self.ledger_id} {self.generation:018d}"

    def value(self) -> bytes:
        """As the ledger keeps it."""
        return json.dumps([self.ledger_id, self.generation, self.queue_dir]).encode()


@dataclass(frozen=True, slots=True)
class Objection:
    """what: what is wrong and what would follow; grave: not to be started with before an operator accepts it."""

    what: str
    grave: bool


def mark_in_line(line: str) -> Mark | None:
    """None for what no drainer wrote."""
    match = _LINE.match(line)
    return Mark(match[1], int(match[2])) if match else None


def mark_in_value(value: bytes | None) -> Mark | None:
    """None for a ledger that has belonged to no queue yet."""
    if value is None:
        return None
    ledger_id, generation, queue_dir = json.loads(value)
    return Mark(ledger_id, generation, queue_dir)


def next_mark(ledgers: Mark | None, queues: Mark | None, queue_dir: str, new_id: str) -> Mark:
    """The mark for both, above either; the ledger keeps its id."""
    generation = 1 + max((mark.generation for mark in (ledgers, queues) if mark), default=0)
    return Mark(ledgers.ledger_id if ledgers else new_id, generation, queue_dir)


def objection(ledgers: Mark | None, queues: Mark | None, queue_dir: str, has_custody: bool) -> Objection | None:
    """What speaks against draining this queue with this ledger.

    ledgers, queues  their marks; None: it has none
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
