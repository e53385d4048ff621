"""What the MTA's queue and log say of recipient domains, as values.

Pure  values only
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class DomainSeen:
    """One recipient domain, in lower case, as the MTA sees it.

    queued     recipients of it in the MTA's queue now; None: the queue was not read
    waiting    of these, the ones that the provider has deferred already (Postfix: with a delay_reason)
    oldest_s   when the oldest of them arrived in the queue, seconds since the epoch; None: none, or not known
    accepted   recipients that the provider took since the last look
    deferred   deferrals since the last look
    not_tried  of these, the ones that the MTA decided by itself, because the provider had just answered others so
    refused    recipients that the provider refused for good since the last look
    too_fast   of deferred and refused, the ones whose reply says that we are too fast for the provider (too_fast.py)
    waiting_too_fast  of waiting, the ones whose reason says so: all that is known of it where the log is not read
    reply      the last such reply; if there is none, the last deferral's, or the most frequent reason in the queue; ""
               if nothing was deferred
    """

    queued: int | None = None
    waiting: int = 0
    oldest_s: float | None = None
    accepted: int = 0
    deferred: int = 0
    not_tried: int = 0
    refused: int = 0
    too_fast: int = 0
    waiting_too_fast: int = 0
    reply: str = ""


@dataclass(frozen=True, slots=True)
class DestinationsSeen:
    """One look at queue and log.

    at_s      when it was taken, monotonic seconds
    domains   those with anything to say; a domain that is absent has nothing queued and no deferral
    log_read  the log was readable, so that `accepted` and `deferred` are counts; False: they are unknown, not zero
    trouble   why queue or log could not be read, for the operator; "" if both could, or are not set
    messages  in the MTA's whole queue; None: not read
    others    recipients in the queue of domains that are not in `domains`: there are too many to count them one by one
    took_s    what the look at the queue cost, seconds
    name_trouble  why the lines of every MTA in the log are counted, though only ours should be; "" if that is not so
    """

    at_s: float
    domains: Mapping[str, DomainSeen] = field(default_factory=dict)
    log_read: bool = False
    trouble: str = ""
    messages: int | None = None
    others: int = 0
    took_s: float = 0.0
    name_trouble: str = ""
