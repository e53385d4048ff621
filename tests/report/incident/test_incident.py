"""What the report makes of what was kept: nothing twice, nothing that cannot be known."""

from __future__ import annotations

from datetime import UTC

from drainer.ledger.evidence import Account, Event
from drainer.ledger.records import Totals
from drainer.report.burn_down import BurnDown, Point, observed, resumed
from drainer.report.incident.facts import NOT_ASKED, NOTHING_KEPT, make_incident
from drainer.report.incident.summary import provenance, speed
from drainer.report.inventory import HeldEntry, Inventory, Waiting, known_resends
from drainer.report.snapshot import Backlog, Done, Rate, Snapshot
from tests.report.staged import NOW_S, burning, moment


class Line(HeldEntry):
    """As the index lists it."""

    duplicate: str
    recipients: int | None = 4
    bytes: int = 900


def timeline_of(
    account: Account, present: Inventory | None = None, history: BurnDown | None = None
) -> list[tuple[str, str]]:
    made = make_incident(account, present, history or BurnDown(), version="1", now_s=NOW_S, live=False)
    return [(line.what, line.detail) for line in made.timeline.lines]


def test_small_mail_that_comes_and_goes_is_one_line_and_trouble_in_between_keeps_its_own() -> None:
    flutter = [Event(NOW_S + at, "state", "idle" if at % 2 else "draining") for at in range(10)]
    down = Event(NOW_S + 10, "state", "mta_down", "connection refused")
    again = [Event(NOW_S + 1000 + at, "state", "idle" if at % 2 else "draining") for at in range(3)]
    found = timeline_of(Account(events=(*flutter, down, *again)))
    assert found == [
        ("idle", "after 10 changes between draining, idle"),
        ("mta_down", "connection refused"),
        ("draining", ""),
        ("idle", ""),
        ("draining", ""),
    ]


def test_one_lost_session_is_no_line_of_the_timeline_and_an_outage_is() -> None:
    events = [
        Event(NOW_S, "state", "draining"),
        Event(NOW_S + 100, "state", "mta_down", "session lost at final dot"),
        Event(NOW_S + 102, "state", "draining"),
        Event(NOW_S + 150, "notice", "held"),
        Event(NOW_S + 200, "state", "mta_down", "connection refused"),
        Event(NOW_S + 400, "state", "draining"),
    ]
    kinds = [what for what, _ in timeline_of(Account(events=tuple(events)))]
    assert kinds == ["draining", "held", "mta_down", "draining"]


def test_rates_leave_out_the_time_nothing_was_sent_and_name_the_best_five_minutes() -> None:
    points = tuple(
        Point(at=NOW_S + 60 * minute, entries=10, recipients=10, settled_recipients=settled, transactions=minute)
        for minute, settled in enumerate([0, 0, 0, 0, 0, 0, 600, 1200, 1800, 2400, 3000, 3060, 3120])
    )
    changes = burning().changes
    paused = changes[0].model_copy(update={"at": NOW_S, "state": "paused"})
    on = changes[0].model_copy(update={"at": NOW_S + 300, "state": "draining"})
    present = Inventory(snapshot=moment(at=NOW_S + 720))
    history = BurnDown(points=points, changes=(paused, on))
    rates = make_incident(Account(), present, history, version="1", now_s=NOW_S + 720, live=True).rates
    assert rates.still_s == 300
    assert (rates.mean_recipients_per_s, rates.sending_recipients_per_s) == (3120 / 720, 3120 / 420)
    assert (rates.sustained_recipients_per_s, rates.sustained_over_s) == (10.0, 300.0)


