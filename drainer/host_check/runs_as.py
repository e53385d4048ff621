"""What drainer.service says of user, groups and directories.

In    the texts of drainer.service and its drop-ins, in the order systemd reads them
Out   Unit
Pure  no file, no user database
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Unit:
    """The unit. user, group: "" if not named; made: directories systemd creates ("/run/drainer", "/var/lib/drainer")."""

    user: str = ""
    group: str = ""
    supplementary: tuple[str, ...] = ()
    made: tuple[str, ...] = ()


_BELOW = {"RuntimeDirectory": "/run", "StateDirectory": "/var/lib"}


def unit_of(texts: Iterable[str]) -> Unit:
    """The [Service] sections together: a later value replaces an earlier one, an empty value clears a list."""
    last: dict[str, str] = {}
    lists: dict[str, list[str]] = {}
    for text in texts:
        section = ""
        for line in text.splitlines():
            stripped = line.strip()
            if stripped.startswith("["):
                section = stripped
            name, equals, value = (part.strip() for part in stripped.partition("="))
            if section != "[Service]" or not equals or name.startswith(("#", ";")):
                continue
            if name in ("User", "Group"):
                last[name] = value
            elif name in ("SupplementaryGroups", *_BELOW):
                lists[name] = [*lists.get(name, []), *value.split()] if value else []
    made = [f"{below}/{directory}" for name, below in _BELOW.items() for directory in lists.get(name, [])]
    return Unit(last.get("User", ""), last.get("Group", ""), tuple(lists.get("SupplementaryGroups", [])), tuple(made))
