"""Every fault of `make torture`, by name."""

from __future__ import annotations

from typing import Any

from tests.torture.genuine import composers_killed, killed_via_mailman, runner_restarted
from tests.torture.place import Fault
from tests.torture.points import POINTS
from tests.torture.wounds import (
    HASTY,
    backup_restored,
    killed_at_points,
    killed_at_random,
    killed_while_handing_back,
    killed_while_pruning,
    mailman_restarted,
    mta_killed,
    mta_stopped,
    service_stopped,
)

REFUSED_SOME: dict[str, dict[str, Any]] = {
    "feed": {"retry_first": "500ms", "retry_longest": "2s", "messages": "30/s"},
    "custody": {"bak_age": "0s"},
}
_KEPT_SHORTLY: dict[str, dict[str, Any]] = {"duplicates": {"keep": "1s"}, "ledger": {"keep": "1h"}}
_VIA_MAILMAN = {"feed": {"via": "mailman", "window": 4}}
_MAILS_A_ROUND = 7 * len(POINTS)
"""Some 20 for each of a third of the points."""

FAULTS = {
    "killed-resend": Fault("service killed at random, in doubt: resend", killed_at_random, 30, "resend", mails=8),
    "killed-hold": Fault("service killed at random, in doubt: hold", killed_at_random, 30, "hold", mails=8),
    "killed-ask": Fault("service killed at random, in doubt: ask", killed_at_random, 30, "ask", mails=8),
    "points-resend": Fault(
        "service killed at named points, resend", killed_at_points, 1, "resend", _MAILS_A_ROUND, sections=REFUSED_SOME
    ),
    "points-hold": Fault(
        "service killed at named points, hold", killed_at_points, 1, "hold", _MAILS_A_ROUND, sections=REFUSED_SOME
    ),
    "points-ask": Fault(
        "service killed at named points, ask", killed_at_points, 1, "ask", _MAILS_A_ROUND, sections=REFUSED_SOME
    ),
    "pruning": Fault(
        "service killed while it prunes", killed_while_pruning, 1, mails=40, kind="plain", sections=_KEPT_SHORTLY
    ),
    "mta-killed": Fault("MTA killed, connections cut anywhere", mta_killed, 12),
    "mta-stopped": Fault("MTA stopped, longer than timeouts", mta_stopped, 12, sections={"mta": HASTY}),
    "service-stopped": Fault("service stopped, longer than timeouts", service_stopped, 12, sections={"mta": HASTY}),
    "handback": Fault(
        "service killed while it hands back", killed_while_handing_back, 10, "hold", 24,
        sections={"feed": {"messages": "40/s"}},
    ),
    "backup": Fault("backup restored, service killed", backup_restored, 10),
    "mailman": Fault("Mailman's runner restarted, service killed", mailman_restarted, 10, mails=16, kind="plain"),
    "composers": Fault(
        "Mailman 3's co-processes killed", composers_killed, 12, kind="mailman3", sections={"feed": {"messages": "25/s"}}
    ),
    "mailman3": Fault(
        "genuine Mailman 3 restarted, service killed", runner_restarted, 4, kind="mailman3",
        sections={"feed": {"messages": "10/s"}},
    ),
    "via-mailman": Fault(
        "service killed at named points, via Mailman", killed_via_mailman, 1, "hold", kind="mailman3",
        sections=_VIA_MAILMAN, ended=True,
    ),
}  # fmt: skip
