"""Queue and log put together: one DomainSeen for each domain that either of them names.

Pure  values only
"""

from __future__ import annotations

from collections.abc import Mapping

from drainer.destinations.log_tally import DomainLogged
from drainer.destinations.queue_listing import DomainQueued, QueueByDomain
from drainer.destinations.quoted import one_line
from drainer.destinations.seen import DomainSeen
from drainer.destinations.too_fast import TooFastReplies
from drainer.text.foreign import clean

_NOT_QUEUED = DomainQueued()


def put_together(
    queue: QueueByDomain | None, logged: Mapping[str, DomainLogged], too_fast: TooFastReplies
) -> dict[str, DomainSeen]:
    """queue: None if it was not read."""
    domains = {} if queue is None else queue.domains
    return {
        clean(domain): _seen(
            None if queue is None else domains.get(domain, _NOT_QUEUED), logged.get(domain) or DomainLogged(), too_fast
        )
        for domain in domains.keys() | logged.keys()
    }


def _seen(queued: DomainQueued | None, logged: DomainLogged, too_fast: TooFastReplies) -> DomainSeen:
    reasons = queued.reasons if queued else ()
    matching = [reason for reason in reasons if too_fast.of(reason.text) is not None]
    replies = (
        logged.too_fast_reply,
        *(reason.text for reason in matching),
        logged.reply,
        *(reason.text for reason in reasons),
    )
    return DomainSeen(
        queued=queued.queued if queued else None,
        waiting=queued.waiting if queued else 0,
        oldest_s=queued.oldest_s if queued else None,
        accepted=logged.accepted,
        deferred=logged.deferred,
        not_tried=logged.not_tried,
        refused=logged.refused,
        too_fast=logged.too_fast,
        waiting_too_fast=sum(reason.recipients for reason in matching),
        reply=clean(one_line(next(filter(None, replies), ""))),
    )
