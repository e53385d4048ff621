"""What limits the rate now, in words that name the cause, and as one of a few kinds.

In    what the throttle waited for, the law's reasons, the sessions
Out   the text for an operator; its kind, for a metric's label and for "since when"
Pure  values only
"""

from __future__ import annotations

from typing import Literal, get_args

from drainer.guards.verdict import GUARD_BINDS

MTA_PACE = "the MTA's pace"
SLOW_START = "slow start"
LIMIT_ON = "limit on "
REFUSES = "the MTA refuses more than"
LOSES = "sessions are lost above"
SESSIONS = "sessions: "
DOMAINS = "ceilings of recipient domains: "

Kind = Literal[
    "nothing",
    "mta_pace",
    "sessions",
    "mta_refuses",
    "mta_loses",
    "slow_start",
    "limit_messages",
    "limit_recipients",
    "guard",
    "window",
    "hourly_cap",
    "daily_cap",
    "domains",
    "other",
]
KINDS: tuple[Kind, ...] = get_args(Kind)

_BEGINS: tuple[tuple[str, Kind], ...] = (
    (MTA_PACE, "mta_pace"),
    (SESSIONS, "sessions"),
    (REFUSES, "mta_refuses"),
    (LOSES, "mta_loses"),
    (SLOW_START, "slow_start"),
    (LIMIT_ON + "messages", "limit_messages"),
    (LIMIT_ON + "recipients", "limit_recipients"),
    (GUARD_BINDS, "guard"),
    ("window ", "window"),
    ("no window ", "window"),
    ("hourly cap", "hourly_cap"),
    ("daily cap", "daily_cap"),
    (DOMAINS, "domains"),
)


def kind_of(binding: str) -> Kind:
    """The kind of what limits the rate; "" limits nothing."""
    if not binding:
        return "nothing"
    return next((kind for begins, kind in _BEGINS if binding.startswith(begins)), "other")


def with_sessions(binding: str, allowed: int, most: int, why: str, *, is_bound: bool) -> str:
    """Where the MTA's pace is what limits: the sessions it gets, if that is why.

    allowed, most  sessions that may be open now, and by the settings
    why            why no more are allowed; "" if nothing speaks against it
    is_bound       every session that is allowed has work
    """
    if binding != MTA_PACE or not is_bound:
        return binding
    if allowed >= most:
        return f"{SESSIONS}all {most} of mta.sessions have work"
    return f"{SESSIONS}{allowed} of {most}, {why}" if why else binding
