"""The snapshot as Prometheus reads it: GET /metrics of the control socket and of the web listener.

In    a Snapshot
Out   the text format 0.0.4: every figure of `drainer status --json`, with a name drainer_..., in base units
Pure  no registry, no clock; only the text writer of prometheus_client is used

A value that is null in the JSON has no sample here; a limit of null is +Inf. A word is a series for each possible word, with
1 for the present one. The _total counters come from the ledger: they survive the process and fall only with a new ledger.
Labels are bounded: LISTS_SHOWN lists, and the sum of the others as list="other".
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import get_args

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from drainer.estimate.eta import EtaState, ServiceState
from drainer.feed.binding import KINDS, kind_of
from drainer.guards.verdict import Guard, Verdict
from drainer.report.snapshot import DomainStanding, ListBacklog, MtaWord, Snapshot
from drainer.text.wording import shown

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

LISTS_SHOWN = 50
"""At most this many series for each figure of lists: 10,000 lists would be too many for a Prometheus."""

DOMAINS_SHOWN = 30
"""Likewise of recipient domains."""

OTHER = "other"

FILESYSTEMS = ("ledger", "state", "mta_spool", "queue")
PRESSURES = ("memory", "io", "cpu")
STOPS = ("paused", "guard", "ledger", "refusals")
"""Causes for which feeding stands still (feed/gate.py)."""


def exposition(snapshot: Snapshot) -> bytes:
    """The snapshot in the text format 0.0.4, to be served as CONTENT_TYPE.

    Source  https://prometheus.io/docs/instrumenting/exposition_formats/, https://prometheus.io/docs/practices/naming/
    """
    return generate_latest(_OneSnapshot(snapshot))


class _OneSnapshot(Collector):
    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        snapshot = self._snapshot
        yield from _service(snapshot)
        yield from _backlog(snapshot)
        yield from _done(snapshot)
        yield from _rate(snapshot)
        yield from _eta(snapshot)
        yield from _guards(snapshot.guards)
        yield from _surroundings(snapshot)
        yield from _lists(snapshot.lists)
        yield from _domains(snapshot.domains)


def _service(snapshot: Snapshot) -> Iterator[Metric]:
    build = {"version": snapshot.version, "flavour": snapshot.mailman.flavour}
    yield _gauge(
        "drainer_build_info", "Version of drainer, and flavour of the Mailman whose queue it drains.", [(build, 1)]
    )
    yield _one_of("drainer_state", "What the service is doing.", "state", get_args(ServiceState), snapshot.state)
    yield _gauge("drainer_state_since_timestamp_seconds", "When that state began.", snapshot.since)
    yield _gauge("drainer_snapshot_timestamp_seconds", "When these figures were taken.", snapshot.at)
    failures = CounterMetricFamily(
        "drainer_side_task_failures",
        "Failures of tasks beside the drain (record, notify, ...) since the service started; delivery goes on.",
        labels=["task"],
    )
    for failed in snapshot.side_failures:
        failures.add_metric([failed.task], failed.failures)
    yield failures
    stopped = {stop.name for stop in snapshot.stops}
    yield _gauge(
        "drainer_feeding_stopped",
        "Whether feeding stands still for this cause; several causes can hold at once.",
        [({"cause": cause}, cause in stopped) for cause in STOPS],
    )
    yield _gauge("drainer_pauses", "Pauses by operators in force, of everything or of one list.", len(snapshot.pauses))


def _backlog(snapshot: Snapshot) -> Iterator[Metric]:
    backlog = snapshot.backlog
    yield from _gauges(
        "drainer_",
        ("backlog_entries", "Entries not finished, expected duplicates included, held ones not.", backlog.entries),
        ("backlog_recipients", "Recipients of the entries read so far.", backlog.recipients),
        ("backlog_bytes", "Size of the files of these entries.", backlog.bytes),
        ("backlog_oldest_age_seconds", "Age of the oldest of these entries.", backlog.oldest_age_s),
        ("backlog_deferred_recipients", "Recipients that wait for another attempt.", backlog.deferred_recipients),
        ("backlog_unread_entries", "Entries not read yet: their recipients are not counted.", backlog.unread_entries),
        ("backlog_duplicate_entries", "Entries expected to be suppressed as duplicates.", backlog.duplicate_entries),
        ("backlog_duplicate_recipients", "Recipients expected to be suppressed.", backlog.duplicate_recipients),
        (
            "backlog_not_served_recipients",
            "Recipients that feed.only and feed.not leave out.",
            backlog.not_served_recipients,
        ),
        (
            "in_doubt_recipients",
            "Recipients that may have the mail: the last reply was lost.",
            backlog.in_doubt_recipients,
        ),
        ("held_entries", "Entries held for a person.", backlog.held_entries),
        ("dsns_owed", "DSNs not sent yet, those in doubt included.", backlog.dsns_owed),
    )


def _done(snapshot: Snapshot) -> Iterator[Metric]:
    done = snapshot.done
    for name, meaning, value in (
        ("delivered_entries", "Entries finished by delivery.", done.delivered_entries),
        ("delivered_recipients", "Recipients the MTA took.", done.delivered_recipients),
        ("suppressed_entries", "Entries not delivered because every recipient had the mail.", done.suppressed_entries),
        ("suppressed_recipients", "Recipients not delivered to because they had the mail.", done.suppressed_recipients),
        ("bounced_recipients", "Recipients refused for good.", done.bounced_recipients + done.undone_recipients),
        (
            "undone_recipients",
            "Bounced recipients that were tried again after the MTA that refused them was repaired.",
            done.undone_recipients,
        ),
        ("dsns_sent", "DSNs the MTA took.", done.dsns_sent),
        (
            "dsns_dropped",
            "DSNs given up: refused, in doubt, or for refusals by an MTA that refused every recipient.",
            done.dsns_dropped,
        ),
        ("dropped_entries", "Entries an operator dropped.", done.dropped_entries + done.undropped_entries),
        ("undropped_entries", "Entries that were dropped and brought back.", done.undropped_entries),
        ("unreadable_entries", "Entries moved to Mailman's bad queue.", done.unreadable_entries),
        ("transactions", "SMTP transactions whose content was sent.", done.transactions),
    ):
        yield CounterMetricFamily(f"drainer_{name}", meaning, value=value)
    yield _gauge("drainer_drain_start_timestamp_seconds", "When the counters began.", done.since)


def _rate(snapshot: Snapshot) -> Iterator[Metric]:
    rate = snapshot.rate
    yield from _gauges(
        "drainer_",
        ("limit_messages_per_second", "Limit on transactions; +Inf: none.", _unlimited(rate.limit_messages_per_s)),
        ("limit_recipients_per_second", "Limit on recipients; +Inf: none.", _unlimited(rate.limit_recipients_per_s)),
        ("service_messages_per_second", "Transactions, smoothed.", rate.messages_per_s),
        ("service_recipients_per_second", "Recipients settled, smoothed.", rate.recipients_per_s),
        ("arrival_recipients_per_second", "Recipients of new entries, smoothed.", rate.arrivals_recipients_per_s),
    )
    yield _one_of("drainer_rate_bound_by", "What limits the rate now.", "limit", KINDS, kind_of(rate.binding))
    yield _gauge("drainer_rate_bound_since_timestamp_seconds", "Since when it does.", rate.binding_since)
    for name, meaning, of in (
        ("drainer_cap_recipients", "Most recipients within any hour, or any day.", "limit"),
        ("drainer_cap_used_recipients", "Recipients that count against the cap now.", "used"),
        ("drainer_cap_next_timestamp_seconds", "When a cap that is reached lets the next recipient go.", "next_at"),
    ):
        yield _gauge(name, meaning, [({"cap": cap.name}, getattr(cap, of)) for cap in rate.caps])


def _eta(snapshot: Snapshot) -> Iterator[Metric]:
    eta = snapshot.eta
    yield _one_of("drainer_eta_state", "Kind of the forecast.", "state", get_args(EtaState), eta.state)
    yield from _gauges(
        "drainer_eta_",
        ("finish_timestamp_seconds", "When the backlog is expected to be drained.", eta.finish),
        ("seconds", "Time until then.", eta.seconds),
        ("low_seconds", "Lower bound of the interval.", eta.low_s),
        ("high_seconds", "Upper bound of the interval.", eta.high_s),
        ("confidence_ratio", "Share of the cases in which the interval holds the real end.", eta.confidence),
    )


def _guards(guards: Sequence[Guard]) -> Iterator[Metric]:
    verdicts: tuple[Verdict, ...] = get_args(Verdict)
    yield _gauge(
        "drainer_guard_verdict",
        "Verdict of each guard.",
        [
            ({"guard": guard.name, "verdict": verdict}, guard.verdict == verdict)
            for guard in guards
            for verdict in verdicts
        ],
    )
    by_name = {guard.name: guard for guard in guards}
    for unit in ("bytes", "inodes"):
        places = [(where, by_name.get(f"{where}_{unit}")) for where in FILESYSTEMS]
        measured = [({"filesystem": where}, guard) for where, guard in places if guard]
        yield _gauge(
            f"drainer_filesystem_free_{unit}",
            f"{unit.capitalize()} free for users other than root, on the filesystems of ledger, state_dir, MTA and queue.",
            [(label, guard.value) for label, guard in measured],
        )
        yield _gauge(
            f"drainer_filesystem_free_limit_{unit}",
            f"{unit.capitalize()} below which feeding stops (of the queue: below which there is a warning).",
            [(label, guard.limit) for label, guard in measured],
        )
    yield _gauge(
        "drainer_pressure_percent",
        "Share of the last 10 s in which tasks waited for memory or a processor, or all of them for a disk.",
        [
            ({"resource": resource}, guard.value)
            for resource in PRESSURES
            if (guard := by_name.get(f"{resource}_pressure")) and guard.value is not None
        ],
    )
    for guard_name, name, meaning in (
        ("load", "load1", "1-minute load of the machine"),
        ("mta_queue", "mta_queue_messages", "Messages in the MTA's own queue"),
    ):
        guard = by_name.get(guard_name, Guard(name=guard_name, verdict="go"))
        yield _gauge(f"drainer_{name}", f"{meaning}.", guard.value)
        yield _gauge(f"drainer_{name}_limit", f"{meaning} at which feeding slows or stops.", guard.limit)


def _surroundings(snapshot: Snapshot) -> Iterator[Metric]:
    mta, mailman = snapshot.mta, snapshot.mailman
    yield _one_of("drainer_mta_state", "State of the MTA.", "state", get_args(MtaWord), mta.state)
    yield _gauge("drainer_mta_sessions", "SMTP sessions open.", mta.sessions)
    yield _gauge("drainer_mta_sessions_allowed", "Most SMTP sessions that may be open now.", mta.sessions_allowed)
    yield _gauge("drainer_mta_reply_seconds", "Time from final dot to reply, median of a second.", mta.final_dot_s)
    yield _gauge("drainer_mta_unloaded_reply_seconds", "That time while the MTA has little to do.", mta.unloaded_s)
    yield _gauge("drainer_mta_next_try_timestamp_seconds", "When an MTA that is down is tried again.", mta.next_try_s)
    for what, limit in (("recipients_per_transaction", mta.recipient_limit), ("mails_per_session", mta.session_limit)):
        yield _gauge(f"drainer_mta_{what}_limit", "The most that the MTA takes, as learnt; 0: not known.", limit)
    yield _gauge("drainer_mailman_master_running", "Whether Mailman's master process lives.", mailman.master_running)
    yield _gauge(
        "drainer_mailman_runners",
        "Processes of each runner of Mailman that are alive.",
        _added_up(({"runner": runner.name}, 1) for runner in mailman.runners),
    )
    yield _gauge(
        "drainer_mailman_runner_missing",
        "1 for each runner that a started Mailman has and this one has not.",
        [({"runner": name}, 1) for name in mailman.missing_runners],
    )
    yield _gauge(
        "drainer_mailman_outgoing_runner_competes",
        "Whether Mailman's outgoing runner delivers from the same queue.",
        mailman.outgoing_runner_competes,
    )
    yield CounterMetricFamily(
        "drainer_mailman_runner_taken_entries",
        "Entries that Mailman's outgoing runner was seen to take before us.",
        value=mailman.taken_by_runner_entries,
    )
    yield from _gauges(
        "drainer_mailman_",
        ("released_entries", "Entries handed over to Mailman's own runner to deliver.", mailman.released_entries),
        ("retrying_recipients", "Recipients of these entries that Mailman retries.", mailman.retrying_recipients),
    )
    queues = [({"queue": queue.name}, queue) for queue in mailman.queues]
    yield _gauge(
        "drainer_mailman_queue_entries",
        "Entries in each of Mailman's own queues.",
        [(label, queue.entries) for label, queue in queues],
    )
    yield _gauge(
        "drainer_mailman_queue_oldest_age_seconds",
        "Age of the oldest entry in each of Mailman's own queues.",
        [(label, queue.oldest_age_s) for label, queue in queues],
    )


def _lists(lists: Sequence[ListBacklog]) -> Iterator[Metric]:
    largest = sorted(lists, key=lambda one: (-one.recipients, -one.entries, one.list))
    named = [(one.list if place < LISTS_SHOWN else OTHER, one) for place, one in enumerate(largest)]
    more = f"the {LISTS_SHOWN} largest by name"
    yield _gauge(
        "drainer_list_backlog_entries",
        f"Entries of each list, {more}.",
        _added_up(({"list": name}, one.entries) for name, one in named),
    )
    yield _gauge(
        "drainer_list_backlog_recipients",
        f"Recipients of each list, {more}.",
        _added_up(({"list": name}, one.recipients) for name, one in named),
    )
    oldest: dict[str, float] = {}
    for name, one in named:
        if one.oldest_age_s is not None:
            oldest[shown(name)] = max(one.oldest_age_s, oldest.get(shown(name), 0.0))
    yield _gauge(
        "drainer_list_oldest_age_seconds",
        f"Age of the oldest entry of each list, {more}.",
        [({"list": name}, age_s) for name, age_s in oldest.items()],
    )


def _domains(domains: Sequence[DomainStanding]) -> Iterator[Metric]:
    most = domains[:DOMAINS_SHOWN]
    yield _gauge(
        "drainer_domain_limit_recipients_per_second",
        f"Ceiling of recipient domains that have one, {DOMAINS_SHOWN} at most; set_by: settings, operator or learnt.",
        [({"domain": one.domain, "set_by": one.set_by}, one.limit_recipients_per_s) for one in most],
    )
    yield _gauge(
        "drainer_domain_waiting_recipients",
        f"Recipients that wait here, of the {DOMAINS_SHOWN} domains with a ceiling or with most of them.",
        [({"domain": one.domain}, one.waiting_recipients) for one in most],
    )
    yield _gauge(
        "drainer_domain_queued_recipients",
        "Recipients of these domains behind the MTA.",
        [({"domain": one.domain}, one.queued) for one in most],
    )
    yield _gauge(
        "drainer_domain_deferred_recipients",
        "The part of those that was deferred already.",
        [({"domain": one.domain}, one.deferred) for one in most],
    )
    for name, meaning, of in (
        ("oldest_age_seconds", "Age of the oldest recipient of these domains behind the MTA.", "oldest_age_s"),
        (
            "arrival_recipients_per_second",
            "Recipients that come into the MTA's queue (last minute).",
            "arrivals_recipients_per_s",
        ),
        (
            "accepted_recipients_per_second",
            "Recipients that the provider takes (last minute).",
            "accepted_recipients_per_s",
        ),
        ("deferrals_per_second", "Deferrals by the provider or by the MTA itself (last minute).", "deferrals_per_s"),
    ):
        samples = [({"domain": one.domain}, getattr(one, of)) for one in most]
        yield _gauge(f"drainer_domain_{name}", meaning, samples)


_Labels = Mapping[str, str]


def _gauge(name: str, meaning: str, value: float | Sequence[tuple[_Labels, float | None]] | None) -> GaugeMetricFamily:
    """A family with one sample, or one for each set of labels; None gives no sample."""
    family = GaugeMetricFamily(name, meaning)
    for labels, number in value if isinstance(value, Sequence) else [({}, value)]:
        if number is not None:
            family.add_sample(name, {label: shown(text) for label, text in labels.items()}, float(number))
    return family


def _gauges(prefix: str, *families: tuple[str, str, float | None]) -> Iterator[Metric]:
    """families  rest of the name, meaning, value"""
    for name, meaning, value in families:
        yield _gauge(prefix + name, meaning, value)


def _one_of(name: str, meaning: str, label: str, words: Iterable[str], holds: str) -> GaugeMetricFamily:
    return _gauge(name, f"{meaning} 1 for the present one.", [({label: word}, word == holds) for word in words])


def _added_up(samples: Iterable[tuple[_Labels, float]]) -> list[tuple[_Labels, float]]:
    """Samples with equal labels are added up: Prometheus refuses a page that has a series twice."""
    sums: dict[tuple[tuple[str, str], ...], float] = {}
    for labels, number in samples:
        key = tuple((label, shown(text)) for label, text in labels.items())
        sums[key] = sums.get(key, 0.0) + number
    return [(dict(key), number) for key, number in sums.items()]


def _unlimited(per_s: float | None) -> float:
    return math.inf if per_s is None else per_s
