"""What waits in drainer/backlog/ and drainer/held/: an index of the entries, rebuilt from the files at each start.

In    listed files; what reading them showed; changes of state
Out   each entry's state. `order` says which entry is next, `related` which entries are copies, `lines` what an operator
      selects, `totals` how much waits
Raises    IndexUnusable, from every method, if SQLite cannot do it
Not here  what is durable: the files, and in the ledger the deliveries and the operator's decisions. The index is deleted
      at each start
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

from drainer.backlog.entry_lines import EntryLines
from drainer.backlog.order import PickOrder
from drainer.backlog.related import RelatedLookup
from drainer.backlog.rows import IndexedRow, spread
from drainer.backlog.states import EntryState, check, check_first
from drainer.backlog.store import Store
from drainer.backlog.sums import IndexSums
from drainer.backlog.totals import Totals
from drainer.backlog.values import Description
from drainer.duplicates.classes import DuplicateClass
from drainer.ledger.evidence import Ended, Fate
from drainer.queuedir.domains import DomainCounts
from drainer.queuedir.filebase import QueueFile

_IS_COPY = "entry.duplicate IN ('exact', 'restored')"
"""All of its recipients are expected to have the mail by its original, `of`."""


class BacklogIndex:
    """Every change of an entry, and the parts that answer questions about entries. One writer, one thread: the event
    loop's. Every method takes milliseconds at most, except `lines` by text."""

    def __init__(self, path: Path) -> None:
        """Start empty at `path`; an older index there is deleted. `:memory:` is for tests and dry runs."""
        self._store = Store(path)
        self._sums = IndexSums()
        self.order = PickOrder(self._store, self._sums)
        self.related = RelatedLookup(self._store)
        self.lines = EntryLines(self._store)
        self.totals = Totals(self._store, self._sums)

    def close(self) -> None:
        self._store.close()

    def add_listed(self, files: Iterable[tuple[QueueFile, int]], state: EntryState = EntryState.LISTED) -> int:
        """Entries found in drainer/backlog/ (LISTED) or held/ (HELD), each with its size in bytes.

        Returns  how many were new; an entry that is known already stays as it is
        Raises   IllegalTransition for any other state
        """
        check_first(state)
        named = {file.filebase: (file, size_bytes) for file, size_bytes in files}
        self._store.write_late()
        for known in self._store.rows(list(named)):
            del named[known]
        new = list(named.values())
        if state is EntryState.LISTED:
            self._store.add_listed(new)
        else:
            rows = [
                IndexedRow(0, file.filebase, file.when_s, state=state, size_bytes=size_bytes)
                for file, size_bytes in new
            ]
            self._store.insert(rows)
        self._sums.add_listed(state, len(new), sum(size_bytes for _, size_bytes in new))
        return len(new)

    def unread(self, limit: int) -> list[str]:
        """Filebases of entries not read yet, oldest first. Held ones too: an operator has to see what they are."""
        in_order = "ORDER BY when_s, filebase LIMIT ?"
        listed = self._store.query_waiting(f"SELECT when_s, filebase FROM listed {in_order}", (limit,))
        others = self._store.query(f"SELECT when_s, filebase FROM entry WHERE is_read = 0 {in_order}", (limit,))
        return [str(filebase) for _, filebase in islice(heapq.merge(listed, others), limit)]

    def describe(self, batch: Iterable[Description]) -> None:
        """What reading showed, for entries listed before; an entry that was removed meanwhile is passed over.

        A LISTED entry is WAITING then, and so is one DEFERRED since an earlier run that `goes_on`; it keeps the time when
        those are due that were refused. Any other state stays.
        """
        named = {described.summary.filebase: described for described in batch}
        rows = self._store.listed([(filebase, described.summary.when_s) for filebase, described in named.items()])
        self._sums.add_listed(EntryState.LISTED, -len(rows), -sum(row.size_bytes for row in rows))
        listed = {row.filebase for row in rows}
        known = list(self._store.rows([filebase for filebase in named if filebase not in listed]).values())
        pairs = [(row, named[row.filebase]) for row in (*rows, *known)]
        for row in known:
            self._sums.subtract(row)
            self.related.crowds.forget(row)
        self._store.forget_keys(row for row in known if row.is_read)
        for row, described in pairs:
            self._fill(row, described)
            self._sums.add(row)
        self._store.describe(pairs)
        self.related.add([(row, described.summary) for row, described in pairs])

    def _fill(self, row: IndexedRow, described: Description) -> None:
        """The row has what reading showed, and the state that follows from that."""
        summary, goes_on = described.summary, described.goes_on and row.state is EntryState.DEFERRED and not row.is_read
        if row.state is EntryState.LISTED or goes_on:
            check(row.state, EntryState.WAITING)
            row.state = EntryState.WAITING
        row.list = self._store.list_number(summary.list_id)
        row.duplicate, row.covered, row.recipients = described.duplicate, described.covered, summary.recipients
        row.owed = summary.recipients if described.owed is None else described.owed
        row.size_bytes, row.is_read = summary.size_bytes, True
        row.domains = spread(self._store.numbered(described.domains), summary.recipients, row.owed)
        row.ready = row.state is EntryState.WAITING
        row.identity, row.message_id_key = summary.fingerprint.identity, summary.fingerprint.message_id

    def state_of(self, filebase: str) -> EntryState | None:
        """None if the index has no such entry."""
        row = self._store.row(filebase)
        return row.state if row else None

    def set_state(
        self, filebase: str, state: EntryState, reason: str = "", due_s: float | None = None, lane: str = ""
    ) -> bool:
        """Move an entry; WAITING is LISTED for one that was not read yet, and LISTED is WAITING for one that was. Returns
        False if the index has no such entry.

        due_s  for DEFERRED: when it may go again, seconds since the epoch; for WAITING: when those are due that were refused
               for now; at that moment it leaves its lane
        lane   for WAITING: the destination whose ceiling it waits for; it is picked from that lane only
        Raises ValueError for DEFERRED without due_s; IllegalTransition, with nothing changed (states.py)
        """
        if state is EntryState.DEFERRED and due_s is None:
            raise ValueError("a deferred entry needs a time when it is due")
        row = self._store.row(filebase)
        if row is None:
            return False
        if state in (EntryState.WAITING, EntryState.LISTED):
            state = EntryState.WAITING if row.is_read else EntryState.LISTED
        check(row.state, state)
        if state is EntryState.ACTIVE:
            self._begin([row])
            return True
        ready = state is EntryState.WAITING
        self._sums.move(row, state, ready=ready, lane=self._store.lane_number(lane) if ready else 0)
        row.due_s = due_s
        self._store.write_state(row, reason)
        return True

    def begin(self, filebases: Sequence[str]) -> None:
        """As set_state(ACTIVE) for each of those that the index has, in one step. Raises IllegalTransition, with nothing
        changed."""
        rows = list(self._store.rows(filebases).values())
        for row in rows:
            check(row.state, EntryState.ACTIVE)
        self._begin(rows)

    def _begin(self, rows: Sequence[IndexedRow]) -> None:
        for row in rows:
            self._sums.move(row, EntryState.ACTIVE, ready=False)
            row.due_s = None
        self._store.begin(rows)

    def leave_lane(self, destination: str, limit: int) -> int:
        """Entries in this lane wait for no destination any more, `limit` at most. Returns how many that were."""
        query = "SELECT filebase FROM entry WHERE ready = 1 AND lane = ? ORDER BY when_s LIMIT ?"
        return self._move(self._store.query(query, (self._store.lane_number(destination), limit)), 0, "")

    def leave_lanes_for(self, domain: str, limit: int) -> int:
        """The same for entries in any lane that owe recipients in this domain, which need wait no longer."""
        number = self._store.domain_number(domain)
        if number is None:
            return 0
        query = (
            "SELECT filebase FROM entry WHERE ready = 1 AND lane > 0 AND instr(' ' || domains, ?)"
            " ORDER BY when_s LIMIT ?"
        )
        return self._move(self._store.query(query, (f" {number}:", limit)), 0, "")

    def take_over(
        self,
        domains: Iterable[str],
        destination: str,
        limit: int,
        reason: str,
        without_lists: Iterable[str] = (),
        *,
        with_copies: bool = False,
    ) -> int:
        """Entries in any other lane that owe a recipient in these domains wait for this destination from now on, `limit` at
        most; unless `with_copies`, a copy stays with its original. Returns how many that were. It may read all entries that
        are in a lane."""
        numbers = [number for domain in domains if (number := self._store.domain_number(domain)) is not None]
        owes = " OR ".join(f"instr(' ' || domains, ' {number}:') > 0" for number in numbers) or "0"
        without = ", ".join(str(self._store.lists[name]) for name in without_lists if name in self._store.lists)
        lane = self._store.lane_number(destination)
        stays = "0" if with_copies else _IS_COPY
        query = (
            f"SELECT filebase FROM entry WHERE ready = 1 AND lane > 0 AND lane <> ? AND ({owes})"
            f" AND list NOT IN ({without}) AND NOT ({stays} AND EXISTS (SELECT 1 FROM entry original"
            " WHERE original.filebase = entry.of AND (original.state = 'active' OR original.lane NOT IN (0, ?)))) LIMIT ?"
        )
        return self._move(self._store.query(query, (lane, lane, limit)), lane, reason)

    def lane_of_original(self, filebase: str) -> str:
        """The destination for which the original of a copy waits; "" if it waits for none, or the entry is no copy."""
        if not self._store.has_lanes:  # asked in every turn
            return ""
        found = self._store.query(
            "SELECT original.lane FROM entry JOIN entry original ON original.filebase = entry.of"
            f" WHERE entry.filebase = ? AND {_IS_COPY} AND original.ready = 1",
            (filebase,),
        )
        return self._store.lane_name(found[0][0]) if found else ""

    def _move(self, names: Iterable[tuple[str]], lane: int, reason: str) -> int:
        rows = self._store.rows([str(name) for (name,) in names]).values()
        for row in rows:
            self._sums.move(row, row.state, ready=row.ready, lane=lane)
        self._store.write_lane(rows, reason)
        return len(rows)

    def set_owed(self, filebase: str, recipients: int, domains: DomainCounts | None = None) -> bool:
        """Some recipients were settled: this many are still owed. Returns False if the index has no such entry, or the
        entry was not read yet.

        domains  as in Description; None: spread as they were
        """
        row = self._store.row(filebase)
        if row is None or not row.is_read:
            return False
        if recipients == row.owed and domains is None:
            return True
        self._sums.subtract(row)
        if domains is None:
            row.domains = spread(row.domains, row.owed, recipients)
        else:
            row.domains = self._store.numbered(domains)
        row.owed, row.covered = recipients, min(row.covered, recipients)
        self._store.write_owed(row)
        self._sums.add(row)
        return True

    def set_duplicate(self, filebase: str, duplicate: DuplicateClass, of: str | None, covered: int) -> bool:
        """Another forecast for an entry read before. Returns False if there is no such entry."""
        row = self._store.row(filebase)
        if row is None or not row.is_read:
            return False
        self._sums.subtract(row)
        row.duplicate, row.covered = duplicate, min(covered, row.owed)
        self._store.execute_many(
            "UPDATE entry SET duplicate=?, of=?, covered=? WHERE id=?", [(duplicate.value, of, row.covered, row.id)]
        )
        self.related.crowds.reclassified(row)
        self._sums.add(row)
        return True

    def covered_by_others(self) -> list[str]:
        """Filebases of entries with a recipient that another copy should cover, oldest first."""
        query = "SELECT filebase FROM entry WHERE covered > 0 ORDER BY when_s"
        return [str(filebase) for (filebase,) in self._store.query(query)]

    def remove(self, filebase: str) -> bool:
        """The entry is finished, suppressed, handed back, or was unreadable. Returns False if there was none."""
        row = self._store.row(filebase)
        if row is None:
            return False
        self._sums.subtract(row)
        self.related.crowds.forget(row)
        self._store.remove(row)
        return True

    def ended_as(self, filebase: str, fate: Fate, recipients: int) -> Ended:
        """How the report counts an entry that is about to leave. recipients: all it had."""
        row = self._store.row(filebase)
        if row is None or not row.is_read:
            return Ended(fate, recipients=recipients, bytes=row.size_bytes if row else 0)
        return Ended(fate, self._store.list_names[row.list], row.duplicate.value, 1, recipients, row.size_bytes)
