"""The snapshot: everything that is shown of the service, at one moment.

Out   the JSON of `drainer status --json`; names are public, fields are only ever added
Pure  values only; seconds and counts, null where a value is not known yet

Parts that another package makes lie there: Eta and ForecastAccuracy in estimate/, Guard and Mailman in guards/. The others
are made for the snapshot alone, by observe/situation.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from drainer.estimate.accuracy import ForecastAccuracy
from drainer.estimate.eta import Eta, ServiceState
from drainer.guards.mailman import Mailman
from drainer.guards.verdict import Guard
from drainer.text.clean_model import CleanModel

if TYPE_CHECKING:
    from drainer.ledger.records import Totals

SilentState = Literal["not_running", "not_answering"]
"""The service does not run or does not answer, so the figures come from the ledger and the custody."""
MtaWord = Literal["up", "down", "unknown"]


class WithoutService(CleanModel):
    """Why the figures come from the ledger and the custody, and of which moment they are. Times are seconds since the epoch.

    since   not_running: when the service ended, or the last sign of it; not_answering: when it was asked
    as_of   when the ledger was last written; entries in custody are those of now
    recorded_at, recorded_recipients  when the service last recorded the recipients left, and their number; null: never
    """

    state: SilentState
    reason: str = ""
    since: float
    as_of: float
    recorded_at: float | None = None
    recorded_recipients: int | None = None


class Backlog(CleanModel):
    """What is not finished yet.

    entries            expected duplicates included, held ones not
    recipients         of the entries read so far
    unread_entries     part of `entries`; their recipients are not counted
    held_entries       in held/
    duplicate_entries, duplicate_recipients  expected to be suppressed; part of `entries` and `recipients`
    dsns_owed          bounces for recipients that failed, not sent yet
    next_due_s         when the next deferred entry may go, seconds since the epoch
    not_served_recipients  part of `recipients`, on lists or in domains that feed.only and feed.not leave out
    not_served         which these are, and by which setting; "" if everything is served
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
    not_served_recipients: int = 0
    not_served: str = ""


class Done(CleanModel):
    """What is finished.

    bounced_recipients  without undone_recipients
    undone_recipients   refused by an MTA whose fault it was; they were tried again after the MTA was repaired
    dropped_entries     without undropped_entries, which `drainer undo` brought back
    """

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
    """From the ledger's counters, of all time or since a moment. Earlier refusals may be undone since then: hence max()."""
    counts = {name: totals.get(name) for name in Done.model_fields if name != "since"}
    counts["bounced_recipients"] = max(0, counts["bounced_recipients"] - counts["undone_recipients"])
    counts["dropped_entries"] = max(0, counts["dropped_entries"] - counts["undropped_entries"])
    return Done(**counts, since=totals.since_s or None)


class WindowInForce(CleanModel):
    """What `feed.windows` says of this moment.

    name                 as in the settings, without its rate; "": no window covers the moment, feed.messages stands
    messages_per_s       while it is in force; null: unlimited; 0: nothing is sent
    until                when another window, or none, is in force, seconds since the epoch; null: never
    then_messages_per_s  the limit from then on
    overruled            the operator's limit stands instead (`drainer rate`)
    """

    name: str
    messages_per_s: float | None = None
    until: float | None = None
    then_messages_per_s: float | None = None
    overruled: bool = False
    text: str = ""


class CapUsed(CleanModel):
    """A cap on recipients within any hour ("hourly") or day ("daily"). next_at: when the next recipient may go, seconds
    since the epoch; null: now, or as soon as one that is being sent to is not, after all."""

    name: str
    limit: int
    used: int
    next_at: float | None = None
    text: str = ""


class Rate(CleanModel):
    """Per second. A limit of null is unlimited. `binding` names what limits the rate now, with its cause; `binding_since`:
    seconds since the epoch. window: null without feed.windows. waits_for: "window", "hourly_cap" or "daily_cap", while that
    alone lets nothing go; else ""."""

    limit_messages_per_s: float | None = None
    limit_recipients_per_s: float | None = None
    messages_per_s: float | None = None
    recipients_per_s: float | None = None
    arrivals_recipients_per_s: float | None = None
    binding: str = ""
    window: WindowInForce | None = None
    caps: list[CapUsed] = []
    binding_since: float | None = None
    waits_for: str = ""


class Mta(CleanModel):
    """state: up, down, or unknown before the first session. recipient_limit: the most recipients that the MTA takes in one
    transaction, session_limit: the most transactions in one session; learnt from its refusals, 0: not known.
    sessions_allowed: most that may be open now, and sessions_why, sessions_since: why no more, and since when. final_dot_s,
    unloaded_s: time from final dot to reply, now and when the MTA has little to do; null: not known."""

    host: str
    port: int
    state: MtaWord = "unknown"
    reason: str = ""
    sessions: int = 0
    next_try_s: float | None = None
    recipient_limit: int = 0
    sessions_allowed: int = 0
    sessions_why: str = ""
    sessions_since: float | None = None
    final_dot_s: float | None = None
    unloaded_s: float | None = None
    session_limit: int = 0


