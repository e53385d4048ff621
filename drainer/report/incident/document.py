"""The incident report as values: what was found, what became of it, who did what, how fast, and how good the forecasts were.

Out   Incident: the JSON of `drainer report --format json`; its Markdown and HTML are made from it
Pure  values only; names are public, fields are only ever added
Not here  where the values come from (facts.py), the words (summary.py, sections.py)

A list that is cut says how long it really is.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from drainer.estimate.accuracy import ForecastAccuracy
from drainer.report.burn_down import BurnDown
from drainer.report.inventory import HeldEntry
from drainer.report.snapshot import Backlog, Done, Snapshot
from drainer.text.clean_model import CleanModel

LINES = 200
"""Each list has at most this many lines."""

T = TypeVar("T")


class Listed(CleanModel, Generic[T]):
    """`lines` are the first of `total`."""

    total: int = 0
    lines: list[T] = []


class Moment(CleanModel):
    """kind: "state", "run", "notice", "operator" or "service". by: who acted, for kind "operator"."""

    at: float
    kind: str
    what: str
    detail: str = ""
    by: str = ""


class ListFound(CleanModel):
    """One list: all its entries and recipients, how the entries ended; `waiting` are here, held ones included."""

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
    """Everything that came into custody: what ended and what is here. most_: the largest backlog seen."""

    entries: int = 0
    recipients: int = 0
    bytes: int = 0
    most_entries: int | None = None
    most_recipients: int | None = None
    by_list: list[ListFound] = []
    by_class: list[ClassFound] = []


class Suppressed(CleanModel):
    """`recipients` of `entry` already had the mail from the entry `of`, since `of_at`. kind: class of duplicate."""

    entry: str
    list: str
    message_id: str
    recipients: int
    of: str
    of_at: float
    at: float
    kind: str


class Bounced(CleanModel):
    """dsn: sent, dropped, owed, before (a DSN reported another copy), or none (null reverse-path, or feed.dsn is off)."""

    recipient: str
    list: str
    message_id: str
    entry: str
    reply: str
    at: float
    dsn: str


class Doubt(CleanModel):
    """outcome: delivered, resent, held, or open if not resolved yet."""

    entry: str
    list: str
    message_id: str
    recipients: tuple[str, ...]
    at: float
    outcome: str
    why: str = ""


class SetAside(CleanModel):
    """An entry that is unreadable or was dropped."""

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
    """The limits per second from `at` on; null: unlimited."""

    at: float
    messages_per_s: float | None
    recipients_per_s: float | None


class Rates(CleanModel):
    """Rates of recipients delivered or bounced; null where too little is known.

    lasted_s, still_s  length of the drain; time of it in which nothing was sent
    still_by           that time by its causes: a state, "window", "hourly_cap" or "daily_cap"
    mean_...           over the whole drain
    sending_...        without the time in which nothing was sent
    sustained_...      the best rate over sustained_over_s
    """

    lasted_s: float | None = None
    still_s: float = 0.0
    still_by: dict[str, float] = {}
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
    """The whole report.

    at, as_of       when the report was made, and the moment of its figures
    live            made by the running service
    unknown         what is not known, because the service could not be asked
    since           where counting begins: the ledger's beginning, or the last mark before asked_since
    asked_since     the moment given by `drainer report --since`
    counts_earlier  the figures include mail from before `began`
    began, ended    of the burn-down; ended null: not yet
    doubts_ended    number of deliveries by outcome
    """

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
