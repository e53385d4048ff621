"""What operators did, as the ledger keeps it so that it can be undone.

Pure  values only

An action is a line of the journal. What it did to entries are its steps, each written in one commit with what it did: after
a crash the ledger has exactly the steps that happened. Undoing is an action too, whose steps take back those of another.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from drainer.ledger.evidence import Ended, Fate
from drainer.ledger.records import RECIPIENT_KEY_BYTES, Deferral, Hold, RecipientKey
from drainer.ledger.states import State


class StepKind(StrEnum):
    """What was done to an entry. RESTORE: brought back after a drop. HANDBACK: given to Mailman; nothing undoes that."""

    HOLD = "hold"
    RELEASE = "release"
    DROP = "drop"
    RESTORE = "restore"
    HANDBACK = "handback"


@dataclass(frozen=True, slots=True)
class Waiting:
    """Recipients of the entry that were HELD or DEFERRED by it, all alike."""

    state: State
    keys: tuple[RecipientKey, ...]
    reply: str
    at_s: float


@dataclass(frozen=True, slots=True)
class Before:
    """How an entry stood before a step.

    is_held    it was set aside for a person
    hold       its row, which may be a mark that holds nothing (stages/hold_reasons.py, RELEASED)
    overruled  the policy an operator had overruled for it; "" none
    waiting    its recipients that the step settled or set free
    skipped    DROP: those it made SKIPPED
    """

    is_held: bool = False
    hold: Hold | None = None
    deferral: Deferral | None = None
    overruled: str = ""
    waiting: tuple[Waiting, ...] = ()
    skipped: tuple[RecipientKey, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """What action `number` did to one entry.

    hold        HOLD: what it wrote; None where it only deferred the entry again
    ended       DROP: how the entry was counted as gone
    takes_back  the action whose step on this entry it reverses
    undone_by   the action that reversed this one
    """

    number: int
    filebase: str
    kind: StepKind
    before: Before = Before()
    hold: Hold | None = None
    ended: Ended | None = None
    takes_back: int | None = None
    undone_by: int | None = None


@dataclass(frozen=True, slots=True)
class NewAction:
    """What is written with a line of the journal.

    undoes   the action it takes back; depth: one more than that one's, else 0
    ended_s  None: steps follow, and end_action
    payload  JSON, of what was decided beside entries; "" nothing
    """

    reason: str = ""
    undoes: int | None = None
    depth: int = 0
    ended_s: float | None = None
    payload: str = ""


@dataclass(frozen=True, slots=True)
class Action:
    """A line of the journal with what was written beside it.

    new             None: the line is the service's own, or from before actions were recorded
    entries         steps it has; undone_entries: how many of them were taken back
    """

    number: int
    at_s: float
    by: str
    verb: str
    detail: str
    new: NewAction | None = None
    entries: int = 0
    undone_entries: int = 0


@dataclass(frozen=True, slots=True)
class PutBack:
    """How an entry is to stand again; all of it in one commit (Ledger.put_back).

    is_held, hold, deferral  as in Before; they replace what there is
    skipped                  recipients that are not SKIPPED by this entry any more
    """

    filebase: str
    is_held: bool
    hold: Hold | None
    deferral: Deferral | None
    skipped: frozenset[RecipientKey] = field(default_factory=frozenset)


def undone_along(chain: Sequence[int], by: int) -> list[tuple[int, int | None]]:
    """Action `by` takes back the first step of a chain, each of which took back the next: who has undone each now.

    The first is undone, so that the second is in force again; so the third is undone by it, and so on.
    """
    return [(number, None if at % 2 else by if at == 0 else chain[at - 1]) for at, number in enumerate(chain)]


def step_as_text(step: Step) -> str:
    """What has no column of its own. ASCII, lone surrogates included; keys in hexadecimal."""
    before = step.before
    value = {
        "is_held": before.is_held,
        "hold": _fields(before.hold),
        "deferral": _fields(before.deferral),
        "overruled": before.overruled,
        "waiting": [[part.state, _joined(part.keys), part.reply, part.at_s] for part in before.waiting],
        "skipped": _joined(before.skipped),
        "written": _fields(step.hold),
        "ended": _fields(step.ended),
    }
    return json.dumps({name: part for name, part in value.items() if part}, separators=(",", ":"))


def with_text(step: Step, text: str) -> Step:
    """The step that step_as_text was given; `step` has what has a column."""
    value: dict[str, Any] = json.loads(text)

    def hold(name: str) -> Hold | None:
        return Hold(*value[name]) if name in value else None

    before = Before(
        is_held=value.get("is_held", False),
        hold=hold("hold"),
        deferral=Deferral(*value["deferral"]) if "deferral" in value else None,
        overruled=value.get("overruled", ""),
        waiting=tuple(
            Waiting(State(state), _split(joined), reply, at_s)
            for state, joined, reply, at_s in value.get("waiting", ())
        ),
        skipped=_split(value.get("skipped", "")),
    )
    fate, *counted = value.get("ended", [""])
    ended = Ended(Fate(fate), *counted) if fate else None
    return replace(step, before=before, hold=hold("written"), ended=ended)


def _fields(row: Hold | Deferral | Ended | None) -> list[object]:
    return [] if row is None else [getattr(row, name) for name in row.__dataclass_fields__]


def _joined(keys: tuple[RecipientKey, ...]) -> str:
    return b"".join(keys).hex()


def _split(joined: str) -> tuple[RecipientKey, ...]:
    octets = bytes.fromhex(joined)
    return tuple(octets[at : at + RECIPIENT_KEY_BYTES] for at in range(0, len(octets), RECIPIENT_KEY_BYTES))
