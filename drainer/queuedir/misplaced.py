"""Which queue an entry belongs in, if a person moved it into out/ by hand.

In    an entry's metadata
Out   the name of the queue, and what in the metadata says so
Pure  values only

Source  Mailman 2.1.39 scripts/*, Queue/Runner.py, Queue/IncomingRunner.py; Mailman 3.3.10 runners/lmtp.py, core/runner.py
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

DEAD_ENDS = frozenset(("archive", "bounces", "command", "commands", "digest", "news", "nntp"))
"""Queues whose runners pass no entry on to out/."""

_COMMANDS_2_1 = ("torequest", "tojoin", "toleave", "toconfirm")
_SHOWN_AT_MOST = 60


class Home(NamedTuple):
    """queue: its directory's name; because: the metadata that says so, as `key = value`."""

    queue: str
    because: str


def home_queue(metadata: Mapping[str, object]) -> Home | None:
    """Where an entry without recipients came from. None if its metadata does not say, or says that it was out/."""
    if (shunted := shunted_from(metadata)) is not None:
        return shunted
    if metadata.get("tobounces"):
        return _home("bounces", metadata, "tobounces")
    for key in _COMMANDS_2_1:
        if metadata.get(key):
            return _home("commands", metadata, key)
    subaddress = metadata.get("subaddress")
    if isinstance(subaddress, str) and subaddress != "owner":
        return _home("bounces" if subaddress == "bounces" else "command", metadata, "subaddress")
    handlers = metadata.get("pipeline")
    if isinstance(handlers, list) and handlers:
        return _home("in", metadata, "pipeline")
    if "rule_hits" in metadata or "rule_misses" in metadata:
        return _home("pipeline", metadata, "rule_hits" if "rule_hits" in metadata else "rule_misses")
    posted = next((key for key in ("to_list", "to_owner", "tolist", "toowner") if metadata.get(key)), None)
    if posted and "pipeline" not in metadata:
        return _home("in", metadata, posted)
    return None


def shunted_from(metadata: Mapping[str, object]) -> Home | None:
    """The queue whose runner could not process the entry and shunted it; None for none, and for out/ and retry/."""
    which = metadata.get("whichq")
    queue = which.rstrip("/").rpartition("/")[2] if isinstance(which, str) else ""
    return _home(queue, metadata, "whichq") if queue not in ("", "out", "retry") else None


def _home(queue: str, metadata: Mapping[str, object], key: str) -> Home:
    value = metadata[key]
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return Home(queue, f"{key} = {text[:_SHOWN_AT_MOST]}")
