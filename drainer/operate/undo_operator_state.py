"""What one decision changed in pauses, rates and orders for domains, as the journal keeps it, and how that is undone.

In    the operator's state before and after a decision; the state as it is now
Out   the change as text; the state without that change
Pure  values only
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

from drainer.destinations.ceilings import is_over
from drainer.ledger.records import INTAKE, DomainOrder, OperatorState, Pause
from drainer.text.wording import limit

_RATES = {"messages_per_s": "messages", "recipients_per_s": "recipients"}


def change(before: OperatorState, after: OperatorState) -> str:
    """The difference between two states, for NewAction.payload; "" if there is none."""
    had, has = ({pause.list_id: pause for pause in state.pauses} for state in (before, after))
    earlier, later = ({order.destination: order for order in state.domains} for state in (before, after))
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
    ordered = {
        name: [_order_fields(earlier.get(name)), _order_fields(later.get(name))]
        for name in sorted(earlier.keys() | later.keys())
        if earlier.get(name) != later.get(name)
    }
    value = {"pauses": pauses, "rates": rates, **({"domains": ordered} if ordered else {})}
    return json.dumps(value, separators=(",", ":")) if pauses or rates or ordered else ""


def undone(now: OperatorState, payload: str, now_s: float) -> tuple[OperatorState, list[str], list[str]]:
    """The state without a change; in words, what that undoes, and what of the change cannot be undone.

    payload  as `change` made it
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
    for name, (before, after) in value.get("domains", {}).items():
        ordered = next((order for order in state.domains if order.destination == name), None)
        earlier = DomainOrder(*before) if before else None
        if earlier is not None and is_over(earlier, now_s):
            earlier = None
        if ordered != (DomainOrder(*after) if after else None):
            left.append(f"domain {name}: ordered otherwise since, or over by itself")
        elif ordered == earlier:
            left.append(f"domain {name}: the pause from before would be over by now")
        else:
            others = tuple(order for order in state.domains if order.destination != name)
            state = replace(state, domains=(*others, earlier) if earlier else others)
            done.append(f"domain {name}: {'as ordered before' if earlier else 'as it was learnt'}")
    return state, done, left


def what_is_paused(list_id: str) -> str:
    if list_id == INTAKE:
        return "taking entries from Mailman's queues"
    return f"list {list_id}" if list_id else "everything"


def _fields(pause: Pause | None) -> list[object] | None:
    return [pause.list_id, pause.since_s, pause.until_s, pause.by, pause.reason] if pause else None


def _order_fields(order: DomainOrder | None) -> list[object] | None:
    if order is None:
        return None
    return [order.destination, order.per_s, order.paused_until_s, order.since_s, order.by, order.reason]


def _limit(per_s: float | None) -> str:
    return "as the settings say" if per_s is None else limit(None if math.isinf(per_s) else per_s)
