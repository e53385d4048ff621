"""How recipient domains stand: what waits for each, here and behind the MTA, and the ceiling that holds it.

In    the pipeline's ceilings and lanes, the index's counts, the last look behind the MTA
Out   DomainStanding, for the snapshot and `drainer domain`
Not here  how they are shown (report/, cli/)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from drainer.destinations.ceilings import Ceiling
from drainer.destinations.limits import domains_of
from drainer.destinations.seen import DomainSeen
from drainer.destinations.traffic import Traffic
from drainer.pipeline import Pipeline
from drainer.report.snapshot import NOT_SERVED, DomainStanding
from drainer.text.wording import rate

SHOWN = 20
"""Destinations of a snapshot, beside those with a ceiling."""
MOST_LIMITED = 100
"""Destinations with a ceiling that a snapshot has at most."""


class Domains:
    """Asked for each snapshot: sums over the counted domains, no query."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    def largest(self, most: int = SHOWN) -> list[DomainStanding]:
        """Those with a ceiling first, then what is not in force, then those for which most waits."""
        waiting, behind = self._waiting(), self._behind()
        limited = self._limited()
        total = {name: waiting[name] + self._queued(behind.get(name)) for name in {*waiting, *behind, *limited}}
        by_size = sorted(total, key=lambda name: (-total[name], name))
        in_force = self._pipeline.domains.in_force
        first = [name for name in by_size if name in in_force or (name in limited and total[name])][:MOST_LIMITED]
        others = [name for name in by_size if name not in limited and total[name]][:most]
        nowhere = sorted(self._pipeline.domains.not_in_force.keys() - {*first, *others})[:MOST_LIMITED]
        shown = (*first, *nowhere, *others)
        return [self._standing(name, waiting[name], behind.get(name), limited.get(name)) for name in shown]

    def of(self, destination: str) -> DomainStanding:
        """One of them, whether or not anything is known of it."""
        waiting, behind = self._waiting()[destination], self._behind().get(destination)
        return self._standing(destination, waiting, behind, self._limited().get(destination))

    def _limited(self) -> Mapping[str, Ceiling]:
        """The ceilings in force by destination, what holds those on probation, and that of the domains not served."""
        domains = self._pipeline.domains
        left_out = domains.limits.served.otherwise
        unserved = {left_out: Ceiling(0.0, "settings", left_out)} if left_out else {}
        return {**domains.in_force, **domains.on_probation, **unserved}

    def _waiting(self) -> Counter[str]:
        resources, limits = self._pipeline.resources, self._pipeline.domains.limits
        with_resends = resources.settings.duplicates.resend == "deliver"
        found = Counter[str]()
        for domain, recipients in resources.index.totals.by_domain(with_resends).items():
            found[limits.of_domain(domain)] += recipients
        return found

    def _behind(self) -> dict[str, list[DomainSeen]]:
        seen, limits = self._pipeline.paces.seen, self._pipeline.domains.limits
        found: dict[str, list[DomainSeen]] = {}
        for domain, one in seen.domains.items() if seen else ():
            found.setdefault(limits.of_domain(domain), []).append(one)
        return found

    def _queued(self, behind: Iterable[DomainSeen] | None) -> int:
        return sum(one.queued or 0 for one in behind or ())

    def _standing(
        self, name: str, waiting: int, behind: list[DomainSeen] | None, ceiling: Ceiling | None
    ) -> DomainStanding:
        seen = self._pipeline.paces.seen
        queue_read = seen is not None and seen.messages is not None
        settings = self._pipeline.resources.settings
        groups = settings.feed.domain_groups
        oldest_s = min((one.oldest_s for one in behind or () if one.oldest_s is not None), default=None)
        is_served = name != self._pipeline.domains.limits.served.otherwise
        traffic = self._pipeline.paces.traffic.of(domains_of(name, groups)) if is_served else Traffic()
        return DomainStanding(
            domain=name if is_served else NOT_SERVED,
            group=list(groups.get(name, ())),
            limit_recipients_per_s=ceiling.per_s if ceiling else None,
            set_by=ceiling.set_by if ceiling else "",
            cause=ceiling.cause if ceiling else "",
            by=ceiling.by if ceiling else "",
            since=ceiling.since_s if ceiling else None,
            until=ceiling.until_s if ceiling else None,
            takes_recipients_per_s=self._pipeline.paces.takes_per_s(name),
            banned=ceiling is not None and ceiling.set_by == "learnt" and self._pipeline.paces.is_banned(name),
            queued=self._queued(behind) if queue_read else None,
            deferred=sum(one.waiting for one in behind or ()) if queue_read and settings.mta.queue != "exim" else None,
            waiting_recipients=waiting,
            oldest_age_s=None if oldest_s is None else max(0.0, self._pipeline.resources.clock.now_s() - oldest_s),
            arrivals_recipients_per_s=traffic.arrivals_per_s,
            accepted_recipients_per_s=traffic.accepted_per_s,
            deferrals_per_s=traffic.deferrals_per_s,
            deferral_reply=traffic.reply or next((one.reply for one in behind or () if one.reply), ""),
            not_in_force=_in_words(self._pipeline.domains.not_in_force.get(name)),
        )


def _in_words(ceiling: Ceiling | None) -> str:
    """ "held back by ann: they told us to wait"; "" for none."""
    if ceiling is None:
        return ""
    pace = f"at most {rate(ceiling.per_s)}" if ceiling.per_s else "held back"
    who = f"by {ceiling.by}" if ceiling.set_by == "operator" else "by feed.domains"
    return f"{pace} {who}: {ceiling.cause}" if ceiling.cause else f"{pace} {who}"
