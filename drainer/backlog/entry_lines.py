"""The entries that an operator selects.

In    Selectors, as condition on the tables (selection.py)
Out   filebases; one EntryLine per entry, with counts of all that match
Raises    IndexUnusable
Not here  what a list's name stands for (queuedir/list_names.py)

Selecting by text looks at every entry.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from drainer.backlog.selection import EntryLine, Selectors, condition
from drainer.backlog.states import EntryState
from drainer.backlog.store import Store
from drainer.backlog.values import Selection

_LINE = (
    "e.filebase, e.state, e.list, e.sender, e.subject, e.message_id, e.owed, e.is_read, e.size_bytes, e.when_s,"
    " e.duplicate, e.of, e.reason, e.due_s"
)

_WHEN = 9
_LISTED = (
    "(SELECT filebase, 'listed' AS state, 0 AS list, '' AS sender, '' AS subject, '' AS message_id, 0 AS owed, 0 AS is_read,"
    " size_bytes, when_s, 'none' AS duplicate, NULL AS of, '' AS reason, NULL AS due_s FROM listed)"
)


class EntryLines:
    """Questions only; nothing changes."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def select(self, selectors: Selectors, now_s: float, limit: int, lists: Collection[str] | None = None) -> Selection:
        """Entries that match, at most `limit` of them as lines.

        lists  list-ids that selectors.list stands for; None: only itself
        """
        total = recipients = unread = 0
        rows: list[tuple[Any, ...]] = []
        for source, values in self._sources(selectors, now_s, lists):
            counts = f"SELECT count(*), coalesce(sum(e.owed), 0), coalesce(sum(NOT e.is_read), 0) {source}"
            ((matched, owed, not_read),) = self._store.query(counts, values)
            total, recipients, unread = total + matched, recipients + owed, unread + not_read
            if matched:
                in_order = f"SELECT {_LINE} {source} ORDER BY e.when_s, e.filebase LIMIT ?"
                rows += self._store.query(in_order, (*values, limit))
        rows.sort(key=lambda row: (row[_WHEN], row[0]))
        return Selection(total, recipients, [self._line(row, now_s) for row in rows[:limit]], unread)

    def matching(self, selectors: Selectors, now_s: float, lists: Collection[str] | None = None) -> list[str]:
        """Filebases of all entries that match, oldest first. lists: as for `select`."""
        found: list[tuple[float, str]] = []
        for source, values in self._sources(selectors, now_s, lists):
            found += self._store.query(f"SELECT e.when_s, e.filebase {source}", values)
        return [filebase for _, filebase in sorted(found)]

    def _sources(
        self, selectors: Selectors, now_s: float, lists: Collection[str] | None
    ) -> Iterator[tuple[str, list[object]]]:
        """Where the entries that match are, as SQL with its values: in `entry`, and in `listed`."""
        is_name = selectors.entry is not None and self._store.row(selectors.entry) is not None
        where, values = condition(selectors, now_s, self._store.lists, lists, is_whole_name=is_name)
        for table in ("entry", _LISTED):
            yield f"FROM {table} e WHERE {where}", values

    def _line(self, row: tuple[Any, ...], now_s: float) -> EntryLine:
        (
            filebase,
            state,
            number,
            sender,
            subject,
            message_id,
            owed,
            is_read,
            size,
            when_s,
            duplicate,
            of,
            reason,
            due,
        ) = row
        return EntryLine(
            entry=filebase,
            state=EntryState.WAITING.value if state == EntryState.LISTED else state,
            list=self._store.list_names[number],
            sender=sender or "",
            subject=subject or "",
            message_id=message_id or "",
            recipients=owed if is_read else None,
            bytes=size,
            age_s=max(0.0, now_s - when_s),
            duplicate=duplicate,
            of=of,
            reason=reason,
            due=due,
        )
