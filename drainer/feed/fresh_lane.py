"""The lane of fresh mail: which mail is fresh, and when it goes ahead of the backlog.

In    when a mail was received, when the drain began, the time; what transactions of both lanes used up
Out   the moment from which on mail is fresh; whether the next one in line is of the fresh lane
Pure  no clock, no index

Fresh is what Mailman received since drainer started, and in the last YOUNG_S. The time is the one in the entry's name, which
stays with a mail for life: a backup that was put back, a mail that Mailman kept elsewhere, or a file written anew is as old
as the mail. A mail that the survey takes for a copy of another one is not fresh however new its file is, and one that was
deferred joins the backlog.

The lane has a credit of seconds at the rate in force. Each transaction that goes ahead of a waiting one of the backlog uses
up what it costs; each of the backlog gives back a quarter of what it costs. So mail that needs less than a fifth of the rate
does not wait, a post to a large list goes at once, and however much comes, the backlog keeps four fifths of the rate.
"""

from __future__ import annotations

YOUNG_S = 600.0
STARTED_AGAIN_S = 60.0
"""Mail received so long before the start is fresh too: a restart must not put live mail behind the backlog."""
AHEAD_S = 60.0
"""A name that is further ahead of the clock says nothing about when the mail came."""
SHARE = 0.2
MOST_CREDIT_S = 10.0
_TRANSACTION_S, _LIKE_ONE = 0.01, 50
"""Without a limit a transaction counts as 10 ms, and so do 50 recipients of it: about what they cost an MTA."""


def fresh_between_s(started_s: float, now_s: float) -> tuple[float, float]:
    """Received between these moments, seconds since the epoch, a mail is fresh."""
    return max(started_s - STARTED_AGAIN_S, now_s - YOUNG_S), now_s + AHEAD_S


def fresh_to_begin(sessions: int, in_delivery: int) -> int:
    """How many fresh entries to begin now, beside those of the backlog (pick.entries_to_begin).

    in_delivery  fresh ones. A quarter of the backlog's may be in delivery: where composing or the ledger is what takes time,
                 this is what leaves the backlog four fifths
    """
    return max(0, max(1, (sessions + max(1, sessions // 4)) // 4) - in_delivery)


def cost_s(recipients: int, messages_per_s: float | None, recipients_per_s: float | None) -> float:
    """Seconds of the rate in force that a transaction uses up; None: unlimited, 0: paused, which costs nothing."""
    if messages_per_s is None and recipients_per_s is None:
        return _TRANSACTION_S * max(1.0, recipients / _LIKE_ONE)
    return max(
        1 / messages_per_s if messages_per_s else 0.0, recipients / recipients_per_s if recipients_per_s else 0.0
    )


class LaneCredit:
    """How far the fresh lane may still go ahead."""

    def __init__(self) -> None:
        self._left_s = MOST_CREDIT_S

    @property
    def goes_first(self) -> bool:
        """Whether fresh mail is next where both lanes wait."""
        return self._left_s > 0

    def went(self, cost: float, *, is_fresh: bool, backlog_waits: bool) -> None:
        """A transaction that costs so many seconds goes. backlog_waits: one of the backlog could have gone in its place."""
        if not is_fresh:
            self._left_s = min(MOST_CREDIT_S, self._left_s + cost * SHARE / (1 - SHARE))
        elif backlog_waits:
            self._left_s -= cost
