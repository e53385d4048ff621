"""What was learnt of destinations, as the ledger keeps it over a restart.

In    paces by destination; octets that the ledger kept
Out   octets; paces that are not too old
Pure  no ledger, no clock

Kept for FORGOTTEN_AFTER_S, a day: providers count by the hour and the day, and a reputation heals meanwhile. A ceiling that
is too old costs hours; one that is missing costs the few seconds until the first refusal. A clock that was set back
meanwhile, by less than that day, changes nothing: what was said later than now was said just now.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from drainer.destinations.ceilings import Learnt
from drainer.destinations.domain_pace import HOLD_S, DomainPace

KEPT_AS = "domain_paces"
FORGOTTEN_AFTER_S = 86_400.0
MOST = 200


@dataclass(frozen=True, slots=True)
class _Kept:
    """Times are seconds since the epoch. told: when the provider said it last."""

    per_s: float
    takes: float | None
    cause: str
    since: float
    told: float
    pause_s: float


def kept(paces: Mapping[str, DomainPace], ahead_s: float) -> bytes:
    """The paces that have a ceiling, MOST of them at most, the last told first.

    ahead_s  seconds since the epoch, less monotonic seconds
    """
    limited = sorted(
        ((name, pace) for name, pace in paces.items() if pace.open_per_s is not None), key=lambda item: -item[1].told_s
    )
    value = {
        name: asdict(
            _Kept(pace.open_per_s or 0.0, pace.takes_per_s, pace.cause, pace.since_s + ahead_s, pace.told_s + ahead_s,
                  pace.pause_s)
        )
        for name, pace in limited[:MOST]
    }  # fmt: skip
    return json.dumps(value).encode()


def paces_from(octets: bytes | None, now_s: float, moment_s: float) -> dict[str, DomainPace]:
    """now_s: seconds since the epoch; moment_s: the same moment in monotonic seconds. What cannot be read was not kept."""
    try:
        rows = {str(name): _row(**value) for name, value in json.loads(octets or b"{}").items()}
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return {}
    return {
        name: _pace(row, now_s, moment_s) for name, row in rows.items() if abs(now_s - row.told) < FORGOTTEN_AFTER_S
    }


def _row(per_s: float, takes: float | None, cause: str, since: float, told: float, pause_s: float) -> _Kept:
    """Raises TypeError, ValueError, OverflowError for values that no pace has."""
    row = _Kept(
        float(per_s), None if takes is None else float(takes), str(cause), float(since), float(told), float(pause_s)
    )
    numbers = (row.per_s, row.takes or 0.0, row.since, row.told, row.pause_s)
    if not all(map(math.isfinite, numbers)) or row.per_s < 0 or (row.pause_s and row.pause_s < 1):
        raise ValueError(f"no pace: {row}")
    return row


def _pace(row: _Kept, now_s: float, moment_s: float) -> DomainPace:
    return DomainPace(
        open_per_s=row.per_s,
        takes_per_s=row.takes or None,  # 0 was written where it was never measured
        cause=row.cause,
        since_s=moment_s - max(0.0, now_s - row.since),
        told_s=moment_s - min(HOLD_S, max(0.0, now_s - row.told)),
        bound_s=moment_s,
        pause_s=row.pause_s,
        paused_s=moment_s,
    )


def learnt(pace: DomainPace, ahead_s: float) -> Learnt | None:
    """The ceiling of a pace; None: it has none."""
    per_s = pace.per_s
    return None if per_s is None else Learnt(per_s, pace.cause, pace.since_s + ahead_s)
