"""A guard's verdict on a measured value, and the verdict of several guards together.

In    measured values and their limits
Out   Guard: go, slow or stop, with a reason for the operator
Pure  nothing is measured here
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from drainer.text.clean_model import CleanModel
from drainer.text.wording import rate

Verdict = Literal["go", "slow", "stop"]


class Guard(CleanModel):
    """at_most_per_s: messages per second that are left while it says slow; None: half of the rate"""

    name: str
    verdict: Verdict
    reason: str = ""
    value: float | None = None
    limit: float | None = None
    at_most_per_s: float | None = None


GUARD_BINDS = "the guard "
"""`Rate.binding` begins with this if a guard that says slow limits the rate."""


def bound_by_guard(guard: Guard) -> str:
    does = "which halves the rate" if guard.at_most_per_s is None else f"which allows {rate(guard.at_most_per_s)}"
    return f"{GUARD_BINDS}{guard.name}, {does}: {guard.reason or 'it says slow'}"


_STRICTNESS: dict[Verdict, int] = {"go": 0, "slow": 1, "stop": 2}


def strictest(guards: Iterable[Guard]) -> Guard:
    """The guard whose verdict counts; among equals the first. Without guards, one that says go."""
    return max(guards, key=lambda guard: _STRICTNESS[guard.verdict], default=Guard(name="none", verdict="go"))


@dataclass(frozen=True, slots=True)
class Marks:
    """From where on a guard says slow, and from where on stop; 0: never."""

    slow: float = 0.0
    stop: float = 0.0


WAY_BACK = 0.8
"""A verdict ends once the value is back by a fifth of its mark. A value that hovers around a mark changes it once."""


def judged(
    name: str, value: float, marks: Marks, what: str, before: Verdict = "go", *, is_scarce: bool = False
) -> Guard:
    """go, slow beyond marks.slow, stop beyond marks.stop.

    before     the verdict of the last look: it ends only well on the other side of its mark (WAY_BACK)
    is_scarce  what must not run out: beyond means below. marks.slow >= marks.stop then, else marks.slow <= marks.stop
    what       of what the value is an amount
    """
    level: Verdict = "go"
    if _is_beyond(value, marks.stop, before == "stop", is_scarce):
        level = "stop"
    elif _is_beyond(value, marks.slow, before != "go", is_scarce):
        level = "slow"
    if level == "go":
        limit = (marks.stop or marks.slow) if is_scarce else (marks.slow or marks.stop)
        return Guard(name=name, verdict="go", value=value, limit=limit or None)
    mark = marks.stop if level == "stop" else marks.slow
    amount = f"{value:g} {what}" if is_scarce else f"{what} {value:g}"
    if _is_beyond(value, mark, False, is_scarce):
        reason = f"{amount}, limit {mark:g}"
    else:
        reason = (
            f"{amount}, ends {'from' if is_scarce else 'below'} {mark / WAY_BACK if is_scarce else mark * WAY_BACK:g}"
        )
    return Guard(name=name, verdict=level, reason=reason, value=value, limit=mark)


def _is_beyond(value: float, mark: float, was: bool, is_scarce: bool) -> bool:
    if not mark:
        return False
    if is_scarce:
        return value < (mark / WAY_BACK if was else mark)
    return value > (mark * WAY_BACK if was else mark)


def not_below(name: str, value: float, limit: float, what: str, otherwise: Verdict) -> Guard:
    """go while value >= limit, else `otherwise`, with the amount of `what` as the reason."""
    if value >= limit:
        return Guard(name=name, verdict="go", value=value, limit=limit)
    return Guard(name=name, verdict=otherwise, reason=f"{value:g} {what}, limit {limit:g}", value=value, limit=limit)


def between_limits(name: str, value: float, high: float, low: float, what: str, was_stopped: bool) -> Guard:
    """stop above `high`; once stopped, go again below `low`. On the way up, slow from `low`.

    high, low  high >= low. Two limits, because with one feeding would stop and go all the time
    """
    if value > high:
        return Guard(name=name, verdict="stop", reason=f"{what} {value:g}, limit {high:g}", value=value, limit=high)
    if value < low:
        return Guard(name=name, verdict="go", value=value, limit=high)
    if was_stopped:
        reason = f"{what} {value:g}, goes on below {low:g}"
        return Guard(name=name, verdict="stop", reason=reason, value=value, limit=low)
    return Guard(name=name, verdict="slow", reason=f"{what} {value:g}, stops at {high:g}", value=value, limit=high)


def unknown(name: str, verdict: Verdict, why: str) -> Guard:
    """The guard for a value that could not be measured, and why."""
    return Guard(name=name, verdict=verdict, reason=why)
