"""The timeline of the incident report: what happened, without what is no news.

In    events and journal lines of the ledger's Account
Out   Listed[Moment], the latest LINES
Pure  values only
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from drainer.ledger.evidence import Account, Event
from drainer.ledger.records import JournalLine
from drainer.report.incident.document import LINES, Listed, Moment
from drainer.report.service_state import BRIEF_S

_SHORT_S = 60.0
_WORKING = frozenset({"starting", "scanning", "draining", "idle"})
_MERGED_FROM = 4
"""This many short changes of state in a row become one line."""


def timeline(account: Account) -> Listed[Moment]:
    moments = [
        *(Moment(at=event.at_s, kind=event.kind, what=event.what, detail=event.detail) for event in
          _without_flutter(_without_lost_sessions(account.events))),
        *_journalled(account.by_people.lines, "operator"),
        *_journalled(account.by_service.lines, "service"),
    ]  # fmt: skip
    moments.sort(key=lambda moment: moment.at)
    return Listed(total=len(moments), lines=moments[-LINES:])


def _journalled(lines: Iterable[JournalLine], kind: str) -> list[Moment]:
    return [Moment(at=line.at_s, kind=kind, what=line.action, detail=line.detail, by=line.by) for line in lines]


def _without_lost_sessions(events: Sequence[Event]) -> list[Event]:
    """Without the brief stop of the feed that follows a lost session: no news in a drain of hours. If the session left a
    delivery in doubt, the report has it under "In doubt"."""
    states = [event for event in events if event.kind == "state"]
    dropped = {
        id(event)
        for before, lost, after in zip(states, states[1:], states[2:], strict=False)
        if lost.what == "mta_down" and after.what == before.what and after.at_s - lost.at_s < BRIEF_S
        for event in (lost, after)
    }
    return [event for event in events if id(event) not in dropped]


def _without_flutter(events: Sequence[Event]) -> list[Event]:
    """Everyday mail makes the service change between idle and draining all day: a run of such changes becomes one line."""
    kept: list[Event] = []
    run: list[Event] = []

    def end_run() -> None:
        if len(run) < _MERGED_FROM:
            kept.extend(run)
        else:
            words = ", ".join(dict.fromkeys(event.what for event in run))
            kept.append(Event(run[0].at_s, "state", run[-1].what, f"after {len(run)} changes between {words}"))
        run.clear()

    for event, following in itertools.zip_longest(events, events[1:]):
        lasted_s = following.at_s - event.at_s if following else 0.0
        if event.kind == "state" and event.what in _WORKING and lasted_s < _SHORT_S:
            run.append(event)
        else:
            end_run()
            kept.append(event)
    end_run()
    return kept
