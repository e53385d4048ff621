"""The state of the service in one word, with the reason. If several reasons hold, the strictest counts.

Pure  values only
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from drainer.estimate.eta import ServiceState


def service_state(
    *,
    reasons: Mapping[str, str],
    intake_on: bool,
    listed: bool,
    entries: int,
    unread: int,
    active: int,
    mta_down: str,
    intake_reason: str = "",
    paused_lists: Sequence[str] = (),
    others_wait: bool = True,
    not_served: str = "",
    rate_is_zero: bool = False,
    waits: str = "",
    at_ceilings: str = "",
    mailman_stands_still: str = "",
    intruder: str = "",
    dsns_owed: int = 0,
) -> tuple[ServiceState, str]:
    """State and reason.

    reasons          why feeding stands still, by name: stopping, paused, ledger, refusals, guard (feed/gate.py)
    intake_on        False: the operator gave the queue back to Mailman; intake_reason says how to go on
    listed           the first listing of Mailman's queues is done
    entries, unread, active  entries in the backlog; those not read yet; those in delivery
    mta_down         why the MTA is down; "" while it is up
    paused_lists     paused lists that have entries waiting
    others_wait      entries that are neither paused nor left out wait too
    not_served       what the settings leave out that has entries waiting; "" for nothing
    rate_is_zero     a limit of 0 is in force: no transaction begins
    waits            why nothing goes although nothing is wrong, and when it goes on by itself: a window, a cap
    at_ceilings      domains whose ceilings hold all that is not deferred; "" if none do
    mailman_stands_still  why Mailman does not compose or deliver the entries it has to; "" while it does
    intruder         which runner of Mailman delivers beside us although no setting allows it, and what to do; "" for none
    dsns_owed        bounces not sent yet
    """
    if "stopping" in reasons:
        return "stopping", reasons["stopping"]
    if "paused" in reasons:
        return "paused", reasons["paused"]
    for name in ("ledger", "refusals", "guard"):
        if name in reasons:
            return "stopped_by_guard", reasons[name]
    if not intake_on and not entries:
        return "paused", intake_reason
    if rate_is_zero:
        return "paused", "the rate limit is 0; `drainer rate` shows and changes it"
    if (paused_lists or not_served) and not (others_wait or active or unread):
        of_paused = f"of paused lists: {', '.join(paused_lists)}" if paused_lists else ""
        left_out = f"not served: {not_served}" if not_served else ""
        return "paused", f"all that is left is {'; '.join(filter(None, [of_paused, left_out]))}"
    if mta_down and (entries or dsns_owed):
        return "mta_down", mta_down
    if active or (entries and mailman_stands_still):
        return "draining", mailman_stands_still or intruder or waits
    if unread or not listed:
        return "scanning", f"{unread} entries to read" if unread else "listing Mailman's queue"
    if entries:
        to_wait_for = f"the ceilings of {at_ceilings}" if at_ceilings else "deferred entries to be due"
        return "draining", intruder or waits or f"waiting for {to_wait_for}"
    if dsns_owed:
        return "idle", f"nothing waits but {dsns_owed} bounces (DSNs) to be sent"
    return "idle", "nothing waits"


BRIEF_S = 10.0


def state_since_s(
    state: ServiceState, now_s: float, latest: tuple[ServiceState, float], before: tuple[ServiceState, float]
) -> float:
    """When a state that begins now really began.

    latest, before  the state until now and the one before it, each with the time it began

    A lost session stops the feed for a second or two, until the next session works. The state before and after such a brief
    stop counts as one, without interruption.
    """
    was_brief = latest[0] == "mta_down" and 0 <= now_s - latest[1] < BRIEF_S
    return before[1] if was_brief and state == before[0] else now_s
