"""Recipient domains in status, page and metrics: which is slowed down, by whom, and what waits for it."""

from __future__ import annotations

import re
from datetime import UTC

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
)
HELD = DomainStanding(domain="web.de", limit_recipients_per_s=0.0, set_by="operator", by="ann", cause="asked to")
BANNED = DomainStanding(domain="t-online.de", limit_recipients_per_s=0.02, set_by="learnt", banned=True, cause="554 no")
FREE = DomainStanding(domain="example.org", waiting_recipients=99)


def test_status_names_those_that_are_slowed_down_with_the_reply_that_caused_it() -> None:
    text = " ".join(" ".join(status_lines(moment(domains=[GMAIL, HELD, BANNED, FREE]), 200, zone=UTC)).split())
    assert re.search(r"google at most 4\.75/s, since \S+ UTC: 1,200 recipients waiting, 37 behind the MTA;", text)
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
    html = str(domains_table(moment(domains=[GMAIL, FREE]), UTC))
    assert "4.75/s learnt" in html and "1,200" in html and "unusual rate of mail &lt;b&gt;" in html
    assert "example.org" in html and ">none<" in html


def test_metrics_have_a_bounded_number_of_domains() -> None:
    many = [FREE.model_copy(update={"domain": f"d{at}.example"}) for at in range(90)]
    text = exposition(moment(domains=[GMAIL, *many])).decode()
    assert 'drainer_domain_limit_recipients_per_second{domain="google",set_by="learnt"} 4.75' in text
    assert 'drainer_domain_queued_recipients{domain="google"} 37.0' in text
    assert 'drainer_domain_deferred_recipients{domain="google"} 12.0' in text
    assert text.count("\ndrainer_domain_waiting_recipients{") == DOMAINS_SHOWN
