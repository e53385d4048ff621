"""An operator's selection of entries as a condition on the backlog index.

In    Selectors (as asked for on the control socket), and the lists that `list` was found to mean (queuedir/list_names.py)
Out   SQL with its values; the function it needs; EntryLine, one entry that was selected
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from drainer.text.clean_model import CleanModel

_LIKE_SPECIAL = re.compile(r"[%_!]")


def _not_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("not a number of seconds; right would be 3600")
    return value


_Seconds = Annotated[float, BeforeValidator(_not_bool)]
"""A query string has it as text; JSON's true is no number."""


class Selectors(BaseModel):
    """Which entries; every selector given must match, none given selects all. Texts match as substrings, case ignored;
    an empty text is refused, since it would match everything.

    list           its name, address or list-id, exactly; `*` as a wildcard (queuedir/list_names.py);
                   an unknown one is refused
    state          waiting, active, deferred, held
    duplicate      exact, partial, restored, resend, conflict, none
    older_than_s, younger_than_s   by received time
    entry          filebase, or the beginning of one; only GET /entries takes a beginning that several have
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    list: str | None = Field(None, min_length=1)
    sender: str | None = Field(None, min_length=1)
    subject: str | None = Field(None, min_length=1)
    message_id: str | None = Field(None, min_length=1)
    duplicate: Literal["exact", "partial", "restored", "resend", "conflict", "undecided", "none"] | None = None
    state: Literal["waiting", "active", "deferred", "held"] | None = None
    older_than_s: _Seconds | None = Field(None, ge=0, allow_inf_nan=False)
    younger_than_s: _Seconds | None = Field(None, ge=0, allow_inf_nan=False)
    entry: str | None = Field(None, min_length=1)


class EntryLine(CleanModel):
    """One entry as listed. `duplicate` is the class found by scanning, a forecast; `of` the entry it repeats."""

    entry: str
    state: str
    list: str
    sender: str = ""
    subject: str = ""
    message_id: str = ""
    recipients: int | None = None
    bytes: int = 0
    age_s: float = 0.0
    duplicate: str = "none"
    of: str | None = None
    reason: str = ""
    due: float | None = None


def condition(
    selectors: Selectors,
    now_s: float,
    lists: Mapping[str, int],
    meant: Collection[str] | None = None,
    *,
    is_whole_name: bool = False,
) -> tuple[str, list[object]]:
    """For the table `entry e`, or one with these columns.

    lists  the numbers of those there are, by list-id
    meant  list-ids that selectors.list stands for; None: that itself, and no other
    is_whole_name  selectors.entry is the name of an entry, and not the beginning of other names
    """
    terms: list[str] = ["1"]
    values: list[object] = []

    def add(term: str, *arguments: object) -> None:
        terms.append(term)
        values.extend(arguments)

    if selectors.list is not None:
        wanted = {selectors.list} if meant is None else meant
        numbers = [number for list_id, number in lists.items() if list_id in wanted]
        add(f"e.is_read = 1 AND e.list IN ({','.join('?' * len(numbers))})", *numbers)
    for column, text in (
        ("e.sender", selectors.sender),
        ("e.subject", selectors.subject),
        ("e.message_id", selectors.message_id),
    ):
        if text is None:
            continue
        if text.isascii():
            add(f"{column} LIKE ? ESCAPE '!'", "%" + _LIKE_SPECIAL.sub(r"!\g<0>", text) + "%")
        else:
            add(f"contains_folded({column}, CAST(? AS TEXT))", stored_text(text))
    if selectors.duplicate is not None:
        add("e.is_read = 1 AND e.duplicate = ?", selectors.duplicate)
    if selectors.state is not None:
        # No parameter: SQLite has an index for held entries, and sees that it will do.
        add(f"e.state = '{selectors.state}'" + (" OR e.state = 'listed'" * (selectors.state == "waiting")))
    if selectors.older_than_s is not None:
        add("e.when_s <= ?", now_s - selectors.older_than_s)
    if selectors.younger_than_s is not None:
        add("e.when_s >= ?", now_s - selectors.younger_than_s)
    if selectors.entry is not None:
        # A whole name is that entry and no other, also where it is the beginning of other names.
        name = selectors.entry
        if is_whole_name:
            add("e.filebase = ?", name)
        else:
            add("e.filebase >= ? AND e.filebase < ?", name, name + "\U0010ffff")
    return " AND ".join(f"({term})" for term in terms), values


def entry_name(text: str) -> str:
    """An entry's name, or its beginning, out of what a person may have copied: a path, a file name with its suffix."""
    return text.strip().rpartition("/")[2].removesuffix(".pck").removesuffix(".bak")


def contains_folded(haystack: str | None, needle: str) -> bool:
    return haystack is not None and needle.casefold() in haystack.casefold()


def stored_text(text: str) -> bytes | str:
    """A text for SQLite, which takes no surrogates: bytes that were not UTF-8 go in as they were and come out so. The
    statement has CAST(? AS TEXT)."""
    if text.isascii():
        return text
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")
