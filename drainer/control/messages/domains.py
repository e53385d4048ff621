"""Requests and replies of `drainer domain`: ceilings of recipient domains.

Pure  values only
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from drainer.control.messages.base import Reply, Request
from drainer.report.snapshot import DomainStanding, WithoutService
from drainer.text.quantities import LONGEST_S, rate_per_s


class DomainsQuery(Request):
    """The query string of GET /domains. domain: one domain, or group of the settings; "": those with a ceiling, and the
    `limit` for which most waits."""

    domain: str = ""
    limit: int = Field(20, ge=1, le=5_000)


class DomainsReply(Reply):
    """behind: whether the MTA's queue or log is read; trouble: why one of them could not be read, or why lines of other MTAs
    count."""

    domains: list[DomainStanding] = []
    behind: bool = False
    trouble: str = ""
    without_service: WithoutService | None = None


def _new_rate(value: object) -> object:
    return value if value in (None, "unlimited") else rate_per_s(value)


class DomainRequest(Request):
    """An order for a domain or a group. Exactly one of these:

    rate     recipients per second, or "5/s" as in the settings; "unlimited": no ceiling; whatever was learnt
    pause_s  hold it back for so many seconds; 0: until `auto`
    auto     forget what operators ordered
    """

    domain: str
    rate: Annotated[float | Literal["unlimited"] | None, BeforeValidator(_new_rate)] = None
    pause_s: float | None = Field(None, ge=0, le=LONGEST_S, allow_inf_nan=False, strict=True)
    auto: bool = False
    reason: str = ""

    @model_validator(mode="after")
    def _orders_one_thing(self) -> DomainRequest:
        asked = [self.rate is not None, self.pause_s is not None, self.auto]
        if sum(asked) != 1:
            raise ValueError("right would be one of rate, pause_s and auto")
        return self


class DomainReply(Reply):
    """message: what is so now, in words; number: of the action in the journal, null: nothing was changed."""

    message: str
    domain: DomainStanding
    number: int | None = None
