"""The page as HTML: every figure is in it, in order, and nothing foreign becomes markup."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC
from html.parser import HTMLParser
from importlib import resources
from typing import Any, get_args

import pytest

from drainer.estimate.eta import Eta, EtaState, ServiceState
from drainer.guards.mailman import Mailman, QueueCount, Runner
from drainer.guards.verdict import Guard
from drainer.report.burn_down import BurnDown
from drainer.report.snapshot import Backlog, Done, ListBacklog, Mta, PauseInForce, Snapshot
from drainer.report.web.page import page
from drainer.report.web.page_tables import LISTS_SHOWN
from tests.report.staged import HOSTILE, NOW_S, burning, moment

TEMPLATE = (resources.files("drainer.report.web") / "page.html").read_text("utf-8")


class Parsed(HTMLParser):
    """Elements as (name, attributes), and the text between them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.pieces: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.pieces.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.pieces).split())

    def named(self, tag: str) -> Iterator[dict[str, str | None]]:
        return (attributes for name, attributes in self.elements if name == tag)


def shown(snapshot: Snapshot, history: BurnDown | None = None) -> Parsed:
    parsed = Parsed(page(TEMPLATE, snapshot, history or BurnDown(), UTC))
    assert not parsed.open
    return parsed


def test_every_figure_is_in_the_html_in_the_order_of_what_matters() -> None:
    text = shown(moment(reason="waiting for deferred entries to be due"), burning()).text
    in_order = [
        "Draining", "waiting for deferred entries to be due", "since 09:54 UTC (1 h 12 min)",
        "List choir is paused by ann since 11:05 UTC, until 11:36 UTC: provider asked",
        "Done at about 11:32 UTC", "in 26 min; between 11:23 UTC and 11:46 UTC, 80 % sure", "24 % done",
        "drainer resume --list choir",
        "49,012 recipients", "4,145 entries, 8 MiB", "oldest 22 h 54 min",
        "23.3/s recipients", "3.75/s messages", "limit 12/s messages, unlimited recipients",
        "held down by: limit on messages", "arriving 0.5/s",
        "11,450 recipients", "883 entries in 1,820 transactions", "since 09:55 UTC",
        "303 entries", "4,404 recipients", "938 entries, 12,208 recipients more expected",
        "7 entries", "2 recipients", "31 recipients", "17 recipients", "4 DSNs to send", "3 unreadable, 1 dropped",
        "From 60,000 at 10:06 UTC to 49,012 recipients in 4,145 entries left now", "Forecast: about 26 min",
        "choir 799 15,611", "paused", "harbour 932 7,357 22 h 53 min about 11:19 UTC (11:15 UTC to 11:22 UTC)",
        "load slow the load is 9.5 9.50 8", "ledger_bytes go 6.5 GiB 64 MiB",
        "up 127.0.0.1:25, 4 sessions open", "mailman2 in /var/lib/mailman/qfiles", "out (pid 99)", "out 12 30 s", "shunt 3",
    ]  # fmt: skip
    at = 0
    for words in in_order:
        found = text.find(words, at)
        assert found >= 0, f"{words!r} is not in: {text[at:]}"
        at = found


@pytest.mark.parametrize("state", get_args(ServiceState))
def test_state_is_the_heading_and_the_title_in_words(state: ServiceState) -> None:
    parsed = shown(moment(state=state, reason="because"))
    html = page(TEMPLATE, moment(state=state, reason="because"), BurnDown(), UTC)
    (heading,) = re.findall("<h1>(.*?)</h1>", html)
    assert heading.replace("MTA", "mta").lower().replace(" ", "_").replace("by_a_", "by_") == state
    assert f"<title>{heading}" in html
    assert ("body", {"data-state": state}) in parsed.elements


@pytest.mark.parametrize("state", [state for state in get_args(EtaState) if state != "draining"])
def test_no_time_is_shown_where_there_is_none_and_no_cone_is_drawn(state: EtaState) -> None:
    html = page(TEMPLATE, moment(eta=Eta(state=state)), burning(), UTC)
    assert "Done at" not in html
    assert 'class="cone"' not in html
    assert {"done": "Nothing left"}.get(state, "No finish time") in html


def test_paused_says_when_it_would_end_if_resumed() -> None:
    if_resumed = Eta(state="draining", finish=NOW_S + 600, seconds=600.0)
    text = shown(moment(state="paused", eta=Eta(state="paused"), if_resumed=if_resumed)).text
    assert "No finish time while paused If everything is resumed now: about 10 min, at 11:17 UTC" in " ".join(
        text.split()
    )


def test_recipients_of_a_part_of_the_backlog_are_not_shown_as_the_whole() -> None:
    text = shown(moment(backlog=Backlog(entries=4231, recipients=12, unread_entries=4230))).text
    assert "Backlog 4,231 entries 12 recipients so far, 4,230 entries not read yet" in text
    text = shown(moment(backlog=Backlog(entries=4231, recipients=0, unread_entries=4231), lists=[])).text
    assert "Backlog 4,231 entries recipients not counted yet, 4,231 entries not read yet" in text
    assert " 0 recipients so far" not in text and "No list has anything waiting" not in text


