"""Requests and replies of pause, resume and rate.

Pure  values only
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from drainer.control.messages.base import Reply, Request
from drainer.report.snapshot import CapUsed, WindowInForce
from drainer.text.quantities import LONGEST_S, rate_per_s


class PauseRequest(Request):
    """list "": everything; else as in Selectors. for_s None: until resumed."""

    list: str = ""
    for_s: float | None = Field(None, gt=0, le=LONGEST_S, allow_inf_nan=False, strict=True)
    reason: str = ""


class ResumeRequest(Request):
    """list "": everything; else as in Selectors, or one that is paused."""

    list: str = ""
    reason: str = ""


def _new_rate(value: object) -> object:
    return value if value in (None, "unlimited", "settings") else rate_per_s(value)


_NewRate = Annotated[float | Literal["unlimited", "settings"] | None, BeforeValidator(_new_rate)]


class RateRequest(Request):
    """A rate is per second, or "20/s" as in the settings; "unlimited" lifts the ceiling; "settings" gives it back to the
    settings and their windows; None leaves it as it is."""

    messages: _NewRate = None
    recipients: _NewRate = None
    reason: str = ""


class RateReply(Reply):
    """Per second, None unlimited. messages_by, recipients_by: whose limit it is. window: null without feed.windows."""

    messages: float | None
    recipients: float | None
    messages_per_s: float | None = None
    recipients_per_s: float | None = None
    messages_by: Literal["operator", "window", "settings"] = "settings"
    recipients_by: Literal["operator", "settings"] = "settings"
    window: WindowInForce | None = None
    caps: list[CapUsed] = []
