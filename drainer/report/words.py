"""The words for where a drain stands, alike in status, page, log, systemd and `drainer check`.

In    a Snapshot or a part of it, a time zone
Out   a word, a clause or a line
Pure  no clock: "now" is when the snapshot was taken
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import tzinfo

from drainer.estimate.accuracy import ForecastAccuracy
from drainer.estimate.eta import Eta, ServiceState
from drainer.guards.mailman import Mailman
from drainer.report.snapshot import NOT_SERVED, CapUsed, DomainStanding, SilentState, Snapshot, WindowInForce
from drainer.text.wording import (
    backlog_left,
    clock_time,
    count,
    duration,
    finish_time,
    quantised_s,
    rate,
    rounded_to_s,
    shown,
)

_STATES: dict[ServiceState | SilentState, str] = {
    "starting": "STARTING",
    "scanning": "SCANNING",
    "draining": "DRAINING",
    "paused": "PAUSED",
    "stopped_by_guard": "STOPPED BY A GUARD",
    "mta_down": "MTA DOWN",
    "idle": "IDLE",
    "stopping": "STOPPING",
    "not_running": "NOT RUNNING",
    "not_answering": "NOT ANSWERING",
}

_NAMED = 3

NO_FINISH = {
    "paused": "no finish time while paused",
    "stalled": "no finish time: nothing is being delivered",
    "growing": "no finish time: mail arrives as fast as it is delivered, or faster",
    "measuring": "no finish time yet: still measuring",
}

WITHOUT_FINISH: dict[SilentState, str] = {
    "not_running": "no finish time: drainer does not run",
    "not_answering": "no finish time: drainer does not answer",
}


def status_line(snapshot: Snapshot, zone: tzinfo | None = None) -> str:
    """Where it stands in one line, for systemd's STATUS= and for `--watch` into a file."""
    parts = [state_in_a_sentence(snapshot.state)]
    if snapshot.reason:
        parts[0] += f" ({shown(snapshot.reason)})"
    backlog = snapshot.backlog
    parts.append(backlog_left(backlog.entries, backlog.recipients, backlog.unread_entries))
    if snapshot.rate.recipients_per_s is not None and is_sending(snapshot):
        parts.append(f"{rate(snapshot.rate.recipients_per_s)} recipients")
    parts.append(eta_text(snapshot.eta, snapshot.at, zone))
    for number, text in (
        (backlog.held_entries, f"held: {count(backlog.held_entries, 'entry', 'entries')}"),
        (backlog.in_doubt_recipients, f"in doubt: {count(backlog.in_doubt_recipients, 'recipient')}"),
        (len(snapshot.mailman.missing_runners), f"Mailman's runners missing: {missing_runners(snapshot.mailman)}"),
    ):
        if number:
            parts.append(text)
    return "; ".join(parts)


def state_word(state: ServiceState | SilentState) -> str:
    """ "DRAINING", "STOPPED BY A GUARD", "MTA DOWN"."""
    return _STATES[state]


def state_in_a_sentence(state: ServiceState | SilentState) -> str:
    """ "draining", "stopped by a guard", "MTA down"."""
    return state_word(state).lower().replace("mta", "MTA")


def eta_text(eta: Eta, now_s: float, zone: tzinfo | None = None) -> str:
    """ "about 2 h 05 min, at 18:40 CET (80 %: 1 h 40 min to 2 h 45 min)", or why there is no number."""
    if eta.state == "done":
        return "nothing left to deliver"
    if eta.state != "draining" or eta.seconds is None:
        return NO_FINISH.get(eta.state, NO_FINISH["measuring"])
    text = f"about {duration(quantised_s(eta.seconds))}, at {finish_time(now_s + eta.seconds, now_s, zone)}"
    if eta.low_s is None or eta.high_s is None:
        return text
    low, high = duration(quantised_s(eta.low_s)), duration(quantised_s(eta.high_s))
    sure = f"{eta.confidence * 100:.0f} %: " if eta.confidence else ""
    between = f"{low} to {high}" if low != high else f"give or take {duration(rounded_to_s(eta.seconds))}"
    return f"{text} ({sure}{between})"


def finish_text(snapshot: Snapshot, zone: tzinfo | None = None) -> str:
    """As eta_text, for a snapshot. If the service was not asked, or a domain is held back, that is why there is none."""
    if snapshot.without_service is not None and snapshot.eta.state != "done":
        return WITHOUT_FINISH[snapshot.without_service.state]
    if snapshot.eta.state == "stalled" and (names := held_back(snapshot.domains)):
        return held_back_text(names)
    return eta_text(snapshot.eta, snapshot.at, zone)


def held_back(domains: Iterable[DomainStanding]) -> list[str]:
    """Domains that wait until somebody ends it: settings or operators hold them back without an end."""
    return [
        one.domain
        for one in domains
        if one.limit_recipients_per_s == 0 and one.until is None and one.set_by in ("settings", "operator")
        and one.waiting_recipients and one.domain != NOT_SERVED
    ]  # fmt: skip


