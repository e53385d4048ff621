"""Requests and replies about the finish time.

Pure  values only
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from drainer.control.messages.base import Reply, Request
from drainer.estimate.eta import Eta
from drainer.report.snapshot import WithoutService
from drainer.text.quantities import rate_per_s


def _asked_rate(value: object) -> float | None:
    """A rate as a query string has it: "20/s", "20" or nothing. Raises ValueError."""
    if isinstance(value, str) and value.replace(".", "", 1).isdecimal():
        return float(value)
    if value == "unlimited":
        raise ValueError('not a rate to compute with; right would be "20/s", "600/m" or "5000/h"')
    return rate_per_s(value)


class EtaQuery(Request):
    """The query string of GET /eta. at: recipients per second, as a number or "20/s"; by: seconds since the epoch;
    list: its name, address or list-id, "" for none."""

    at: Annotated[float | None, BeforeValidator(_asked_rate)] = None
    by: float | None = Field(None, allow_inf_nan=False)
    list: str = ""


class ListEta(Reply):
    """When one list is done. `eta` "paused" if it or everything is, or if feed.only or feed.not leaves it out (not_served);
    `what_if` at the rate asked about."""

    list: str
    entries: int
    recipients: int
    eta: Eta
    paused: bool = False
    not_served: bool = False
    what_if: Eta | None = None
    if_resumed: Eta | None = None


class EtaReply(Reply):
    """All rates per second.

    what_if      the estimate at the rate asked about
    not_served_recipients  part of backlog_recipients, on lists or in domains that feed.only and feed.not leave out
    held_back    domains that settings or operators hold back without an end, while recipients in them wait
    if_resumed   while paused: the estimate if everything, paused lists too, went on now
    by           the time asked about, seconds since the epoch
    needed_recipients_per_s     to be done by then; null: no rate would do, or the work is unknown
    chance       of being done by then at the present rate, 0 to 1; null while there is no forecast
    verdict      whether that rate can be had: estimate/drain_time.py, ByTime
    raise_messages_per_s, raise_recipients_per_s  limits in force that do not allow it, and what they would have to be
    schedule_allows_recipients  of those left, as many as windows and caps let go by then; null: they are in the way of none
    shown_recipients_per_s      the fastest the MTA has been seen to take, over ten seconds
    sustained_recipients_per_s  the same over five minutes
    unread_entries              their recipients are not in backlog_recipients
    without_service             as in the snapshot; then shown_recipients_per_s is the rate last recorded
    """

    eta: Eta
    backlog_recipients: int
    what_if: Eta | None = None
    if_resumed: Eta | None = None
    by: float | None = None
    needed_recipients_per_s: float | None = None
    chance: float | None = None
    verdict: Literal["likely", "possible", "unproven", "impossible", "unknown"] | None = None
    raise_messages_per_s: float | None = None
    schedule_allows_recipients: int | None = None
    raise_recipients_per_s: float | None = None
    shown_recipients_per_s: float | None = None
    sustained_recipients_per_s: float | None = None
    list: ListEta | None = None
    unread_entries: int = 0
    not_served_recipients: int = 0
    held_back: tuple[str, ...] = ()
    without_service: WithoutService | None = None
