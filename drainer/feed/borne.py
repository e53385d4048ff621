"""What an MTA bore last time: the rate and the sessions that the next run starts from.

In    rate, sessions and reply time of a run, the time; octets from the ledger
Out   what is known of an MTA; the same as octets, for the ledger
Pure  values only

Kept for each "host:port", and forgotten after a week: by then the MTA may be another one under the same name.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

KEPT_AS = "mta_bore"
"""Under this name the ledger keeps it."""

FORGOTTEN_AFTER_S = 7 * 86_400.0
MOST_MTAS = 16
WORTH_WRITING = 0.1
WORTH_WRITING_AFTER_S = 86_400.0
"""What did not change is written again, so that it is forgotten a week after this MTA was fed last."""


@dataclass(frozen=True, slots=True)
class Bore:
    """What one MTA bore.

    per_s       transactions per second that it accepted; 0: not known
    is_limit    it refused more than that
    sessions    that it was given in the end
    unloaded_s  time from final dot to reply when it has little to do; inf: not known
    at_s        when that was, seconds since the epoch
    """

    per_s: float = 0.0
    is_limit: bool = False
    sessions: int = 0
    unloaded_s: float = math.inf
    at_s: float = 0.0

    def differs_from(self, other: Bore) -> bool:
        """Whether it is worth a write."""
        apart = abs(self.per_s - other.per_s) > WORTH_WRITING * max(self.per_s, other.per_s)
        is_new = 0 <= self.at_s - other.at_s < WORTH_WRITING_AFTER_S
        return apart or not is_new or (self.is_limit, self.sessions) != (other.is_limit, other.sessions)


NOTHING = Bore()


def bore_of(known: Mapping[str, Bore], mta: str, now_s: float) -> Bore:
    """What is known of an MTA ("host:port"); NOTHING if that is too old, or from the future."""
    found = known.get(mta, NOTHING)
    return found if 0 <= now_s - found.at_s < FORGOTTEN_AFTER_S else NOTHING


def with_bore(known: Mapping[str, Bore], mta: str, bore: Bore, now_s: float) -> dict[str, Bore]:
    """All that is known, this included; what is too old is gone, and of the others the latest MOST_MTAS stay."""
    kept = {name: one for name, one in known.items() if name != mta and now_s - one.at_s < FORGOTTEN_AFTER_S}
    latest = sorted(kept, key=lambda name: kept[name].at_s)[-(MOST_MTAS - 1) :]
    return {**{name: kept[name] for name in latest}, mta: bore}


def octets_of(known: Mapping[str, Bore]) -> bytes:
    return json.dumps(
        {
            name: [
                one.per_s,
                one.is_limit,
                one.sessions,
                one.unloaded_s if math.isfinite(one.unloaded_s) else None,
                one.at_s,
            ]
            for name, one in known.items()
        }
    ).encode("ascii")


def known_from(octets: bytes | None) -> dict[str, Bore]:
    """As `octets_of` wrote it. Octets that cannot be read are nothing known: it is found out anew."""
    try:
        return {str(name): _bore(*values) for name, values in json.loads(octets or b"{}").items()}
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return {}


def _bore(per_s: float, is_limit: bool, sessions: int, unloaded_s: float | None, at_s: float) -> Bore:
    bore = Bore(
        float(per_s), bool(is_limit), int(sessions), math.inf if unloaded_s is None else float(unloaded_s), float(at_s)
    )
    if not (0 <= bore.per_s < math.inf and 0 <= bore.sessions <= 1000 and bore.unloaded_s > 0 and bore.at_s < math.inf):
        raise ValueError("out of bounds")
    return bore
