"""What one decision changed in pauses, rates and orders for domains, as the journal keeps it, and how that is undone.

In    the operator's state before and after a decision; the state as it is now; what later decisions changed
Out   the change as text; the state without that change
Pure  values only

A change is undone only where what it made is still in force. Times do not tell: when the clock is set back, the times of a
pause that ends by itself are moved (rounds/clock_jumps.py). So such a pause is known by who ordered it, why, and how long it
lasts. A later decision on the same list or domain is known by its place in the journal.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from drainer.destinations.ceilings import is_over
from drainer.ledger.records import INTAKE, DomainOrder, OperatorState, Pause
from drainer.text.wording import limit

_RATES = {"messages_per_s": "messages", "recipients_per_s": "recipients"}
_ALIKE_S = 0.001
"""The length of a pause, a difference of two times, is known as exactly as that."""


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


def undone(
    now: OperatorState, payload: str, now_s: float, made_at_s: float, later: Sequence[str] = ()
) -> tuple[OperatorState, list[str], list[str]]:
    """The state without a change; in words, what that undoes, and what of the change cannot be undone.

    payload    as `change` made it
    now_s      seconds since the epoch: a pause that would be over by now is not put in force again
    made_at_s  when the change was made. Later than now_s: the clock was set back since, and a pause from before ends earlier
    later      payloads of the decisions made after it, without those that are undone
    """
    value: dict[str, Any] = json.loads(payload) if payload else {}
    state, done, left = now, list[str](), list[str]()
    set_back_s = max(0.0, made_at_s - now_s)
    for name, (before, after) in value.get("pauses", {}).items():
        current = next((pause for pause in state.pauses if pause.list_id == name), None)
        wanted = Pause(*before).set_back(set_back_s) if before else None
        if wanted and wanted.until_s is not None and wanted.until_s <= now_s:
            wanted = None
        what = what_is_paused(name)
        made = Pause(*after) if after else None
        if current != made and (not _is_moved(current, made) or _is_changed_by(later, "pauses", name)):
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
        earlier = DomainOrder(*before).set_back(set_back_s) if before else None
        if earlier is not None and is_over(earlier, now_s):
            earlier = None
        order = DomainOrder(*after) if after else None
        if ordered != order and (not _is_moved(ordered, order) or _is_changed_by(later, "domains", name)):
            left.append(f"domain {name}: ordered otherwise since, or over by itself")
        elif ordered == earlier:
            left.append(f"domain {name}: the pause from before would be over by now")
        else:
            others = tuple(order for order in state.domains if order.destination != name)
            state = replace(state, domains=(*others, earlier) if earlier else others)
            done.append(f"domain {name}: {'as ordered before' if earlier else 'as it was learnt'}")
    return state, done, left


def _is_moved(current: Pause | DomainOrder | None, made: Pause | DomainOrder | None) -> bool:
    """Whether what is in force may be what was made, with its times moved."""
    if current is None or made is None:
        return False
    (kind, lasts_s), (made_kind, made_to_last_s) = _without_times(current), _without_times(made)
    if kind != made_kind or lasts_s is None or made_to_last_s is None:
        return False
    return math.isclose(lasts_s, made_to_last_s, rel_tol=0.0, abs_tol=_ALIKE_S)


def _without_times(one: Pause | DomainOrder) -> tuple[Pause | DomainOrder, float | None]:
    """The same with its times left out, and how long it pauses, seconds; None: it has no such time, and is never moved."""
    kind: Pause | DomainOrder
    if isinstance(one, Pause):
        until_s, kind = one.until_s, replace(one, since_s=0.0, until_s=None)
    else:
        until_s, kind = one.paused_until_s, replace(one, since_s=0.0, paused_until_s=None)
    return kind, None if until_s is None else until_s - one.since_s


def _is_changed_by(later: Sequence[str], kind: str, name: str) -> bool:
    return any(name in json.loads(payload).get(kind, {}) for payload in later if payload)


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