def held_back_text(names: Sequence[str]) -> str:
    """Why there is no finish time while they are held back."""
    others = len(names) - _NAMED
    more = f" and {count(others, 'other domain')}" if others > 0 else ""
    are = "is" if len(names) == 1 else "are"
    return f"no finish time while {', '.join(map(shown, names[:_NAMED]))}{more} {are} held back"


def progress(snapshot: Snapshot) -> float | None:
    """Share of the known recipients that are settled, 0..1; None while it cannot be computed.

    An entry not read yet counts as many recipients as the entries read have on average.
    """
    done, backlog = snapshot.done, snapshot.backlog
    settled = done.delivered_recipients + done.bounced_recipients + done.suppressed_recipients
    left = float(backlog.recipients)
    read = backlog.entries - backlog.unread_entries
    if backlog.unread_entries:
        if read <= 0 or not backlog.recipients:
            return None
        left += backlog.unread_entries * backlog.recipients / read
    if settled + left == 0:
        return 1.0 if backlog.entries == 0 and snapshot.eta.state == "done" else None
    return settled / (settled + left)


def is_sending(snapshot: Snapshot) -> bool:
    """Whether mail is being sent now. If not, the rates are those of the last time it was."""
    return snapshot.state in ("scanning", "draining")


def schedule_lines(window: WindowInForce | None, caps: Iterable[CapUsed], binding: str = "") -> Iterator[str]:
    """What windows and caps say of this moment, without what `binding` says already."""
    if window is not None and window.overruled:
        yield f"{window.text}, overruled by `drainer rate`; `drainer rate --auto` goes back to it"
    elif window is not None and window.text != binding:
        yield window.text
    for cap in caps:
        if cap.text != binding:
            yield cap.text


def forecasts_text(scored: ForecastAccuracy) -> str:
    """ "41 of 50 finish times came within their interval; median error 2 min"."""
    right = f"{count(scored.held)} of {count(scored.judged, 'finish time')} came within their interval"
    error = "" if scored.median_error_s is None else f"; median error {duration(scored.median_error_s)}"
    ways = ", ".join(f"{count(number)} by {what}" for what, number in scored.overtaken.items())
    return f"{right}{error}" + (f"; set aside, not judged: {ways}" if ways else "")


def missing_runners(mailman: Mailman) -> str:
    """Names of the missing runners, separated by commas."""
    return ", ".join(map(shown, mailman.missing_runners))


def domain_limit(one: DomainStanding) -> str:
    """The ceiling of a recipient domain: "4.8/s learnt", "held back", "none"."""
    per_s = one.limit_recipients_per_s
    if per_s is None:
        return "none"
    return f"{rate(per_s)} {one.set_by}" if per_s and not one.banned else domain_pace(one)


def domain_pace(one: DomainStanding) -> str:
    """The same in a sentence that says by whom it was set: "at most 4.8/s", "held back". There is a ceiling."""
    if one.banned:
        return "refuses all, tried rarely"
    return f"at most {rate(one.limit_recipients_per_s)}" if one.limit_recipients_per_s else "held back"


def domain_cause(one: DomainStanding, now_s: float, zone: tzinfo | None = None) -> str:
    """By whom that ceiling was set, why, and until when."""
    if one.set_by == "settings":
        return shown(one.cause) or "feed.domains"
    who = {"operator": f"by {shown(one.by)}", "learnt": "learnt"}.get(one.set_by, "")
    until = f" until {clock_time(one.until, now_s, zone)}" if one.until is not None else ""
    return f"{who}{until}: {shown(one.cause)}" if one.cause else f"{who}{until}"


def domain_not_in_force(one: DomainStanding) -> str:
    """That an order or a setting limits nothing, and why; "" if there is nothing of the kind."""
    if not one.not_in_force:
        return ""
    return (
        f"{shown(one.not_in_force)}; this limits nothing: {shown(one.domain)} is no group of feed.domain_groups, and no mail"
        " for a domain of that name is known"
    )


def behind_the_mta(one: DomainStanding) -> str:
    """What waits for a recipient domain in the MTA's queue: "37 behind the MTA, oldest 4 min"; "" if nothing is known to."""
    if not one.queued:
        return ""
    oldest = f", oldest {duration(one.oldest_age_s)}" if one.oldest_age_s is not None else ""
    return f"{count(one.queued)} behind the MTA{oldest}"


def traffic_behind_the_mta(one: DomainStanding) -> str:
    """What comes into that queue and leaves it: "12/s arrive, 5/s taken, 3/s deferred"; without what is zero or unknown."""
    flows = (
        (one.arrivals_recipients_per_s, "arrive"),
        (one.accepted_recipients_per_s, "taken"),
        (one.deferrals_per_s, "deferred"),
    )
    return ", ".join(f"{rate(per_s)} {what}" for per_s, what in flows if per_s)
