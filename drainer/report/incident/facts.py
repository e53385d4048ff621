"""Makes the Incident from what the ledger, the inventory and the burn-down hold.

In    the ledger's Account; Inventory and BurnDown, of this moment or the last ones that the service kept
Out   an Incident (document.py)
Pure  values in, values out
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from drainer.estimate.accuracy import ForecastAccuracy
from drainer.ledger.evidence import DOUBTS, Account, Evidence, Fate, Some
from drainer.ledger.records import JournalLine, OpenAttempt, Totals
from drainer.report.burn_down import BurnDown
from drainer.report.incident.document import (
    LINES,
    Action,
    Bounced,
    ClassFound,
    Doubt,
    Dsns,
    Found,
    Incident,
    Listed,
    ListFound,
    SetAside,
    Suppressed,
)
from drainer.report.incident.rates import drain_rates
from drainer.report.incident.timeline import timeline
from drainer.report.inventory import HeldEntry, Inventory, Waiting
from drainer.report.snapshot import Backlog, SilentState, Snapshot, done_of
from drainer.text.wording import count

T = TypeVar("T")
U = TypeVar("U")

NOT_ASKED = "the state at this moment: the service is not running, and the figures are the last ones it recorded"
UNANSWERED = "the state at this moment: the service does not answer, and the figures are the last ones it recorded"
NOTHING_KEPT = "what is left in the queue and what is held: no service has recorded that in this ledger"


def make_incident(
    account: Account,
    inventory: Inventory | None,
    burn_down: BurnDown,
    *,
    version: str,
    now_s: float,
    live: bool,
    since_s: float | None = None,
    silent: SilentState = "not_running",
) -> Incident:
    """All of the report, as values.

    account  since the last mark before since_s
    live     True: inventory and burn_down are of this moment; False: the last ones kept, if any
    since_s  the beginning that was asked for; None: that of the ledger
    silent   why the service was not asked; only if not live
    """
    snapshot = inventory.snapshot if inventory else None
    counts = account.totals
    if since_s is not None:
        burn_down = _since(burn_down, counts.since_s)
    began_s, ended_s = _begin_and_end(burn_down)
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
        counts_earlier=since_s is None and began_s is not None and any(at_s <= began_s for at_s in account.baselines),
        began=began_s,
        ended=ended_s,
        state=state,
        reason=snapshot.reason if snapshot and live else "",
        found=_found(account, inventory.waiting if inventory else [], burn_down),
        done=done_of(counts),
        backlog=snapshot.backlog if snapshot else Backlog(),
        timeline=timeline(account),
        suppressed=_listed(_evidence(account, Fate.SUPPRESSED), _suppressed),
        held=_held(account, inventory),
        bounced=_bounced(account),
        dsns=Dsns(sent=counts.get("dsns_sent"), dropped=counts.get("dsns_dropped"), owed=account.dsn_backlog.owed),
        doubts=_doubts(account),
        doubts_ended=_doubts_ended(account),
        unreadable=_unreadable(account),
        dropped=_listed(_evidence(account, Fate.DROPPED), _set_aside),
        actions=_listed(account.by_people, _action),
        rates=drain_rates(burn_down, as_of_s, _later(began_s, None if since_s is None else counts.since_s), ended_s),
        forecasts=snapshot.forecasts if snapshot else ForecastAccuracy(),
        history=burn_down,
        present=snapshot,
    )


def _unknown(counts: Totals, snapshot: Snapshot | None, since_s: float | None, silent: SilentState) -> list[str]:
    """What only the service knows. After a kill the counters may be a minute newer than the last snapshot kept."""
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
        f"{'is' if later == 1 else 'are'} counted twice under what was found",
    ]


def _evidence(account: Account, fate: Fate) -> Some[Evidence]:
    return account.evidence.get(fate, Some())


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


def _unreadable(account: Account) -> Listed[SetAside]:
    """The counter and the lines may differ; the larger one is the total."""
    listed = _listed(_evidence(account, Fate.UNREADABLE), _set_aside)
    return listed.model_copy(update={"total": max(account.totals.get("unreadable_entries"), listed.total)})


def _action(line: JournalLine) -> Action:
    return Action(at=line.at_s, by=line.by, action=line.action, detail=line.detail)


def _bounced(account: Account) -> Listed[Bounced]:
    lines: list[Bounced] = []
    reported: set[tuple[str, str, str]] = set()
    for failure in account.failures.lines:
        dsn = _dsn_of(account, (failure.filebase, failure.address))
        mail = (failure.list_id, failure.message_id, failure.address)
        if dsn != "none":
            reported.add(mail)
        elif mail in reported:
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
    resolved = [line for fate in DOUBTS for line in _evidence(account, fate).lines]
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
    ended = {_outcome(fate): _evidence(account, fate).total for fate in sorted(DOUBTS)}
    return {outcome: number for outcome, number in (*ended.items(), ("open", len(account.open_doubts))) if number}


def _outcome(fate: Fate) -> str:
    return fate.value.removeprefix("doubt_")


def _open(attempt: OpenAttempt) -> Doubt:
    return Doubt(
        entry=attempt.filebase, list=attempt.list_id, message_id=attempt.message_id, recipients=attempt.recipients,
        at=attempt.at_s, outcome="open",
    )  # fmt: skip


def _held(account: Account, inventory: Inventory | None) -> Listed[HeldEntry]:
    holds = {hold.filebase: hold for hold in account.holds}
    lines = []
    for entry in inventory.held if inventory else []:
        hold = holds.get(entry.entry)
        lines.append(entry.model_copy(update={"at": hold.at_s, "by": hold.by}) if hold else entry)
    return Listed(total=inventory.snapshot.backlog.held_entries if inventory else 0, lines=lines[:LINES])


def _found(account: Account, waiting: Sequence[Waiting], burn_down: BurnDown) -> Found:
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
    points = burn_down.points
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


def _begin_and_end(burn_down: BurnDown) -> tuple[float | None, float | None]:
    """When the burn-down began, and since when nothing has been left; None: not seen, or not ended.

    If the backlog was empty now and then, it is everyday mail, which has no beginning: then the first point kept counts.
    """
    points = burn_down.points
    last = max((at for at, point in enumerate(points) if point.entries), default=None)
    if last is None:
        return None, None
    has_lasted = all(point.entries for point in points[1 : last + 1])
    began_s = burn_down.began if has_lasted and burn_down.began is not None else points[0].at
    return began_s, points[last + 1].at if last + 1 < len(points) else None


def _later(one_s: float | None, other_s: float | None) -> float | None:
    return one_s if one_s is None or other_s is None else max(one_s, other_s)


def _since(burn_down: BurnDown, since_s: float) -> BurnDown:
    """The part from then on, with the last point before it as the base of the sums."""
    first = max((at for at, point in enumerate(burn_down.points) if point.at <= since_s), default=0)
    points = burn_down.points[first:]
    changes = tuple(change for change in burn_down.changes if points and change.at >= points[0].at)
    return burn_down.model_copy(update={"points": points, "changes": changes})
