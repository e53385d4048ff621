"""Recipient domains in status, page and metrics: which is slowed down, by whom, and what waits for it."""

from __future__ import annotations

import re
from datetime import UTC

from drainer.cli.domain import _lines
from drainer.control.messages.domains import DomainsReply
from drainer.estimate.eta import Eta
from drainer.report.metrics import DOMAINS_SHOWN, exposition
from drainer.report.snapshot import DomainStanding
from drainer.report.terminal.status import status_lines
from drainer.report.web.page_tables import domains_table
from drainer.report.words import NO_FINISH, finish_text
from tests.report.staged import NOW_S, moment

GMAIL = DomainStanding(
    domain="google",
    group=["gmail.com", "googlemail.com"],
    limit_recipients_per_s=4.75,
    set_by="learnt",
    cause="421 4.7.28 unusual rate of mail <b>",
    since=NOW_S - 600,
    takes_recipients_per_s=5.0,
    queued=37,
    deferred=12,
    waiting_recipients=1200,
    oldest_age_s=240.0,
    arrivals_recipients_per_s=12.0,
    accepted_recipients_per_s=4.5,
    deferrals_per_s=3.0,
    deferral_reply="421 4.7.28 unusual rate of mail <b>",
)
HELD = DomainStanding(domain="web.de", limit_recipients_per_s=0.0, set_by="operator", by="ann", cause="asked to")
BANNED = DomainStanding(domain="t-online.de", limit_recipients_per_s=0.02, set_by="learnt", banned=True, cause="554 no")
FREE = DomainStanding(domain="example.org", waiting_recipients=99)
GREYLISTING = DomainStanding(domain="grey.example", queued=4, deferrals_per_s=0.5, deferral_reply="450 greylisted <i>")


def test_status_names_those_that_are_slowed_down_with_the_reply_that_caused_it() -> None:
    text = " ".join(" ".join(status_lines(moment(domains=[GMAIL, HELD, BANNED, FREE]), 200, zone=UTC)).split())
    assert re.search(
        r"google at most 4\.75/s, since \S+ UTC: 1,200 recipients waiting, 37 behind the MTA, oldest 4 min,", text
    )
    assert "oldest 4 min, 12/s arrive, 4.5/s taken, 3/s deferred; learnt" in text
    assert "learnt: 421 4.7.28 unusual rate of mail" in text
    assert "web.de held back: 0 recipients waiting; by ann: asked to" in text
    assert "t-online.de refuses all, tried rarely" in text and "example.org" not in text


def test_no_finish_time_is_said_to_be_for_the_domains_that_are_held_back() -> None:
    held = [
        HELD.model_copy(update={"domain": name, "waiting_recipients": 3}) for name in ("a.de", "b.de", "c.de", "d.de")
    ]
    stalled = moment(domains=held, eta=Eta(state="stalled"))
    assert finish_text(stalled) == "no finish time while a.de, b.de, c.de and 1 other domain are held back"
    ends = held[0].model_copy(update={"until": NOW_S + 60})
    assert finish_text(stalled.model_copy(update={"domains": [ends, HELD]})) == NO_FINISH["stalled"]


def test_status_of_many_slowed_down_domains_stays_short() -> None:
    many = [GMAIL.model_copy(update={"domain": f"d{at}.example"}) for at in range(60)]
    text = "\n".join(status_lines(moment(domains=many), 200, zone=UTC))
    assert text.count(".example at most 4.75/s") == 5 and "and 55 other domains: `drainer domain` lists them" in text


def test_page_shows_what_waits_for_each_domain_and_why_it_is_slow() -> None:
    html = str(domains_table(moment(domains=[GMAIL, FREE, GREYLISTING]), UTC))
    assert "4.75/s learnt" in html and "1,200" in html and "unusual rate of mail &lt;b&gt;" in html
    assert "example.org" in html and ">none<" in html
    assert ">oldest 4 min, 12 deferred; 12/s arrive, 4.5/s taken, 3/s deferred<" in html
    assert "450 greylisted &lt;i&gt;" in html, "no ceiling, and yet it is said why mail is deferred"


def test_command_says_what_is_deferred_behind_the_mta_and_why_with_and_without_a_ceiling() -> None:
    lines = _lines(DomainsReply(domains=[GMAIL, GREYLISTING, FREE], behind=True))
    assert lines[0].split() == ["domain", "ceiling", "waiting", "behind", "the", "MTA", "oldest", "deferred"]
    assert lines[1].split() == ["google", "4.75/s", "learnt", "1,200", "37", "4", "min", "12"]
    assert "google: behind the MTA, in the last minute: 12/s arrive, 4.5/s taken, 3/s deferred" in lines
    assert "grey.example: deferred behind the MTA: 450 greylisted <i>" in lines
    assert sum("unusual rate" in line for line in lines) == 1, "the reply that caused the ceiling is not said twice"


def test_order_that_limits_nothing_is_shown_as_that_and_not_as_a_ceiling() -> None:
    gone = DomainStanding(domain="gogle", not_in_force="held back by ann: <they> told us")
    shown = moment(domains=[gone, FREE])
    why = "this limits nothing: gogle is no group of feed.domain_groups, and no mail for a domain of that name is known"
    status = " ".join(" ".join(status_lines(shown, 200, zone=UTC)).split())
    assert f"gogle: held back by ann: <they> told us; {why}" in status
    assert f"gogle: {gone.not_in_force}; {why}; --auto lifts what was ordered" in _lines(DomainsReply(domains=[gone]))
    html = str(domains_table(shown, UTC))
    assert html.count(">none<") == 2 and f"held back by ann: &lt;they&gt; told us; {why}" in html
    assert 'limit_recipients_per_second{domain="gogle"' not in exposition(shown).decode()


def test_metrics_have_a_bounded_number_of_domains() -> None:
    many = [FREE.model_copy(update={"domain": f"d{at}.example"}) for at in range(90)]
    text = exposition(moment(domains=[GMAIL, *many])).decode()
    assert 'drainer_domain_limit_recipients_per_second{domain="google",set_by="learnt"} 4.75' in text
    assert 'drainer_domain_queued_recipients{domain="google"} 37.0' in text
    assert 'drainer_domain_deferred_recipients{domain="google"} 12.0' in text
    assert 'drainer_domain_oldest_age_seconds{domain="google"} 240.0' in text
    assert 'drainer_domain_arrival_recipients_per_second{domain="google"} 12.0' in text
    assert 'drainer_domain_accepted_recipients_per_second{domain="google"} 4.5' in text
    assert 'drainer_domain_deferrals_per_second{domain="google"} 3.0' in text
    assert text.count("\ndrainer_domain_deferrals_per_second{") == 1, "what is not known has no sample"
    assert text.count("\ndrainer_domain_waiting_recipients{") == DOMAINS_SHOWN