class ListBacklog(CleanModel):
    """finish, seconds, low_s, high_s: when this list is finished, as in Eta; null where that is not known.

    not_served  why the settings leave this list out; "" if they do not
    """

    list: str
    entries: int
    recipients: int
    oldest_age_s: float | None = None
    paused: bool = False
    not_served: str = ""
    finish: float | None = None
    seconds: float | None = None
    low_s: float | None = None
    high_s: float | None = None


NOT_SERVED = "not served"
"""In place of a domain's name: all domains that feed.only and feed.not leave out."""


class DomainStanding(CleanModel):
    """A recipient domain, or a group of domains that share a ceiling (feed.domain_groups).

    domain       in lower case; of a group its name, and `group` its domains; NOT_SERVED: those left out, `cause` names them
    limit_recipients_per_s  null: no ceiling; 0: held back. set_by: settings, operator or learnt; "" without a ceiling
    cause        the provider's reply that caused it, the operator's reason, or that nothing is known yet; by: the operator
    since, until seconds since the epoch; until null: it does not end by itself
    takes_recipients_per_s  what the provider took while it refused some; null: not measured
    banned       the provider refuses everybody, and is tried rarely
    queued       recipients behind the MTA; deferred: the part of them that was deferred; null: its queue is not read, or
                 does not say (Exim's says nothing of deferrals)
    oldest_age_s of the oldest of them; null: none, or not known
    arrivals_recipients_per_s, accepted_recipients_per_s, deferrals_per_s  what came into the MTA's queue, what the provider
                 took, and how often somebody was deferred, on average over the last minute; null: queue or log is not read
    deferral_reply  the last deferral's reply, or the most frequent reason in the queue; "" if nothing is deferred
    waiting_recipients  ours, as far as they are counted (docs/operating.md)
    not_in_force what was ordered or set for the name of a group that feed.domain_groups does not have: it limits nothing;
                 "": there is nothing of the kind
    """

    domain: str
    group: list[str] = []
    limit_recipients_per_s: float | None = None
    set_by: Literal["settings", "operator", "learnt", ""] = ""
    cause: str = ""
    by: str = ""
    since: float | None = None
    until: float | None = None
    takes_recipients_per_s: float | None = None
    banned: bool = False
    queued: int | None = None
    deferred: int | None = None
    waiting_recipients: int = 0
    oldest_age_s: float | None = None
    arrivals_recipients_per_s: float | None = None
    accepted_recipients_per_s: float | None = None
    deferrals_per_s: float | None = None
    deferral_reply: str = ""
    not_in_force: str = ""


class PauseInForce(CleanModel):
    """A pause. list "": of everything. since, until: seconds since the epoch; until null: until resumed."""

    list: str
    by: str
    reason: str = ""
    since: float
    until: float | None = None


class Stop(CleanModel):
    """Why feeding stands still: paused, guard, ledger (it cannot commit), refusals (the MTA refuses every recipient)."""

    name: str
    reason: str = ""


class SideFailure(CleanModel):
    """A task beside the drain, for example `notify`, that has failed since the service started; delivery goes on.

    at  the last failure, seconds since the epoch
    """

    task: str
    failures: int
    at: float
    detail: str = ""


class Snapshot(CleanModel):
    """The snapshot.

    at, since        when it was taken, and when `state` began; seconds since the epoch
    if_resumed       while paused: the estimate if everything were resumed now
    without_service  null: made by the service. Otherwise `pid` is 0, or that of the service that does not answer, `rate` is
                     the last one recorded, and the guards and the MTA were not asked
    domains          those with a ceiling, then those for which most waits
    needs_restart    names of settings that were changed and take effect only after a restart
    """

    version: str
    at: float
    pid: int
    state: ServiceState | SilentState
    reason: str = ""
    since: float
    backlog: Backlog = Field(default_factory=Backlog)
    done: Done = Field(default_factory=Done)
    rate: Rate = Field(default_factory=Rate)
    eta: Eta
    if_resumed: Eta | None = None
    guards: list[Guard] = []
    mta: Mta
    mailman: Mailman = Field(default_factory=Mailman)
    lists: list[ListBacklog] = []
    domains: list[DomainStanding] = []
    pauses: list[PauseInForce] = []
    stops: list[Stop] = []
    side_failures: list[SideFailure] = []
    forecasts: ForecastAccuracy = Field(default_factory=ForecastAccuracy)
    without_service: WithoutService | None = None
    needs_restart: list[str] = []
