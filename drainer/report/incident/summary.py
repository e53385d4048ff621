"""What the incident report says first: what happened in some sentences, and where its figures are from.

In    an Incident, a time zone
Out   heading, provenance, summary; what other parts of the report say in the same words (state_words, speed, accuracy, when)
Pure  values only

The summary can be pasted as it stands: whole sentences, absolute times with their zone, no word only this program knows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime, tzinfo

from drainer.estimate.accuracy import ForecastAccuracy
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


def heading(told: Incident, zone: tzinfo | None = None) -> str:
    return f"Mail queue drain of {when(told.began or told.since, zone)}"


def provenance(told: Incident, zone: tzinfo | None = None) -> list[str]:
    """Where the figures are from, and what cannot be known."""
    source = "the running service" if told.live else "the ledger"
    if told.asked_since is None:
        since = f"the ledger began, {when(told.since, zone)}"
    elif told.since <= told.asked_since:
        since = f"{when(told.since, zone)}, the last count written down before {when(told.asked_since, zone)}"
    else:
        since = f"the ledger began, {when(told.since, zone)}, later than the {when(told.asked_since, zone)} asked for"
    said = [
        f"Made {when(told.at, zone)} from {source}, drainer {told.version}; figures as of {when(told.as_of, zone)}, "
        f"counted since {since}."
    ]
    if told.counts_earlier and told.began is not None:
        begin = f"{datetime.fromtimestamp(math.ceil(told.began), zone).astimezone(zone):%Y-%m-%d %H:%M:%S}"
        said.append(f'Mail from before this drain is counted too: `drainer report --since "{begin}"` leaves it out.')
    return said + [f"Not known: {what}." for what in told.unknown]


def summary(told: Incident, zone: tzinfo | None = None) -> list[str]:
    """Some sentences that say what happened."""
    done, backlog = told.done, told.backlog
    said = [_course(told, zone)]
    found = f"{count(told.found.entries, 'entry', 'entries')} of {count(_lists(told), 'list')} came into custody"
    if told.found.most_recipients is not None:
        found += f"; at its largest the backlog was {count(told.found.most_recipients, 'recipient')}"
    said.append(found + ".")
    said.append(
        f"Delivered: {count(done.delivered_entries, 'entry', 'entries')} to "
        f"{count(done.delivered_recipients, 'recipient')}, in {count(done.transactions, 'transaction')}. "
        f"Suppressed: {count(done.suppressed_recipients, 'second copy', 'second copies')} for recipients who had the mail "
        f"already, {count(done.suppressed_entries, 'whole entry', 'whole entries')} among them."
    )
    if done.bounced_recipients:
        said.append(
            f"{count(done.bounced_recipients, 'recipient')} could not be delivered to; "
            f"{count(told.dsns.sent, 'bounce message')} reported that to the lists"
            + (f", {count(told.dsns.owed)} still to be sent." if told.dsns.owed else ".")
        )
    if told.doubts.total:
        ways = [
            f"{count(told.doubts_ended[way])} {text}" for way, text in _DOUBTS_ENDED.items() if way in told.doubts_ended
        ]
        said.append(
            f"In doubt, because the MTA's last reply was lost: {count(told.doubts.total, 'delivery', 'deliveries')}, "
            f"of which {', '.join(ways)}."
        )
    aside = [
        (backlog.held_entries, "held for a person"),
        (done.unreadable_entries, "unreadable, kept in Mailman's bad/"),
        (done.dropped_entries, "dropped by an operator"),
    ]
    if any(number for number, _ in aside):
        words = [f"{count(number, 'entry', 'entries')} {what}" for number, what in aside if number]
        said.append(f"Set aside: {', '.join(words)}.")
    said += [*speed(told), *accuracy(told.forecasts)]
    if told.actions.total:
        people = sorted({action.by for action in told.actions.lines})
        said.append(f"Operators acted {count(told.actions.total, 'time')} ({', '.join(people)}).")
    return said


def state_words(state: str) -> str:
    return _STATES.get(state, state)


def _course(told: Incident, zone: tzinfo | None) -> str:
    if told.began is None:
        return "No backlog has been seen by this service."
    begin = f"The drain began {when(told.began, zone)}"
    if told.ended is not None:
        how_long = duration(told.ended - told.began)
        return f"{begin} and ended {when(told.ended, zone)}, after {how_long}."
    left = f"{count(told.backlog.entries, 'entry', 'entries')} with {count(told.backlog.recipients, 'recipient')} were left"
    reason = f" ({told.reason})" if told.reason else ""
    state = state_words(told.state)
    return f"{begin} and has not ended: {left} at {when(told.as_of, zone)}; state: {state}{reason}."


def _lists(told: Incident) -> int:
    return sum(bool(one.list) for one in told.found.by_list)


def speed(told: Incident) -> Iterator[str]:
    rates = told.rates
    if rates.mean_recipients_per_s is None:
        return
    text = f"Recipients were served at {rate(rates.mean_recipients_per_s)} on average"
    if rates.still_s >= 1 and rates.sending_recipients_per_s is not None:
        text += (
            f", {rate(rates.sending_recipients_per_s)} without the {duration(rates.still_s)} in which nothing was sent"
        )
    if rates.sustained_recipients_per_s is not None and rates.sustained_over_s is not None:
        text += (
            f"; the best kept up for {duration(rates.sustained_over_s)} was {rate(rates.sustained_recipients_per_s)}"
        )
    yield text + "."


def accuracy(scored: ForecastAccuracy) -> Iterator[str]:
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
