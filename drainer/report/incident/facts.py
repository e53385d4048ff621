"""The incident report made: what the ledger, the index and the recorder know, put together.

In    the ledger's Account, the Inventory (of this moment, or the last the service kept), BurnDown
Out   an Incident (incident.py)
Pure  values in, values out
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from drainer.estimate.accuracy import ForecastAccuracy
from drainer.ledger.evidence import DOUBTS, Account, Event, Evidence, Fate, Some
from drainer.ledger.records import JournalLine, OpenAttempt, Totals
from drainer.report.burn_down import BurnDown, Point
from drainer.report.incident.document import (
    LINES,
    Action,
    Bounced,
    ClassFound,
    Doubt,
    Dsns,
    Found,
    Incident,
    Limits,
    Listed,
    ListFound,
    Moment,
    Rates,
    SetAside,
    Suppressed,
)
from drainer.report.inventory import HeldEntry, Inventory, Waiting
from drainer.report.service_state import BRIEF_S
from drainer.report.snapshot import Backlog, SilentState, Snapshot, done_of
from drainer.report.web.chart import bands
from drainer.text.wording import count

SUSTAINED_S = (300.0, 60.0)
"""A rate counts as sustained that was kept up for five minutes, or for one where the drain was short; in one shorter than
two minutes nothing is said of it."""

_SHORT_S = 60.0
_WORKING = frozenset({"starting", "scanning", "draining", "idle"})
_MERGED_FROM = 4

T = TypeVar("T")
U = TypeVar("U")

NOT_ASKED = "how it stands at this moment: the service is not running; the figures are the last it wrote down"
UNANSWERED = "how it stands at this moment: the service gives no answer; the figures are the last it wrote down"
NOTHING_KEPT = "what is left in the queue and what was held there: no service has written that down in this ledger"


def incident(
    account: Account,
    present: Inventory | None,
    history: BurnDown,
    *,
    version: str,
    now_s: float,
    live: bool,
    since_s: float | None = None,
    silent: SilentState = "not_running",
) -> Incident:
    """live: `present` and `history` are of this moment, from the service; else the last that was kept, if any. since_s: from
    when on it was asked for; `account` is of the last mark before that."""
    snapshot = present.snapshot if present else None
    counts = account.totals
    if since_s is not None:
        history = _since(history, counts.since_s)
    began_s, ended_s = _begin_and_end(history)
    as_of_s = snapshot.at if snapshot else now_s
    state = snapshot.state if snapshot and live else silent
    return Incident(
        version=version,
        at=now_s,
        as_of=as_of_s,
        live=live,
        unknown=[] if live else _unknown(counts, snapshot, since_s, silent),
        since=counts.since_s,
        asked_since=since_s,
        counts_earlier=since_s is None and began_s is not None and any(mark <= began_s for mark in account.marks),
        began=began_s,
        ended=ended_s,
        state=state,
        reason=snapshot.reason if snapshot and live else "",
        found=_found(account, present.waiting if present else [], history),
        done=done_of(counts),
        backlog=snapshot.backlog if snapshot else Backlog(),
        timeline=_timeline(account),
        suppressed=_listed(account.evidence.get(Fate.SUPPRESSED, Some()), _suppressed),
        held=_held(account, present),
        bounced=_bounced(account),
        dsns=Dsns(sent=counts.get("dsns_sent"), dropped=counts.get("dsns_dropped"), owed=account.dsn_backlog.owed),
        doubts=_doubts(account),
        doubts_ended=_doubts_ended(account),
        unreadable=Listed(
            total=max(counts.get("unreadable_entries"), account.evidence.get(Fate.UNREADABLE, Some()).total),
            lines=[_set_aside(line) for line in account.evidence.get(Fate.UNREADABLE, Some()).lines],
        ),
        dropped=_listed(account.evidence.get(Fate.DROPPED, Some()), _set_aside),
        actions=_listed(account.by_people, _action),
        rates=_rates(history, as_of_s, _later(began_s, counts.since_s if since_s is not None else None), ended_s),
        forecasts=snapshot.forecasts if snapshot else ForecastAccuracy(),
        history=history,
        present=snapshot,
    )


def _unknown(counts: Totals, snapshot: Snapshot | None, since_s: float | None, silent: SilentState) -> list[str]:
    """What only the service could tell. After a kill the counters may be a minute newer than the last snapshot kept."""
    not_asked = NOT_ASKED if silent == "not_running" else UNANSWERED
    if snapshot is None:
        return [not_asked, NOTHING_KEPT]
    names = ("delivered_entries", "suppressed_entries", "dropped_entries", "unreadable_entries")
    now = done_of(counts)
    later = sum(getattr(now, name) - getattr(snapshot.done, name) for name in names)
    if since_s is not None or later <= 0:
        return [not_asked]
    return [
        not_asked,
        f"which entries were left when it ended: {count(later, 'entry', 'entries')} finished after that moment "
        f"{'is' if later == 1 else 'are'} counted as found twice",
    ]


def _listed(some: Some[T], made: Callable[[T], U]) -> Listed[U]:
    return Listed(total=some.total, lines=[made(line) for line in some.lines])


def _suppressed(line: Evidence) -> Suppressed:
    return Suppressed(
        entry=line.filebase, list=line.list_id, message_id=line.message_id, recipients=line.recipients, of=line.of,
        of_at=line.of_at_s, at=line.at_s, kind=line.detail,
    )  # fmt: skip


def _set_aside(line: Evidence) -> SetAside:
    return SetAside(
        entry=line.filebase, list=line.list_id, message_id=line.message_id, recipients=line.recipients, at=line.at_s,
        why=line.detail,
    )  # fmt: skip


def _action(line: JournalLine) -> Action:
    return Action(at=line.at_s, by=line.by, action=line.action, detail=line.detail)


def _bounced(account: Account) -> Listed[Bounced]:
    lines: list[Bounced] = []
    told: set[tuple[str, str, str]] = set()
    for failure in account.failures.lines:
        dsn = _dsn_of(account, (failure.filebase, failure.address))
        mail = (failure.list_id, failure.message_id, failure.address)
        if dsn != "none":
            told.add(mail)
        elif mail in told:
            dsn = "before"
        lines.append(
            Bounced(
                recipient=failure.address, list=failure.list_id, message_id=failure.message_id, entry=failure.filebase,
                reply=failure.reply, at=failure.at_s, dsn=dsn,
            )
        )  # fmt: skip
    return Listed(total=account.failures.total, lines=lines)


def _dsn_of(account: Account, failed: tuple[str, str]) -> str:
    if failed in account.dsns_owed:
        return "owed"
    words = {Fate.DSN_SENT: "sent", Fate.DSN_DROPPED: "dropped"}
    return words[account.dsns[failed]] if failed in account.dsns else "none"


def _doubts(account: Account) -> Listed[Doubt]:
    resolved = [line for fate in DOUBTS for line in account.evidence.get(fate, Some()).lines]
    lines = [
        Doubt(
            entry=line.filebase, list=line.list_id, message_id=line.message_id, recipients=line.addresses,
            at=line.at_s, outcome=_outcome(line.fate), why=line.detail,
        )
        for line in resolved
    ] + [_open(attempt) for attempt in account.open_doubts]  # fmt: skip
    total = sum(_doubts_ended(account).values())
    return Listed(total=total, lines=sorted(lines, key=lambda line: (line.at, line.entry))[:LINES])


def _doubts_ended(account: Account) -> dict[str, int]:
    ended = {_outcome(fate): account.evidence.get(fate, Some()).total for fate in sorted(DOUBTS)}
    return {outcome: number for outcome, number in (*ended.items(), ("open", len(account.open_doubts))) if number}


def _outcome(fate: Fate) -> str:
    return fate.value.removeprefix("doubt_")


def _open(attempt: OpenAttempt) -> Doubt:
    return Doubt(
        entry=attempt.filebase, list=attempt.list_id, message_id=attempt.message_id, recipients=attempt.recipients,
        at=attempt.at_s, outcome="open",
    )  # fmt: skip


def _held(account: Account, present: Inventory | None) -> Listed[HeldEntry]:
    holds = {hold.filebase: hold for hold in account.holds}
    lines = []
    for entry in present.held if present else []:
        hold = holds.get(entry.entry)
        lines.append(entry.model_copy(update={"at": hold.at_s, "by": hold.by}) if hold else entry)
    return Listed(total=present.snapshot.backlog.held_entries if present else 0, lines=lines[:LINES])


def _found(account: Account, waiting: Sequence[Waiting], history: BurnDown) -> Found:
    lists: dict[str, dict[str, int]] = {}
    classes: dict[str, tuple[int, int]] = {}
    ended = [
        (one.list_id, one.kind, one.fate.value, one.entries, one.recipients, one.bytes)
        for one in account.ended
        if one.entries
    ]
    here = [(one.list, one.kind, "waiting", one.entries, one.recipients, one.bytes) for one in waiting]
    for list_id, kind, how, entries, recipients, octets in (*ended, *here):
        line = lists.setdefault(list_id, {"entries": 0, "recipients": 0, "bytes": 0})
        for name, number in (("entries", entries), ("recipients", recipients), ("bytes", octets), (how, entries)):
            line[name] = line.get(name, 0) + number
        before = classes.get(kind, (0, 0))
        classes[kind] = before[0] + entries, before[1] + recipients
    by_list = [ListFound(list=name, **sums) for name, sums in lists.items()]
    points = history.points
    return Found(
        entries=sum(one.entries for one in by_list),
        recipients=sum(one.recipients for one in by_list),
        bytes=sum(one.bytes for one in by_list),
        most_entries=max((point.entries for point in points), default=None),
        most_recipients=max((point.recipients for point in points if point.recipients is not None), default=None),
        by_list=sorted(by_list, key=lambda one: (-one.recipients, -one.entries, one.list)),
        by_class=[
            ClassFound(kind=kind, entries=entries, recipients=recipients)
            for kind, (entries, recipients) in sorted(classes.items(), key=lambda item: (-item[1][0], item[0]))
        ],
    )


def _begin_and_end(history: BurnDown) -> tuple[float | None, float | None]:
    """Of the burn-down: when it began, and since when nothing has been left.

    A backlog that was empty for moments only, days on end, is everyday mail: of that the points kept are told.
    """
    points = history.points
    last = max((at for at, point in enumerate(points) if point.entries), default=None)
    if last is None:
        return None, None
    has_lasted = all(point.entries for point in points[1 : last + 1])
    began_s = history.began if has_lasted and history.began is not None else points[0].at
    return began_s, points[last + 1].at if last + 1 < len(points) else None


def _later(one_s: float | None, other_s: float | None) -> float | None:
    return one_s if one_s is None or other_s is None else max(one_s, other_s)


def _since(history: BurnDown, since_s: float) -> BurnDown:
    """Of it what was from then on, with the last point before that to reckon from."""
    first = max((at for at, point in enumerate(history.points) if point.at <= since_s), default=0)
    points = history.points[first:]
    changes = tuple(change for change in history.changes if points and change.at >= points[0].at)
    return history.model_copy(update={"points": points, "changes": changes})


def _timeline(account: Account) -> Listed[Moment]:
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
    """One session that was lost stops the feed for a moment, after which it goes on as before: no news in a drain of hours,
    and told among the doubts where it left one."""
    states = [event for event in events if event.kind == "state"]
    dropped = {
        id(event)
        for before, lost, after in zip(states, states[1:], states[2:], strict=False)
        if lost.what == "mta_down" and after.what == before.what and after.at_s - lost.at_s < BRIEF_S
        for event in (lost, after)
    }
    return [event for event in events if id(event) not in dropped]


def _without_flutter(events: Sequence[Event]) -> list[Event]:
    """Small mail that comes and goes makes a service go between idle and draining all day: such a run becomes one line."""
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


def _rates(history: BurnDown, now_s: float, began_s: float | None, ended_s: float | None) -> Rates:
    until_s = now_s if ended_s is None else ended_s
    points = [point for point in history.points if began_s is not None and point.at <= until_s]
    measured = [point for point in points if point.settled_recipients is not None]
    if began_s is None or len(measured) < 2:
        return Rates(limits=_limits(points))
    lasted_s = measured[-1].at - measured[0].at
    still_s = sum(
        max(0.0, min(band.end_s, until_s) - band.start_s) for band in bands(history, now_s) if band.start_s < until_s
    )
    recipients = _settled(measured[-1]) - _settled(measured[0])
    messages = (measured[-1].transactions or 0) - (measured[0].transactions or 0)
    sustained, over_s = _sustained(measured)
    return Rates(
        lasted_s=until_s - began_s,
        still_s=still_s,
        mean_recipients_per_s=recipients / lasted_s if lasted_s > 0 else None,
        mean_messages_per_s=messages / lasted_s if lasted_s > 0 else None,
        sending_recipients_per_s=recipients / (lasted_s - still_s) if lasted_s - still_s >= 1 else None,
        sustained_recipients_per_s=sustained,
        sustained_over_s=over_s,
        limits=_limits(points),
    )


def _settled(point: Point) -> int:
    return point.settled_recipients or 0


def _sustained(points: Sequence[Point]) -> tuple[float | None, float | None]:
    """The best rate kept up, and over how long."""
    span_s = next((span for span in SUSTAINED_S if 2 * span <= points[-1].at - points[0].at), 0.0)
    best: tuple[float | None, float | None] = (None, None)
    first = 0
    if not span_s:
        return best
    for point in points:
        while first + 1 < len(points) and point.at - points[first + 1].at >= span_s:
            first += 1
        over_s = point.at - points[first].at
        if over_s >= span_s:
            rate = (_settled(point) - _settled(points[first])) / over_s
            if best[0] is None or rate > best[0]:
                best = rate, over_s
    return best


def _limits(points: Sequence[Point]) -> list[Limits]:
    found: list[Limits] = []
    for point in points:
        limits = (point.limit_messages_per_s, point.limit_recipients_per_s)
        if not found or limits != (found[-1].messages_per_s, found[-1].recipients_per_s):
            found.append(Limits(at=point.at, messages_per_s=limits[0], recipients_per_s=limits[1]))
    return found[-LINES:]
