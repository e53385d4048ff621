"""How many recipients the MTA takes in one transaction, learnt from its own refusals.

In    transactions that met the limit (Transaction.over_limit), the time
Out   the most recipients to put into a transaction; the same as octets, for the ledger
Pure  values only

The largest of the last transactions that met a limit counts. An MTA with a fixed limit accepts the same number each time;
an MTA that refuses some mixture of domains with the same reply must not bring all transactions down to one recipient.
A limit is forgotten after a week, or when another MTA is fed: it may have been raised, and nothing would show that.

Source  RFC 5321 §4.5.3.1.10
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

KEPT_AS = "recipient_limit"
"""Under this name the ledger keeps it."""

FORGOTTEN_AFTER_S = 7 * 86_400.0
_REMEMBERED = 8


@dataclass(frozen=True, slots=True)
class RecipientLimit:
    """What is known of one MTA.

    mta       "host:port"
    accepted  recipients taken by each of the last transactions that met the limit, newest last
    met_at_s  when that last was, seconds since the epoch
    """

    mta: str = ""
    accepted: tuple[int, ...] = ()
    met_at_s: float = 0.0

    def most(self, mta: str, now_s: float) -> int:
        """The most recipients to give this MTA in one transaction; 0: no limit is known."""
        is_known = mta == self.mta and 0 <= now_s - self.met_at_s < FORGOTTEN_AFTER_S
        return max(self.accepted, default=0) if is_known else 0

    def met(self, mta: str, accepted: int, at_s: float) -> RecipientLimit:
        """After a transaction of which the MTA took `accepted` recipients and refused the others for their number."""
        if not self.most(mta, at_s):
            return RecipientLimit(mta, (accepted,), at_s)
        return replace(self, accepted=(*self.accepted, accepted)[-_REMEMBERED:], met_at_s=at_s)

    def octets(self) -> bytes:
        return json.dumps([self.mta, list(self.accepted), self.met_at_s]).encode("ascii")


def limit_from(octets: bytes | None) -> RecipientLimit:
    """As `octets` wrote it. Octets that cannot be read are no limit: it is learnt anew."""
    try:
        mta, accepted, met_at_s = json.loads(octets or b"")
        return RecipientLimit(str(mta), tuple(int(count) for count in accepted if int(count) > 0), float(met_at_s))
    except (ValueError, TypeError, OverflowError, RecursionError):
        return RecipientLimit()