def test_waiting_for_a_cap_or_a_window_is_time_in_which_nothing_was_sent_and_is_named() -> None:
    """The cap lets some go every other minute: far more changes than are kept."""

    def at(second: int) -> Snapshot:
        if second < 600:
            return moment(at=NOW_S + second, state="paused", done=Done())
        waits_for = "window" if second < 4200 else "hourly_cap" if second % 240 < 120 else ""
        return moment(at=NOW_S + second, rate=Rate(waits_for=waits_for), done=Done(delivered_recipients=second // 10))

    history = BurnDown()
    for second in range(0, 36_001, 60):
        history = observed(history, at(second))
    history = resumed(history, NOW_S + 36_100)
    history = observed(history, moment(at=NOW_S + 36_100, done=Done(delivered_recipients=3600)))
    made = make_incident(
        Account(), Inventory(snapshot=moment(at=NOW_S + 36_100)), history, version="1", now_s=NOW_S + 36_100, live=True
    )
    assert made.rates.still_by == {"hourly_cap": 15_840, "window": 3600, "paused": 600, "not_running": 100}
    assert made.rates.still_s == 15_840 + 3600 + 600 + 100
    assert (
        "without the 5 h 36 min in which nothing was sent (hourly cap 4 h 24 min, no open window 1 h 00 min"
        in " ".join(speed(made))
    )


def test_record_of_a_version_without_sums_goes_on_with_them() -> None:
    paused = [moment(at=NOW_S + second, state="paused", since=NOW_S) for second in range(0, 301, 10)]
    history = BurnDown()
    for snapshot in paused:
        history = observed(history, snapshot)
    old = history.model_copy(
        update={
            "points": tuple(point.model_copy(update={"stood_still": None}) for point in history.points),
            "stands_still": "",
        }
    )
    for second in range(310, 601, 10):
        old = observed(old, moment(at=NOW_S + second, since=NOW_S + 310, rate=Rate(waits_for="daily_cap")))
    present = Inventory(snapshot=moment(at=NOW_S + 600))
    rates = make_incident(Account(), present, old, version="1", now_s=NOW_S + 600, live=True).rates
    assert rates.still_by == {"paused": 310, "daily_cap": 290}


def test_drain_is_through_when_the_backlog_became_empty_for_good() -> None:
    def points(*entries: int) -> BurnDown:
        return BurnDown(points=tuple(Point(at=NOW_S + at, entries=e, recipients=e) for at, e in enumerate(entries)))

    def ends(history: BurnDown) -> tuple[float | None, float | None]:
        made = make_incident(Account(), None, history, version="1", now_s=NOW_S + 9, live=False)
        return made.began, made.ended

    assert ends(points(5, 0, 3, 0, 0)) == (NOW_S, NOW_S + 3)
    assert ends(points(5, 4)) == (NOW_S, None)
    assert ends(points(0, 0)) == (None, None)


def test_drain_of_days_keeps_its_beginning_and_everyday_mail_has_none() -> None:
    days = 3 * 86400
    history = BurnDown()
    for at in range(0, days, 600):
        history = observed(history, moment(at=NOW_S + at, backlog=Backlog(entries=9, recipients=90)))
    assert history.points[0].at > NOW_S
    made = make_incident(Account(), None, history, version="1", now_s=NOW_S + days, live=True)
    assert (made.began, made.ended) == (NOW_S, None)
    everyday = BurnDown()
    for at in range(0, days, 600):
        left = Backlog(entries=1, recipients=4) if at % 1800 else Backlog()
        everyday = observed(everyday, moment(at=NOW_S + at, backlog=left))
    made = make_incident(Account(), None, everyday, version="1", now_s=NOW_S + days, live=True)
    assert made.began == everyday.points[0].at > NOW_S


def test_report_says_what_its_figures_begin_with_and_how_to_leave_an_earlier_drain_out() -> None:
    def begins(since_s: float | None, ledger_s: float, baselines: tuple[float, ...] = ()) -> str:
        found = Account(totals=Totals(ledger_s), baselines=baselines)
        made = make_incident(found, None, burning(), version="1", now_s=NOW_S, live=True, since_s=since_s)
        return " ".join(provenance(made, UTC))

    began_s = burning().points[0].at
    assert "counted since the ledger began, 2026-03-03 10:06:40 UTC." in begins(None, began_s)
    assert "--since" not in begins(None, began_s - 9999, (began_s + 1,))
    hint = '`drainer report --since "2026-03-03 10:06:40"` leaves it out.'
    assert hint in begins(None, began_s - 9999, (began_s - 60,))
    assert "counted since 2026-03-03 10:05:40 UTC, the last count recorded before" in begins(began_s, began_s - 60)
    assert "later than the 2026-03-03 10:05:40 UTC asked for" in begins(began_s - 60, began_s)


def test_report_since_a_time_in_the_drain_has_its_burn_down_and_rates_from_then() -> None:
    whole = make_incident(Account(), None, burning(), version="1", now_s=NOW_S, live=True)
    since_s = NOW_S - 1200.0
    part = make_incident(
        Account(totals=Totals(since_s)), None, burning(), version="1", now_s=NOW_S, live=True, since_s=since_s
    )
    assert (part.began, part.history.points[0].at) == (whole.began, since_s)
    assert part.rates.lasted_s == 1200
    assert part.rates.still_s == 0 and whole.rates.still_s == 600
    assert part.found.most_recipients is not None and whole.found.most_recipients == 60000 > part.found.most_recipients


def test_what_cannot_be_known_without_the_service_is_said() -> None:
    def unknown(present: Inventory | None) -> list[str]:
        return make_incident(
            Account(totals=Totals(1.0)), present, BurnDown(), version="1", now_s=NOW_S, live=False
        ).unknown

    assert unknown(None) == [NOT_ASKED, NOTHING_KEPT]
    assert unknown(Inventory(snapshot=moment())) == [NOT_ASKED]
    # A kill: the ledger's counters are newer than the last snapshot that was kept.
    counts = {name: number for name, number in moment().done if name.endswith("_entries")}
    counts["delivered_entries"] += 12
    later = Account(totals=Totals(1.0, counts))
    made = make_incident(later, Inventory(snapshot=moment()), BurnDown(), version="1", now_s=NOW_S, live=False)
    assert "12 entries finished after that moment are counted twice under what was found" in made.unknown[1]


def test_entry_held_as_a_resend_counts_as_one_after_a_restart_too() -> None:
    waiting = [Waiting(list="choir", kind="none", entries=3, recipients=12, bytes=2000)]
    held = [Line(entry="1+a", list="choir", reason="resend: 4 recipients", duplicate="none")]
    present = Inventory(snapshot=moment(backlog=Backlog(held_entries=1)), waiting=known_resends(waiting, held))
    found = make_incident(Account(), present, BurnDown(), version="1", now_s=NOW_S, live=True).found
    assert [(one.kind, one.entries, one.recipients) for one in found.by_class] == [("none", 2, 8), ("resend", 1, 4)]
    assert (found.entries, found.recipients, found.bytes) == (3, 12, 2000)
