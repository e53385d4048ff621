"""The beginning of the incident report: what happened in a few sentences, and where the figures come from.

In    an Incident, a time zone
Out   heading, provenance, summary; sentences that other parts use too (state_words, speed, accuracy_text, when)
Pure  values only

The summary can be pasted elsewhere: whole sentences, absolute times with their zone, no words that only this program uses.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import datetime, tzinfo

from drainer.estimate.accuracy import ForecastAccuracy
from drainer.report.burn_down import STANDS_STILL, WAITS_FOR
from drainer.report.incident.document import Incident
from drainer.text.wording import count, duration, rate

_STATES = {
    "starting": "starting",
    "scanning": "reading the backlog",
    "draining": "draining",
    "paused": "paused",
    "stopped_by_guard": "stopped by a guard",
    "mta_down": "the MTA is down",
    "idle": "nothing left to send",
    "stopping": "stopping",
    "not_running": "not running",
    "not_answering": "not answering",
}
_DOUBTS_ENDED = {
    "open": "not resolved yet",
    "delivered": "found delivered and not sent again",
    "resent": "sent again",
    "held": "held for a person",
}


def heading(incident: Incident, zone: tzinfo | None = None) -> str:
    return f"Mail queue drain of {when(incident.began or incident.since, zone)}"


def provenance(incident: Incident, zone: tzinfo | None = None) -> list[str]:
    """Where the figures come from, and what is not known."""
    source = "the running service" if incident.live else "the ledger"
    sentences = [
        f"Made {when(incident.at, zone)} from {source}, drainer {incident.version}; "
        f"figures as of {when(incident.as_of, zone)}, counted since {_counted_since(incident, zone)}."
    ]
    if incident.counts_earlier and incident.began is not None:
        begin = f"{datetime.fromtimestamp(math.ceil(incident.began), zone).astimezone(zone):%Y-%m-%d %H:%M:%S}"
        sentences.append(
            f'Mail from before this drain is counted too: `drainer report --since "{begin}"` leaves it out.'
        )
    return sentences + [f"Not known: {what}." for what in incident.unknown]


def _counted_since(incident: Incident, zone: tzinfo | None) -> str:
    since = when(incident.since, zone)
    if incident.asked_since is None:
        return f"the ledger began, {since}"
    asked = when(incident.asked_since, zone)
    if incident.since <= incident.asked_since:
        return f"{since}, the last count recorded before {asked}"
    return f"the ledger began, {since}, later than the {asked} asked for"


def summary(incident: Incident, zone: tzinfo | None = None) -> list[str]:
    """What happened, in a few sentences."""
    return [
        _course(incident, zone),
        _found(incident),
        _delivered(incident),
        *_bounced(incident),
        *_in_doubt(incident),
        *_set_aside(incident),
        *speed(incident),
        *accuracy_text(incident.forecasts),
        *_operators(incident),
    ]


def _found(incident: Incident) -> str:
    lists = sum(bool(one.list) for one in incident.found.by_list)
    text = f"{count(incident.found.entries, 'entry', 'entries')} of {count(lists, 'list')} came into custody"
    if incident.found.most_recipients is not None:
        text += f"; at its largest the backlog was {count(incident.found.most_recipients, 'recipient')}"
    return text + "."


def _delivered(incident: Incident) -> str:
    done = incident.done
    return (
        f"Delivered: {count(done.delivered_entries, 'entry', 'entries')} to "
        f"{count(done.delivered_recipients, 'recipient')}, in {count(done.transactions, 'transaction')}. "
        f"Suppressed: {count(done.suppressed_recipients, 'second copy', 'second copies')} for recipients who had the mail "
        f"already, {count(done.suppressed_entries, 'whole entry', 'whole entries')} among them."
    )


def _bounced(incident: Incident) -> Iterator[str]:
    if incident.done.bounced_recipients:
        yield (
            f"{count(incident.done.bounced_recipients, 'recipient')} could not be delivered to; "
            f"{count(incident.dsns.sent, 'bounce message')} reported that to the lists"
            + (f", {count(incident.dsns.owed)} still to be sent." if incident.dsns.owed else ".")
        )


def _in_doubt(incident: Incident) -> Iterator[str]:
    if incident.doubts.total:
        ended = incident.doubts_ended
        ways = [f"{count(ended[way])} {text}" for way, text in _DOUBTS_ENDED.items() if way in ended]
        yield (
            f"In doubt, because the MTA's last reply was lost: {count(incident.doubts.total, 'delivery', 'deliveries')}, "
            f"of which {', '.join(ways)}."
        )


def _set_aside(incident: Incident) -> Iterator[str]:
    aside = [
        (incident.backlog.held_entries, "held for a person"),
        (incident.done.unreadable_entries, "unreadable, kept in Mailman's bad/"),
        (incident.done.dropped_entries, "dropped by an operator"),
    ]
    words = [f"{count(number, 'entry', 'entries')} {what}" for number, what in aside if number]
    if words:
        yield f"Set aside: {', '.join(words)}."


def _operators(incident: Incident) -> Iterator[str]:
    if incident.actions.total:
        people = sorted({action.by for action in incident.actions.lines})
        yield f"Operators acted {count(incident.actions.total, 'time')} ({', '.join(people)})."


def state_words(state: str) -> str:
    return _STATES.get(state, state)


def _course(incident: Incident, zone: tzinfo | None) -> str:
    if incident.began is None:
        return "No backlog has been seen by this service."
    begin = f"The drain began {when(incident.began, zone)}"
    if incident.ended is not None:
        how_long = duration(incident.ended - incident.began)
        return f"{begin} and ended {when(incident.ended, zone)}, after {how_long}."
    backlog = incident.backlog
    left = f"{count(backlog.entries, 'entry', 'entries')} with {count(backlog.recipients, 'recipient')} were left"
    reason = f" ({incident.reason})" if incident.reason else ""
    state = state_words(incident.state)
    return f"{begin} and has not ended: {left} at {when(incident.as_of, zone)}; state: {state}{reason}."


def speed(incident: Incident) -> Iterator[str]:
    rates = incident.rates
    if rates.mean_recipients_per_s is None:
        return
    text = f"Recipients were served at {rate(rates.mean_recipients_per_s)} on average"
    if rates.still_s >= 1 and rates.sending_recipients_per_s is not None:
        text += (
            f", {rate(rates.sending_recipients_per_s)} without the {duration(rates.still_s)} in which nothing was sent"
            f"{_still_by(rates.still_by)}"
        )
    if rates.sustained_recipients_per_s is not None and rates.sustained_over_s is not None:
        text += (
            f"; the best kept up for {duration(rates.sustained_over_s)} was {rate(rates.sustained_recipients_per_s)}"
        )
    yield text + "."


def _still_by(seconds_by: Mapping[str, float]) -> str:
    """ " (hourly cap 3 h 10 min, paused 5 min)"."""
    words = STANDS_STILL | WAITS_FOR
    parts = [f"{words.get(why, why)} {duration(seconds)}" for why, seconds in seconds_by.items() if seconds >= 1]
    return f" ({', '.join(parts)})" if parts else ""


def accuracy_text(scored: ForecastAccuracy) -> Iterator[str]:
    if scored.judged:
        error = f"; the median error was {duration(scored.median_error_s)}" if scored.median_error_s is not None else ""
        yield (
            f"Of {count(scored.judged, 'forecast')} of the finish time that can be compared with what came, "
            f"{count(scored.held)} ({scored.held / scored.judged:.0%}) had it in their interval{error}.".replace(
                "%", " %"
            )
        )
    if scored.overtaken:
        ways = ", ".join(f"{number} by {what}" for what, number in scored.overtaken.items())
        yield f"{count(sum(scored.overtaken.values()), 'forecast')} were overtaken and are not judged: {ways}."


def when(at_s: float, zone: tzinfo | None) -> str:
    """ "2026-11-22 18:40:05 CET"."""
    return f"{datetime.fromtimestamp(at_s, zone).astimezone(zone):%Y-%m-%d %H:%M:%S %Z}".rstrip()
