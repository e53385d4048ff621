"""Which action of the journal an undo means, and what it does to pauses and rates.

In    actions as the ledger has them, the operator's state before and after a decision
Out   the action meant; the state with a decision taken back
Pure  values only
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from drainer.ledger.actions import Action
from drainer.ledger.records import INTAKE, OperatorState, Pause
from drainer.text.wording import limit

_RATES = {"messages_per_s": "messages", "recipients_per_s": "recipients"}


def undone_by(actions: Sequence[Action]) -> dict[int, int]:
    """Number of each action that was taken back, and is so still, to that of the undo that did it. actions: oldest first."""
    found: dict[int, int] = {}
    for action in reversed(actions):
        # Newest first: whether an undo was taken back itself is known before it counts.
        if action.new and action.new.undoes is not None and action.number not in found and changed_something(action):
            found.setdefault(action.new.undoes, action.number)
    return found


def changed_something(action: Action) -> bool:
    return bool(action.entries or (action.new and action.new.payload))


def last_to_undo(actions: Sequence[Action], under_way: Collection[int]) -> Action | None:
    """What an undo without a number takes back: the last action that stands. None: there is none.

    An undo is not among them, or undoing twice would do again what was undone; one that took back an undo is. An undo that a
    crash cut off comes first: the action it was to take back is meant.
    actions    oldest first
    under_way  numbers of those being carried out
    """
    undone, by_number = undone_by(actions), {action.number: action for action in actions}
    for action in reversed(actions):
        if action.new is None or action.number in under_way or not changed_something(action):
            continue
        if action.new.undoes in by_number and action.new.ended_s is None and action.number not in undone:
            return by_number[action.new.undoes]
        if action.new.depth % 2 == 0 and action.number not in undone:
            return action
    return None


def decided(before: OperatorState, after: OperatorState) -> str:
    """What a decision changed in the operator's state, for NewAction.payload; "" nothing."""
    had, has = ({pause.list_id: pause for pause in state.pauses} for state in (before, after))
    pauses = {
        name: [_fields(had.get(name)), _fields(has.get(name))]
        for name in sorted(had.keys() | has.keys())
        if had.get(name) != has.get(name)
    }
    rates = {
        name: [getattr(before, name), getattr(after, name)]
        for name in _RATES
        if getattr(before, name) != getattr(after, name)
    }
    return json.dumps({"pauses": pauses, "rates": rates}, separators=(",", ":")) if pauses or rates else ""


def taken_back(now: OperatorState, payload: str, now_s: float) -> tuple[OperatorState, list[str], list[str]]:
    """The state with a decision taken back; what that means, and what of it cannot be, in words.

    payload  as `decided` made it
    now_s    seconds since the epoch: a pause that would be over by now is not put in force again
    """
    value: dict[str, Any] = json.loads(payload) if payload else {}
    state, done, left = now, list[str](), list[str]()
    for name, (before, after) in value.get("pauses", {}).items():
        current = next((pause for pause in state.pauses if pause.list_id == name), None)
        wanted = Pause(*before) if before else None
        if wanted and wanted.until_s is not None and wanted.until_s <= now_s:
            wanted = None
        what = what_is_paused(name)
        if current != (Pause(*after) if after else None):
            left.append(f"{what}: paused, resumed or over by itself since")
        elif current == wanted:
            left.append(f"{what}: the pause from before would be over by now")
        else:
            kept = tuple(pause for pause in state.pauses if pause.list_id != name)
            state = replace(state, pauses=(*kept, wanted) if wanted else kept)
            done.append(f"{what}: {'paused as before' if wanted else 'not paused'}")
    for name, (before, after) in value.get("rates", {}).items():
        word = _RATES[name]
        if getattr(state, name) != after:
            left.append(f"limit on {word}: changed since")
        else:
            state = (
                replace(state, messages_per_s=before) if word == "messages" else replace(state, recipients_per_s=before)
            )
            done.append(f"limit on {word}: {_limit(before)}")
    return state, done, left


def what_is_paused(list_id: str) -> str:
    if list_id == INTAKE:
        return "taking entries from Mailman's queues"
    return f"list {list_id}" if list_id else "everything"


def _fields(pause: Pause | None) -> list[object] | None:
    return [pause.list_id, pause.since_s, pause.until_s, pause.by, pause.reason] if pause else None


def _limit(per_s: float | None) -> str:
    return "as the settings say" if per_s is None else limit(None if math.isinf(per_s) else per_s)
