"""A genuine MTA between the service and two providers: one that refuses by rate, and one that takes everything.

`BehindTheMta` is the MTA with what lies behind it; the truth is what the providers took.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drainer.demo.misbehaviour import Behaviour, Rule, SinkStep
from drainer.demo.sample_queue import write_plain
from drainer.demo.sink import Sink, SinkOptions, SinkThread
from drainer.report.snapshot import Snapshot
from tests.exim import Exim, running_exim
from tests.postfix import Address, Postfix, relaying_to, running_postfix
from tests.scenarios.running import site_settings
from tests.scenarios.troubled import Outbreak

LIMITED = "gmail.example"
OTHERS = ("first.example", "second.example", "third.example", "fourth.example")
UNUSUAL_RATE = (
    r"rcpt 421-4.7.28 Gmail has detected an unusual rate of unsolicited mail originating\n421-4.7.28 from your IP address."
    r" To protect our users from spam, mail sent from your\n421-4.7.28 IP address has been temporarily rate limited. For"
    r" more information, go to\n421 4.7.28  https://support.google.com/mail/?p=UnsolicitedRateLimitError 4fb4d7f4 - gsmtp"
)
RECEIVING_RATE = (
    r"rcpt 450-4.2.1 The user you are trying to contact is receiving mail at a rate that\n450-4.2.1 prevents additional"
    r" messages from being delivered. Please resend your\n450-4.2.1 message at a later time. If the user is able to receive"
    r" mail at that\n450-4.2.1 time, your message will be delivered. For more information, go to\n450 4.2.1 "
    " https://support.google.com/mail/?p=ReceivingRate 4fb4d7f4 - gsmtp"
)


@dataclass(slots=True)
class Liftable:
    """A script that can be taken out of force while the sink runs."""

    rule: Rule
    lifted: bool = False

    def __call__(self, step: SinkStep) -> Behaviour | None:
        return None if self.lifted else self.rule(step)


@dataclass(slots=True)
class BehindTheMta:
    """settings  of [mta]: how the service finds the MTA, its queue and its log."""

    mta: Postfix | Exim
    settings: Mapping[str, Any]
    limit: Liftable
    limited: Sink
    others: Sink
    most_queued: Counter[str] = field(default_factory=Counter)

    def given(self) -> Counter[tuple[str, str]]:
        """(Message-ID, recipient) -> how many copies the providers took."""
        return Counter(
            (message_id, recipient)
            for sink in (self.limited, self.others)
            for recipient, message_id in sink.delivered()
        )

    def look_at_queue(self) -> Counter[str]:
        """Recipients that the MTA holds now, by domain; `most_queued` keeps the most ever seen."""
        queued = self.mta.queued_by_domain()
        self.most_queued |= queued
        return queued

    def until_others_are_done(self, site: Outbreak) -> None:
        """Everybody at the providers that refuse nothing has all mail."""
        owed = sum(1 for _, address in self.owed(site) if not address.endswith(f"@{LIMITED}"))
        site.until("the others are done", lambda: self._looked() and self.others.taken_recipients >= owed)

    def until_all_are_done(self, site: Outbreak) -> None:
        owed = self.owed(site).total()
        site.until("all are done", lambda: self._looked() and self.given().total() >= owed)

    def _looked(self) -> bool:
        self.look_at_queue()
        return True

    def owed(self, site: Outbreak) -> Counter[tuple[str, str]]:
        """(Message-ID, recipient) of everybody who must have a mail once."""
        return Counter((message_id, recipient) for _, message_id, recipient in site.owed())

    def site(self, home: Path, mails: int, limited_each: int, others_each: int, **sections: dict[str, Any]) -> Outbreak:
        """A site whose mails each go to so many recipients of the domain that is limited, and of the others."""
        domains = (LIMITED,) * limited_each + tuple(OTHERS[number % len(OTHERS)] for number in range(others_each))
        outage = write_plain(home / "site", mails, len(domains), domains=domains)
        mailman = {"flavour": "mailman2", "queue_dir": outage.queue_dir, "lists_dir": outage.lists_dir}
        mta = {**self.settings, **sections.pop("mta", {})}
        return Outbreak(home, outage, site_settings(home, self.mta.port, mailman, mta=mta, **sections))


def until_slowed_down(behind: BehindTheMta, site: Outbreak, reply: str) -> None:
    """The domain that is limited has a ceiling because of this reply, and no other domain has one.

    Before the reply, a domain for which much waits starts slowly; status calls that ceiling learnt too.
    """

    def is_slowed_down(said: Snapshot) -> bool:
        behind.look_at_queue()
        return any(one.domain == LIMITED and reply in one.cause for one in said.domains)

    said = site.status_when(f"the domain has a ceiling because of {reply!r}", is_slowed_down)
    assert [one.domain for one in said.domains if one.set_by == "learnt"] == [LIMITED]


@contextmanager
def two_providers(rule: str) -> Iterator[tuple[Liftable, Sink, Sink, Mapping[str, Address]]]:
    """The limit, who has it, who has none, and which domain goes where."""
    limit = Liftable(Rule.parse(rule))
    with (
        SinkThread(SinkOptions(host="127.0.0.2"), limit) as limited,
        SinkThread(SinkOptions(host="127.0.0.3")) as others,
    ):
        where = {LIMITED: (limited.options.host, limited.port), "*": (others.options.host, others.port)}
        yield limit, limited, others, where


@contextmanager
def behind_postfix(root: Path, rule: str, retry_s: int = 3) -> Iterator[BehindTheMta]:
    with (
        two_providers(rule) as (limit, limited, others, where),
        running_postfix(root, outbound=relaying_to(where, retry_s=retry_s)) as postfix,
    ):
        settings = {"queue": "postfix", "queue_config": root / "etc", "log_file": postfix.log_file}
        yield BehindTheMta(postfix, settings, limit, limited, others)


@contextmanager
def behind_exim(root: Path, rule: str, retry_s: int = 3) -> Iterator[BehindTheMta]:
    with (
        two_providers(rule) as (limit, limited, others, where),
        running_exim(root, where, retry_s=retry_s) as exim,
    ):
        settings = {"queue": "exim", "queue_command": exim.command("-bp"), "log_file": exim.log_file}
        yield BehindTheMta(exim, settings, limit, limited, others)