def test_backlog_says_how_much_of_it_the_settings_leave_out() -> None:
    backlog = Backlog(
        entries=40, recipients=100, not_served_recipients=60, not_served="list choir (feed.not names choir)"
    )
    assert "60 recipients not served: list choir (feed.not names choir)" in shown(moment(backlog=backlog)).text
    assert "not served" not in shown(moment(backlog=Backlog(entries=40, recipients=100))).text


def test_names_and_reasons_written_by_strangers_stay_text() -> None:
    snapshot = moment(
        reason=HOSTILE,
        version=HOSTILE,
        lists=[ListBacklog(list=HOSTILE + str(index), entries=1, recipients=1) for index in range(3)],
        guards=[Guard(name=HOSTILE, verdict="stop", reason=HOSTILE)],
        mta=Mta(host=HOSTILE, port=25, state="down", reason=HOSTILE),
        mailman=Mailman(
            flavour=HOSTILE,
            queue_dir=HOSTILE,
            runners=[Runner(name=HOSTILE, pid=1)],
            queues=[QueueCount(name=HOSTILE, entries=1)],
            missing_runners=[HOSTILE],
        ),
        pauses=[PauseInForce(list=HOSTILE, by=HOSTILE, reason=HOSTILE + "`x`", since=NOW_S)],
    )
    parsed = shown(snapshot, burning())
    assert [attributes.get("src") for attributes in parsed.named("script")] == ["/page.js"]
    assert not [*parsed.named("img")]
    assert not [name for _, attributes in parsed.elements for name in attributes if name.startswith("on")]
    assert parsed.text.count("<script>alert(1)</script>") >= 15


def test_control_characters_and_lone_surrogates_of_a_list_name_do_not_reach_the_browser() -> None:
    html = page(
        TEMPLATE, moment(lists=[ListBacklog(list="a\x00\x1b\u202e\udcff", entries=1, recipients=1)]), BurnDown()
    )
    assert "a\\x00\\x1b\\u202e\\xff" in html
    html.encode("utf-8")


def test_nothing_inline_that_the_content_security_policy_forbids() -> None:
    parsed = shown(moment(), burning())
    for name, attributes in parsed.elements:
        assert "style" not in attributes, name
        assert not any((value or "").startswith(("http:", "https:", "//", "data:")) for value in attributes.values())
    assert not [*parsed.named("style")]


def test_landmarks_headings_and_table_headers_are_there_for_a_screen_reader() -> None:
    parsed = shown(moment(), burning())
    names = [name for name, _ in parsed.elements]
    assert [names.count(name) for name in ("main", "header", "footer", "h1")] == [1, 1, 1, 1]
    assert all(attributes.get("scope") in ("row", "col") for attributes in parsed.named("th"))
    assert names.count("caption") == names.count("table") == 4
    assert all(attributes["role"] == "img" and attributes["aria-label"] for attributes in parsed.named("svg"))
    identities = [attributes["id"] for _, attributes in parsed.elements if "id" in attributes]
    assert len(identities) == len(set(identities))
    for _, attributes in parsed.elements:
        assert attributes.get("aria-labelledby", identities[0]) in identities
    live = [attributes for _, attributes in parsed.elements if attributes.get("aria-live")]
    assert [attributes["data-live"] for attributes in live] == ["headline"]


def test_chart_is_told_as_a_table_with_what_stood_still_and_the_forecast() -> None:
    text = shown(moment(), burning()).text
    table = text[text.index("The chart as figures Time") :]
    assert "10:06 UTC 5,000 60,000" in table
    assert "MTA down" in table
    assert "11:23 UTC 0 0 forecast, at the earliest" in table
    assert "11:46 UTC 0 0 forecast, at the latest" in table


def test_site_of_thousands_of_lists_gets_a_page_of_a_bounded_size() -> None:
    lists = [ListBacklog(list=f"list-{index}", entries=1, recipients=index) for index in range(5000)]
    text = shown(moment(lists=lists)).text
    assert "list-4999" in text
    assert "list-4900" in text
    assert "list-4899 " not in text
    assert f"and {5000 - LISTS_SHOWN:,} other lists {5000 - LISTS_SHOWN:,} {sum(range(4900)):,}" in text


def test_empty_service_that_has_just_begun_has_a_page() -> None:
    bare: dict[str, Any] = {
        "backlog": Backlog(), "done": Done(), "guards": [], "lists": [], "pauses": [], "mailman": Mailman(),
        "eta": Eta(state="measuring"), "state": "starting",
    }  # fmt: skip
    text = shown(moment(**bare)).text
    assert "Starting" in text
    assert "No list has anything waiting." in text
    assert "Not looked at yet." in text
