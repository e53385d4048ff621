"""Moments of a drain, staged: snapshots and the history up to them."""

from __future__ import annotations

from typing import Any

from drainer.estimate.eta import Eta
from drainer.guards.mailman import Mailman, QueueCount, Runner
from drainer.guards.verdict import Guard
from drainer.report.burn_down import BurnDown, observed
from drainer.report.snapshot import Backlog, Done, ListBacklog, Mta, PauseInForce, Rate, Snapshot

NOW_S = 1_772_536_000.0
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&amp;"


def moment(**changed: Any) -> Snapshot:
    """In the middle of a drain; `changed` fields replaced."""
    fields: dict[str, Any] = {
        "version": "0.1.0",
        "at": NOW_S,
        "pid": 4711,
        "state": "draining",
        "since": NOW_S - 4320,
        "backlog": Backlog(
            entries=4145,
            recipients=49012,
            bytes=8_400_000,
            oldest_age_s=82_440.0,
            deferred_recipients=31,
            in_doubt_recipients=2,
            held_entries=7,
            dsns_owed=4,
            duplicate_entries=938,
            duplicate_recipients=12208,
        ),
        "done": Done(
            delivered_entries=883,
            delivered_recipients=11450,
            suppressed_entries=303,
            suppressed_recipients=4404,
            bounced_recipients=17,
            dropped_entries=1,
            unreadable_entries=3,
            transactions=1820,
            since=NOW_S - 4300,
        ),
        "rate": Rate(
            limit_messages_per_s=12.0,
            messages_per_s=3.75,
            recipients_per_s=23.3,
            arrivals_recipients_per_s=0.5,
            binding="limit on messages",
        ),
        "eta": Eta(state="draining", finish=NOW_S + 1560, seconds=1560.0, low_s=1020.0, high_s=2400.0, confidence=0.8),
        "guards": [
            Guard(name="ledger_bytes", verdict="go", value=7e9, limit=67108864),
            Guard(name="load", verdict="slow", reason="the load is 9.5", value=9.5, limit=8.0),
        ],
        "mta": Mta(host="127.0.0.1", port=25, state="up", sessions=4),
        "mailman": Mailman(
            flavour="mailman2",
            queue_dir="/var/lib/mailman/qfiles",
            runners=[Runner(name="out", pid=99)],
            queues=[QueueCount(name="out", entries=12, oldest_age_s=30.0), QueueCount(name="shunt", entries=3)],
        ),
        "lists": [
            ListBacklog(
                list="harbour",
                entries=932,
                recipients=7357,
                oldest_age_s=82_380.0,
                seconds=780.0,
                low_s=540.0,
                high_s=960.0,
            ),
            ListBacklog(list="choir", entries=799, recipients=15611, oldest_age_s=82_320.0, paused=True),
        ],
        "pauses": [PauseInForce(list="choir", by="ann", reason="provider asked", since=NOW_S - 60, until=NOW_S + 1800)],
    }
    return Snapshot(**{**fields, **changed})


def burning(minutes: int = 60) -> BurnDown:
    """A history that ends with `moment()`: from 60,000 recipients on, with ten minutes of a dead MTA in the middle."""
    history = BurnDown()
    for minute in range(minutes + 1):
        at_s = NOW_S - 60.0 * (minutes - minute)
        down = minutes // 2 <= minute < minutes // 2 + 10
        left = 60000 - (60000 - 49012) * minute // max(1, minutes)
        history = observed(
            history,
            moment(
                at=at_s,
                state="mta_down" if down else "draining",
                reason="connection refused" if down else "",
                since=at_s,
                backlog=Backlog(entries=left // 12, recipients=left),
            ),
        )
    return history
