"""[feed]: how fast, in which order, and for how long. Pure."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from drainer.schedule.time_zone import zone_of
from drainer.schedule.windows import windows_of
from drainer.settings.section import DomainName, Duration, ListOrDomain, Rate, Section, Size

_HEAVIEST = 1_000_000


class FeedSettings(Section):
    via: Literal["smtp", "mailman"] = Field(
        "smtp", description="smtp: drainer delivers; mailman: Mailman's own runner delivers, and must be running"
    )
    messages: Rate = Field(20.0, description="highest rate of transactions; 0 pauses")
    recipients: Rate = Field(None, description="highest rate of recipients; 0 pauses")
    windows: tuple[str, ...] = Field(
        (),
        description="rates of transactions by time of day, in place of `messages`; the first that covers the moment counts,"
        ' such as ["22:00-06:00 unlimited", "Sat,Sun 50/s", "else 20/s"]; 0 or pause sends nothing',
    )
    time_zone: str = Field("", description='time zone of `windows`, such as "Europe/Berlin"; empty: the system\'s own')
    hourly: int = Field(
        0,
        ge=0,
        le=10**9,
        description="most recipients within any hour, whatever is retried; for a provider's limit; 0: no cap",
    )
    daily: int = Field(0, ge=0, le=10**9, description="most recipients within any 24 hours, likewise; 0: no cap")
    adaptive: bool = Field(
        True,
        description="find out how fast and in how many sessions the MTA takes mail; false: as the limits say",
    )
    order: Literal["fair", "fresh", "oldest", "priority"] = Field(
        "oldest",
        description="oldest: oldest first; fresh: new mail in a lane of its own, then the oldest first; fair: lists share"
        " the rate by recipients and `weights`; priority: in the order of `priority`",
    )
    fresh_lane: bool = Field(
        False,
        description="true: in every order new mail has the lane that it has with order = fresh: it goes ahead of the "
        "backlog, which keeps four fifths of the rate",
    )
    priority: tuple[str, ...] = Field(
        (),
        description="lists (name, address or list-id), first one first; for order = priority; other lists come after them",
    )
    weights: dict[str, Annotated[float, Field(gt=0, le=_HEAVIEST)]] = Field(
        default_factory=dict,
        description='for order = fair: shares of lists, such as { "announce@lists.example.org" = 4 }, four recipients for'
        ' each one of another list; a list that is not named has 1, or what "*" has',
    )
    only: tuple[ListOrDomain, ...] = Field(
        (),
        description="serve only these lists (name, address or list-id), and only recipients in these domains, such as"
        ' ["choir", "@gmail.com"]; where it names no list, every list, where it names no domain, every domain',
    )
    withheld: tuple[ListOrDomain, ...] = Field(
        (),
        alias="not",
        description="serve none of these lists, and no recipients in these domains, written as in `only`; they wait",
    )
    max_recipients: int = Field(
        0, ge=0, description="most recipients in one transaction; 0: as Mailman itself splits them"
    )
    window: int = Field(100, ge=1, description="most entries of drainer in Mailman's out/ at one time")
    memory: Size = Field(
        536_870_912,
        ge=1,
        description="about the most memory for messages that are being read, composed and sent; a larger message goes alone",
    )
    retry_first: Duration = Field(300.0, gt=0, description="wait before the second attempt at a deferred recipient")
    retry_longest: Duration = Field(3600.0, gt=0, description="the wait doubles with each attempt, up to this")
    give_up_after: Duration = Field(
        432_000.0, gt=0, description="a recipient that is still deferred after this fails; RFC 5321 §4.5.4.1: 4-5 days"
    )
    dsn: bool = Field(
        True,
        description="true: a DSN (RFC 3464) reports a failed recipient to the reverse-path, so that Mailman's bounce"
        " processing scores it; false: no report is sent, and DSNs that are still owed are dropped",
    )
    dsn_wait: Duration = Field(
        300.0,
        description="a DSN waits until the MTA accepts another recipient, or refuses none for this long, so that a wrong"
        " relay setting does not bounce members",
    )
    domains: dict[DomainName, Rate] = Field(
        default_factory=dict,
        description='highest rate of recipients for single domains or groups of them, such as { "gmail.com" = "10/s" };'
        " 0 holds a domain back",
    )
    domain_groups: dict[str, tuple[DomainName, ...]] = Field(
        default_factory=dict,
        description="domains that share one pace and one ceiling, since one provider has them all, such as"
        ' { google = ["gmail.com", "googlemail.com"] }',
    )

    @field_validator("windows")
    @classmethod
    def _are_windows(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        windows_of(texts)
        return texts

    @field_validator("time_zone")
    @classmethod
    def _is_a_time_zone(cls, name: str) -> str:
        zone_of(name)
        return name

    @property
    def has_fresh_lane(self) -> bool:
        return self.fresh_lane or self.order == "fresh"

    @field_validator("order", mode="before")
    @classmethod
    def _by_its_older_name(cls, value: object) -> object:
        return "oldest" if value == "fifo" else value

    @model_validator(mode="after")
    def _waits_in_order(self) -> FeedSettings:
        if self.retry_first > self.retry_longest:
            raise ValueError("retry_first is longer than retry_longest; right would be retry_first <= retry_longest")
        return self

    @model_validator(mode="after")
    def _groups_are_told_apart(self) -> FeedSettings:
        seen: dict[str, str] = {}
        for name, domains in self.domain_groups.items():
            if not name or "." in name or "@" in name or not name.isprintable() or " " in name:
                raise ValueError(
                    f"domain_groups: {name!r} could be taken for a domain; right would be one word without a dot, such as"
                    " google"
                )
            for domain in domains:
                if domain in seen:
                    raise ValueError(
                        f"domain_groups: {domain} is in {seen[domain]} and in {name}; right would be in one group only"
                    )
                seen[domain] = name
                if domain in self.domains:
                    raise ValueError(
                        f"domains: {domain} is in the group {name} and shares its ceiling; right would be one for {name}"
                    )
        return self

    @model_validator(mode="after")
    def _is_served_or_not(self) -> FeedSettings:
        self.require_served_or_not()
        return self

    def require_served_or_not(self) -> None:
        """Raises ValueError if `only` and `not` exclude each other, or cannot be kept with `via`."""
        for both in sorted(set(self.only) & set(self.withheld)):
            raise ValueError(f"only and not both name {both}; right would be one of them")
        domains = sorted(_domains_in(self.only) | _domains_in(self.withheld))
        if domains and self.via == "mailman":
            raise ValueError(
                f'via = "mailman" hands whole entries over, so @{domains[0]} in only or not cannot be kept apart; right'
                ' would be via = "smtp", or lists only'
            )

    @property
    def only_lists(self) -> tuple[str, ...]:
        """Empty: every list."""
        return tuple(name for name in self.only if not name.startswith("@"))

    @property
    def withheld_lists(self) -> tuple[str, ...]:
        return tuple(name for name in self.withheld if not name.startswith("@"))

    @property
    def only_domains(self) -> frozenset[str]:
        """In lower case. Empty: every domain."""
        return _domains_in(self.only)

    @property
    def withheld_domains(self) -> frozenset[str]:
        return _domains_in(self.withheld)

    @property
    def limited_domains(self) -> frozenset[str]:
        """Domains that a ceiling, a group, `only` or `not` of the settings names."""
        grouped = {domain for domains in self.domain_groups.values() for domain in domains}
        named = grouped | (self.domains.keys() - self.domain_groups.keys())
        return frozenset(named) | self.only_domains | self.withheld_domains


def _domains_in(names: tuple[str, ...]) -> frozenset[str]:
    return frozenset(name[1:] for name in names if name.startswith("@"))
