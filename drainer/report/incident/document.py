"""The incident report as values: what was found, what became of it, who did what, how fast, and the forecasts' worth.

Out   Incident: the JSON of `drainer report --format json`, and what its Markdown and HTML are made of
Pure  values only; names are public, fields only ever added
Not here  where the values are from (facts.py), how they are said (summary.py, sections.py)

Every number is the ledger's or the index's own, so it is that of `drainer status`; a list that is cut says how long it is.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from drainer.estimate.accuracy import ForecastAccuracy
from drainer.report.burn_down import BurnDown
from drainer.report.inventory import HeldEntry
from drainer.report.snapshot import Backlog, Done, Snapshot
from drainer.text.clean_model import CleanModel

LINES = 200
"""Lines of each list shown at most."""

T = TypeVar("T")


class Listed(CleanModel, Generic[T]):
    """`lines` holds the first of `total`."""

    total: int = 0
    lines: list[T] = []


class Moment(CleanModel):
    """kind: "state", "run", "notice", "operator" or "service"; `by` whom an operator's action was."""

    at: float
    kind: str
    what: str
    detail: str = ""
    by: str = ""


class ListFound(CleanModel):
    """Of one list: entries and recipients there were in all, how its entries ended, and how many are here, held ones too."""

    list: str
    entries: int = 0
    recipients: int = 0
    bytes: int = 0
    delivered: int = 0
    suppressed: int = 0
    settled: int = 0
    dropped: int = 0
    unreadable: int = 0
    handed_back: int = 0
    waiting: int = 0


class ClassFound(CleanModel):
    kind: str
    entries: int
    recipients: int


class Found(CleanModel):
    """What came into custody since then: what ended and what is here. most_: the largest backlog seen."""

    entries: int = 0
    recipients: int = 0
    bytes: int = 0
    most_entries: int | None = None
    most_recipients: int | None = None
    by_list: list[ListFound] = []
    by_class: list[ClassFound] = []


class Suppressed(CleanModel):
    """`recipients` of `entry` had the mail already by the entry `of`, at `of_at`; kind: class of duplicate."""

    entry: str
    list: str
    message_id: str
    recipients: int
    of: str
    of_at: float
    at: float
    kind: str


class Bounced(CleanModel):
    """dsn: sent, dropped, owed, before (it told of another copy), or none (null reverse-path, or feed.dsn off)."""

    recipient: str
    list: str
    message_id: str
    entry: str
    reply: str
    at: float
    dsn: str


class Doubt(CleanModel):
    """outcome: delivered, resent, held, or open while it is not resolved."""

    entry: str
    list: str
    message_id: str
    recipients: tuple[str, ...]
    at: float
    outcome: str
    why: str = ""


class SetAside(CleanModel):
    """Unreadable or dropped."""

    entry: str
    list: str = ""
    message_id: str = ""
    recipients: int = 0
    at: float
    why: str = ""


class Action(CleanModel):
    at: float
    by: str
    action: str
    detail: str


class Limits(CleanModel):
    """From `at` on no more than that per second; null: unlimited."""

    at: float
    messages_per_s: float | None
    recipients_per_s: float | None


class Rates(CleanModel):
    """Of recipients delivered or bounced. mean_: over the whole drain; sending_: without the times nothing was sent;
    sustained_: the best kept up over sustained_over_s. Null where too little is known."""

    lasted_s: float | None = None
    still_s: float = 0.0
    mean_recipients_per_s: float | None = None
    mean_messages_per_s: float | None = None
    sending_recipients_per_s: float | None = None
    sustained_recipients_per_s: float | None = None
    sustained_over_s: float | None = None
    limits: list[Limits] = []


class Dsns(CleanModel):
    sent: int = 0
    dropped: int = 0
    owed: int = 0


class Incident(CleanModel):
    """as_of: the moment the figures are of; at: when the report was made. began, ended: of the burn-down; ended null: not
    yet. unknown: what cannot be said, since the service is not there to ask.

    since: from when on it was counted; the ledger's beginning, or with asked_since (drainer report --since) the last mark
    before that. counts_earlier: the figures hold mail from before `began` too. doubts_ended: outcome to deliveries."""

    version: str
    at: float
    as_of: float
    live: bool
    unknown: list[str] = []
    since: float
    asked_since: float | None = None
    counts_earlier: bool = False
    began: float | None = None
    ended: float | None = None
    state: str
    reason: str = ""
    found: Found = Found()
    done: Done = Done()
    backlog: Backlog = Backlog()
    timeline: Listed[Moment] = Listed()
    suppressed: Listed[Suppressed] = Listed()
    held: Listed[HeldEntry] = Listed()
    bounced: Listed[Bounced] = Listed()
    dsns: Dsns = Dsns()
    doubts: Listed[Doubt] = Listed()
    doubts_ended: dict[str, int] = {}
    unreadable: Listed[SetAside] = Listed()
    dropped: Listed[SetAside] = Listed()
    actions: Listed[Action] = Listed()
    rates: Rates = Rates()
    forecasts: ForecastAccuracy = ForecastAccuracy()
    history: BurnDown = BurnDown()
    present: Snapshot | None = None
