"""Sums over the entries of the backlog index. They change with every write, so that asking each second costs nothing.

In    rows, as they are before and after a write
Out   totals, also by list and by class; what is still to be sent
Pure  values only; lists are numbers, as the index has them
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from drainer.backlog.ready_lists import ReadyLists
from drainer.backlog.rows import IndexedRow, SumKey
from drainer.backlog.states import EntryState
from drainer.backlog.values import BacklogTotals
from drainer.backlog.work import ToSend
from drainer.duplicates.classes import DuplicateClass

_SUPPRESSED_WHOLE = frozenset({DuplicateClass.EXACT, DuplicateClass.RESTORED})


@dataclass(slots=True)
class _Sum:
    entries: int = 0
    recipients: int = 0
    owed: int = 0
    covered: int = 0
    bytes: int = 0
    sending: int = 0
    sending_bytes: int = 0
    sending_bytes_each: int = 0

    def change(self, row: IndexedRow, by: int) -> None:
        """by: 1 to add, -1 to take away."""
        self.entries += by
        self.recipients += by * row.recipients
        self.owed += by * row.owed
        self.covered += by * row.covered
        self.bytes += by * row.size_bytes
        if sending := row.owed - row.covered:
            self.sending += by
            self.sending_bytes += by * row.size_bytes
            self.sending_bytes_each += by * row.size_bytes * sending


class IndexSums:
    """A small table: one line for each list, state, class, and whether read.

    ready   lists with entries that can be picked now
    parked  recipients owed by the entries in each lane; in_lane: how many entries that are
    """

    def __init__(self) -> None:
        self._sums: dict[SumKey, _Sum] = {}
        self._by_domain: dict[tuple[int, bool], Counter[int]] = {}
        self._of_all_lists: dict[bool, Counter[int]] = {False: Counter(), True: Counter()}
        self.ready = ReadyLists()
        self.parked: Counter[int] = Counter()
        self.in_lane: Counter[int] = Counter()

    def add_listed(self, state: EntryState, entries: int, octets: int) -> None:
        """Entries of which only the size is known; negative numbers: they are that no longer."""
        total = self._sums.setdefault((0, state, DuplicateClass.NONE, False, False), _Sum())
        total.entries += entries
        total.bytes += octets

    def add(self, row: IndexedRow) -> None:
        self._of(row).change(row, 1)
        self._add_readiness(row)
        self._change_domains(row, 1)

    def subtract(self, row: IndexedRow) -> None:
        self._of(row).change(row, -1)
        self._subtract_readiness(row)
        self._change_domains(row, -1)

    def move(self, row: IndexedRow, state: EntryState, *, ready: bool, lane: int = 0) -> None:
        """The row, which is in the sums, gets another state and lane. What it owes stays the same."""
        if state is EntryState.HELD or row.state is EntryState.HELD:
            self._change_domains(row, -1)
        before = self._of(row)
        self._subtract_readiness(row)
        was_held, row.state, row.ready, row.lane = row.state is EntryState.HELD, state, ready, lane
        self._add_readiness(row)
        after = self._of(row)
        if after is not before:
            before.change(row, -1)
            after.change(row, 1)
        if was_held or state is EntryState.HELD:
            self._change_domains(row, 1)

    def _of(self, row: IndexedRow) -> _Sum:
        total = self._sums.get(row.key)
        if total is None:
            total = self._sums[row.key] = _Sum()
        return total

    def _add_readiness(self, row: IndexedRow) -> None:
        if row.ready:
            self.ready.add(row.lane, row.list, row.when_s)
        if row.lane:
            self.parked[row.lane] += row.owed
            self.in_lane[row.lane] += 1

    def _subtract_readiness(self, row: IndexedRow) -> None:
        if row.ready:
            self.ready.remove(row.lane, row.list)
        if row.lane:
            self.parked[row.lane] -= row.owed
            self.in_lane[row.lane] -= 1

    def _change_domains(self, row: IndexedRow, by: int) -> None:
        if row.domains and row.state is not EntryState.HELD:
            is_resend = row.duplicate is DuplicateClass.RESEND
            of_list = self._by_domain.get((row.list, is_resend))
            if of_list is None:
                of_list = self._by_domain[row.list, is_resend] = Counter()
            of_all = self._of_all_lists[is_resend]
            for number, count in row.to_send_by_domain:
                of_list[number] += by * count
                of_all[number] += by * count

    def by_domain(self, with_resends: bool, without: Collection[int] = ()) -> Counter[int]:
        """Recipients to be sent to, by the number of their domain. without: numbers of lists that do not count."""
        found = Counter(self._of_all_lists[False])
        if with_resends:
            found.update(self._of_all_lists[True])
        for counted in self._of_lists(without, with_resends):
            found.subtract(counted)
        return found

    def in_domain(self, domain: int, with_resends: bool, without: Collection[int] = ()) -> int:
        """The same for one domain."""
        found = self._of_all_lists[False][domain] + (self._of_all_lists[True][domain] if with_resends else 0)
        return found - sum(counted[domain] for counted in self._of_lists(without, with_resends))

    def _of_lists(self, lists: Collection[int], with_resends: bool) -> Iterator[Counter[int]]:
        for number in lists:
            for is_resend in (False, True) if with_resends else (False,):
                if (counted := self._by_domain.get((number, is_resend))) is not None:
                    yield counted

    def totals(self, oldest_s: float | None) -> BacklogTotals:
        counted: Counter[str] = Counter()
        for (_, state, duplicate, is_read, _), part in self._sums.items():
            held = state is EntryState.HELD
            counted["held_entries" if held else "entries"] += part.entries
            counted["held_recipients" if held else "recipients"] += part.owed
            counted["held_bytes" if held else "bytes"] += part.bytes
            if not is_read:
                counted["unread_entries"] += part.entries
            if state is EntryState.ACTIVE:
                counted["active_entries"] += part.entries
            if state is EntryState.DEFERRED:
                counted["deferred_entries"] += part.entries
                counted["deferred_recipients"] += part.owed
            if not held:
                counted["duplicate_recipients"] += part.covered
                if duplicate in _SUPPRESSED_WHOLE:
                    counted["duplicate_entries"] += part.entries
                if duplicate is DuplicateClass.RESEND:
                    counted["resend_entries"] += part.entries
                    counted["resend_recipients"] += part.owed - part.covered
        return BacklogTotals(**counted, oldest_s=oldest_s)

    def to_send(self, names: Sequence[str]) -> list[ToSend]:
        return [
            ToSend(
                names[number],
                duplicate is DuplicateClass.RESEND,
                state is EntryState.DEFERRED,
                is_parked,
                part.sending,
                part.owed - part.covered,
                part.sending_bytes,
                part.sending_bytes_each,
            )
            for (number, state, duplicate, is_read, is_parked), part in self._sums.items()
            if part.sending and is_read and state is not EntryState.HELD
        ]

    def by_list_and_class(self, names: Sequence[str]) -> list[tuple[str, str, int, int, int]]:
        """As Totals.by_list_and_class."""
        found: dict[tuple[str, str], tuple[int, int, int]] = {}
        for (number, _, duplicate, is_read, _), part in self._sums.items():
            key = (names[number], duplicate.value) if is_read else ("", "")
            entries, recipients, octets = found.get(key, (0, 0, 0))
            found[key] = entries + part.entries, recipients + part.recipients, octets + part.bytes
        return [(*key, *sums) for key, sums in sorted(found.items()) if sums[0]]

    def per_list(self) -> dict[int, Counter[str]]:
        """The counts of ListTotals by their names, and deferred_entries, for each list that has entries; entries not read
        yet are left out."""
        numbers: dict[int, Counter[str]] = {}
        for (number, state, _, is_read, _), part in self._sums.items():
            if not part.entries or not is_read:
                continue
            counted = numbers.setdefault(number, Counter())
            if state is EntryState.HELD:
                counted["held_entries"] += part.entries
                continue
            counted["entries"] += part.entries
            counted["recipients"] += part.owed
            counted["bytes"] += part.bytes
            if state is EntryState.DEFERRED:
                counted["deferred_entries"] += part.entries
                counted["deferred_recipients"] += part.owed
        return numbers
