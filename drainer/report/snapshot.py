"""All we say of ourselves at one moment. The JSON of `drainer status --json`; names are public, fields only ever added.

Pure  values only; seconds and counts, null where nothing true can be said yet
"""

from __future__ import annotations

from typing import Literal

from drainer.estimate.eta import Eta, ServiceState
from drainer.guards.mailman import Mailman
from drainer.guards.verdict import Guard
from drainer.ledger.records import Totals
from drainer.text.clean_model import CleanModel

SilentState = Literal["not_running", "not_answering"]
"""A service that was not asked, since it does not run or does not answer: what is said comes from ledger and custody."""
MtaWord = Literal["up", "down", "unknown"]


class WithoutService(CleanModel):
    """Why an answer comes from ledger and custody, and as of when. Seconds since the epoch.

    since   not_running: when the service ended, or was last heard of; not_answering: when it was asked
    as_of   when the ledger was last written; entries in custody are as they lay there when asked
    recorded_at, recorded_recipients  when the service last wrote down how many recipients were left, and how many; null
            if it never did
    """

    state: SilentState
    reason: str = ""
    since: float
    as_of: float
    recorded_at: float | None = None
    recorded_recipients: int | None = None


class Backlog(CleanModel):
    """Not finished yet. `recipients` counts entries read so far; `unread_entries` are in `entries`, theirs are not in it.

    Expected duplicates are part of `entries` and `recipients`; held entries are counted by `held_entries` alone.
    `dsns_owed` are bounces for recipients that failed, not sent yet. `next_due_s`: when the next deferred entry may go,
    seconds since the epoch.
    """

    entries: int = 0
    recipients: int = 0
    bytes: int = 0
    oldest_age_s: float | None = None
    deferred_recipients: int = 0
    in_doubt_recipients: int = 0
    held_entries: int = 0
    unread_entries: int = 0
    duplicate_entries: int = 0
    duplicate_recipients: int = 0
    dsns_owed: int = 0
    next_due_s: float | None = None


class Done(CleanModel):
    """bounced_recipients: without undone_recipients, whom an MTA refused that was put right, and who were tried again.
    dropped_entries: without undropped_entries, which `drainer undo` brought back."""

    delivered_entries: int = 0
    delivered_recipients: int = 0
    suppressed_entries: int = 0
    suppressed_recipients: int = 0
    bounced_recipients: int = 0
    undone_recipients: int = 0
    dropped_entries: int = 0
    undropped_entries: int = 0
    unreadable_entries: int = 0
    transactions: int = 0
    dsns_sent: int = 0
    dsns_dropped: int = 0
    since: float | None = None


def done_of(totals: Totals) -> Done:
    """The ledger's counters, all of them or since a mark: by then refusals of before it may have been undone."""
    counts = {name: totals.get(name) for name in Done.model_fields if name != "since"}
    counts["bounced_recipients"] = max(0, counts["bounced_recipients"] - counts["undone_recipients"])
    counts["dropped_entries"] = max(0, counts["dropped_entries"] - counts["undropped_entries"])
    return Done(**counts, since=totals.since_s or None)


class Rate(CleanModel):
    """Per second. A limit of null is unlimited. `binding` names what holds the rate down now."""

    limit_messages_per_s: float | None = None
    limit_recipients_per_s: float | None = None
    messages_per_s: float | None = None
    recipients_per_s: float | None = None
    arrivals_recipients_per_s: float | None = None
    binding: str = ""


class Mta(CleanModel):
    """state: up, down or unknown (no session was tried yet). recipient_limit: the most recipients it takes in one
    transaction, as far as it has refused more; 0: not known."""

    host: str
    port: int
    state: MtaWord = "unknown"
    reason: str = ""
    sessions: int = 0
    next_try_s: float | None = None
    recipient_limit: int = 0


class ListBacklog(CleanModel):
    """finish, seconds, low_s, high_s: when this list is through, as in Eta; null where that cannot be said."""

    list: str
    entries: int
    recipients: int
    oldest_age_s: float | None = None
    paused: bool = False
    finish: float | None = None
    seconds: float | None = None
    low_s: float | None = None
    high_s: float | None = None


class PauseInForce(CleanModel):
    """list "": everything. since, until: seconds since the epoch; until null: until resumed."""

    list: str
    by: str
    reason: str = ""
    since: float
    until: float | None = None


class Stop(CleanModel):
    """Why feeding stands still: paused, guard, ledger (it cannot commit), refusals (the MTA refuses everybody)."""

    name: str
    reason: str = ""


class SideFailure(CleanModel):
    """A task beside the drain that failed since the service started, for example `notify`; delivery goes on. at: when last,
    seconds since the epoch."""

    task: str
    failures: int
    at: float
    detail: str = ""


class ForecastHorizon(CleanModel):
    """Forecasts made when really no more than `up_to_s` was left (and more than the horizon before); null: all beyond."""

    up_to_s: float | None
    judged: int
    held: int
    median_error_s: float | None


class Forecasts(CleanModel):
    """How good our own forecasts of this drain were, or of the last one. Of those `made`, `judged` can be compared with what
    came, and `held` of them had it in their interval; `overtaken`: by what, how many; `open`: not known yet."""

    made: int = 0
    judged: int = 0
    held: int = 0
    open: int = 0
    overtaken: dict[str, int] = {}
    median_error_s: float | None = None
    median_relative_error: float | None = None
    by_horizon: list[ForecastHorizon] = []
    since: float | None = None


class Snapshot(CleanModel):
    """`at` is when it was taken. `since` is when `state` began; both in seconds since the epoch.

    if_resumed: while paused, the estimate if everything went on now.
    without_service: null from the service; else why it was not asked. Then `pid` is 0, or that of the service that does
    not answer, `rate` is the last that was recorded, and guards and the MTA were not looked at.
    needs_restart: names of settings that were changed, read again, and are not in force before a restart.
    """

    version: str
    at: float
    pid: int
    state: ServiceState | SilentState
    reason: str = ""
    since: float
    backlog: Backlog = Backlog()
    done: Done = Done()
    rate: Rate = Rate()
    eta: Eta
    if_resumed: Eta | None = None
    guards: list[Guard] = []
    mta: Mta
    mailman: Mailman = Mailman()
    lists: list[ListBacklog] = []
    pauses: list[PauseInForce] = []
    stops: list[Stop] = []
    side_failures: list[SideFailure] = []
    forecasts: Forecasts = Forecasts()
    without_service: WithoutService | None = None
    needs_restart: list[str] = []
