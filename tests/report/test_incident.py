"""What the report makes of what was kept: nothing twice, nothing that cannot be known."""

from __future__ import annotations

from drainer.ledger.evidence import Account, Event
from drainer.ledger.records import Totals
from drainer.report.history import History, Point
from drainer.report.incident_facts import NOT_ASKED, NOTHING_KEPT, incident
from drainer.report.present import HeldEntry, Present, Waiting, known_resends
from drainer.report.snapshot import Backlog
from tests.report.staged import NOW_S, burning, moment


class Line(HeldEntry):
    """As the index lists it."""

    duplicate: str
    recipients: int | None = 4
    bytes: int = 900


def told(account: Account, present: Present | None = None, history: History | None = None) -> list[tuple[str, str]]:
    made = incident(account, present, history or History(), version="1", now_s=NOW_S, live=False)
    return [(line.what, line.detail) for line in made.timeline.lines]


def test_small_mail_that_comes_and_goes_is_one_line_and_trouble_in_between_keeps_its_own() -> None:
    flutter = [Event(NOW_S + at, "state", "idle" if at % 2 else "draining") for at in range(10)]
    down = Event(NOW_S + 10, "state", "mta_down", "connection refused")
    again = [Event(NOW_S + 1000 + at, "state", "idle" if at % 2 else "draining") for at in range(3)]
    found = told(Account(events=(*flutter, down, *again)))
    assert found == [
        ("idle", "after 10 changes between draining, idle"),
        ("mta_down", "connection refused"),
        ("draining", ""),
        ("idle", ""),
        ("draining", ""),
    ]


def test_rates_leave_out_the_time_nothing_was_sent_and_name_the_best_five_minutes() -> None:
    points = tuple(
        Point(at=NOW_S + 60 * minute, entries=10, recipients=10, settled_recipients=settled, transactions=minute)
        for minute, settled in enumerate([0, 0, 0, 0, 0, 0, 600, 1200, 1800, 2400, 3000, 3060, 3120])
    )
    changes = burning().changes
    paused = changes[0].model_copy(update={"at": NOW_S, "state": "paused"})
    on = changes[0].model_copy(update={"at": NOW_S + 300, "state": "draining"})
    present = Present(snapshot=moment(at=NOW_S + 720))
    history = History(points=points, changes=(paused, on))
    rates = incident(Account(), present, history, version="1", now_s=NOW_S + 720, live=True).rates
    assert rates.still_s == 300
    assert (rates.mean_recipients_per_s, rates.sending_recipients_per_s) == (3120 / 720, 3120 / 420)
    assert (rates.sustained_recipients_per_s, rates.sustained_over_s) == (10.0, 300.0)


def test_drain_is_through_when_the_backlog_became_empty_for_good() -> None:
    def points(*entries: int) -> History:
        return History(points=tuple(Point(at=NOW_S + at, entries=e, recipients=e) for at, e in enumerate(entries)))

    def ends(history: History) -> tuple[float | None, float | None]:
        made = incident(Account(), None, history, version="1", now_s=NOW_S + 9, live=False)
        return made.began, made.ended

    assert ends(points(5, 0, 3, 0, 0)) == (NOW_S, NOW_S + 3)
    assert ends(points(5, 4)) == (NOW_S, None)
    assert ends(points(0, 0)) == (None, None)


def test_what_cannot_be_known_without_the_service_is_said() -> None:
    def unknown(present: Present | None) -> list[str]:
        return incident(Account(totals=Totals(1.0)), present, History(), version="1", now_s=NOW_S, live=False).unknown

    assert unknown(None) == [NOT_ASKED, NOTHING_KEPT]
    assert unknown(Present(snapshot=moment())) == [NOT_ASKED]


def test_entry_held_as_a_resend_counts_as_one_after_a_restart_too() -> None:
    waiting = [Waiting(list="choir", kind="none", entries=3, recipients=12, bytes=2000)]
    held = [Line(entry="1+a", list="choir", reason="resend: 4 recipients", duplicate="none")]
    present = Present(snapshot=moment(backlog=Backlog(held_entries=1)), waiting=known_resends(waiting, held))
    found = incident(Account(), present, History(), version="1", now_s=NOW_S, live=True).found
    assert [(one.kind, one.entries, one.recipients) for one in found.by_class] == [("none", 2, 8), ("resend", 1, 4)]
    assert (found.entries, found.recipients, found.bytes) == (3, 12, 2000)
