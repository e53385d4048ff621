"""Rows of Mailman's database that are kept longer than the session they were loaded in.

In    a row as Mailman's own code loaded it
Out   the same object: its columns are read as plain attributes, and it joins a session only where it needs one
Shell runs in Mailman's Python

SQLAlchemy reads each attribute of a row through a descriptor in Python, and one mail reads the list's attributes some
hundred times. A kept row belongs to a subclass whose descriptors give way to what is loaded already. Everything else is
as before: what is not loaded (a relationship) is loaded by the genuine descriptor, and isinstance, queries and interfaces
see the genuine class.
"""

# mypy: disable-error-code="import-not-found, import-untyped"
from __future__ import annotations

from typing import Any, Callable, Iterator  # noqa: UP035 (runs on Python 3.8)


class _LoadedOnce:
    """Reads an attribute that is not in the row's __dict__. It has no __set__, so what is there takes precedence."""

    def __init__(self, genuine: Any) -> None:
        self._genuine = genuine

    def __get__(self, row: Any, owner: Any = None) -> Any:
        from mailman.config import config
        from sqlalchemy import inspect

        if row is None:
            return self._genuine.__get__(None, owner)
        state, store = inspect(row), config.db.store
        if state.session is not store:
            # Another copy of the row may be in the session already: then it answers.
            row = store.identity_map.get(state.key, row)
            if row not in store:
                store.add(row)
        return self._genuine.__get__(row, type(row))


class KeptRows:
    """Rows that are kept. `changed` is called when somebody assigns to an attribute of one."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._classes: dict[type, type] = {}

    def keep(self, row: Any) -> Any:
        """The row, taken out of its session. None stays None."""
        from mailman.config import config

        if row is None:
            return None
        config.db.store.expunge(row)
        genuine = type(row)
        row.__class__ = self._classes.get(genuine) or self._classes.setdefault(genuine, self._class_of(genuine))
        return row

    def _class_of(self, genuine: Any) -> type:
        changed = self._changed

        def assign(row: Any, name: str, value: Any) -> None:
            changed()
            object.__setattr__(row, name, value)

        columns: dict[str, Any] = {name: _LoadedOnce(attribute) for name, attribute in _mapped(genuine)}
        # Not by calling the metaclass: it would map the subclass, as a table of its own.
        metaclass: Any = type(genuine)
        kept: type = type.__new__(metaclass, genuine.__name__, (genuine,), {**columns, "__setattr__": assign})
        return kept


def _mapped(genuine: Any) -> Iterator[tuple[str, Any]]:
    from sqlalchemy import inspect

    for name in inspect(genuine).attrs.keys():  # noqa: SIM118 (not a dict)
        yield name, getattr(genuine, name)
