"""The page as a browser shows it: live, at any width, in both schemes of colour, with nothing from elsewhere.

The listener is the real one; what the service says is staged, so that each state stays for as long as the test looks.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import get_args

import pytest

from drainer.clock import SystemClock
from drainer.control import web
from drainer.control.web import StatusListener
from drainer.estimate.eta import ServiceState
from drainer.guards.verdict import Guard
from drainer.report.snapshot import Backlog, ListBacklog, Mta, Snapshot
from drainer.settings.surroundings import WebSettings
from tests.report.browser import Tab, chromium, tab
from tests.report.staged import HOSTILE, moment

COME_BACK = "document.dispatchEvent(new Event('visibilitychange'))"
"""Whoever comes back to the tab is not kept waiting for the next turn; nor is a test."""

TEXTS_BELOW_AA = """
(() => {
  const channels = (colour) => {
    const found = colour.match(/[\\d.]+/g).map(Number);
    return found.length === 3 ? [...found, 1] : found;
  };
  const over = (top, below) => top.slice(0, 3).map((value, i) => value * top[3] + below[i] * (1 - top[3]));
  const ground = (element) => {
    const stack = [];
    for (let at = element; at; at = at.parentElement) stack.push(channels(getComputedStyle(at).backgroundColor));
    return stack.reverse().reduce((below, top) => over(top, below), [255, 255, 255]);
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((value) => value / 255).map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const bad = [];
  let seen = 0;
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !element.checkVisibility()) continue;
    seen += 1;
    const style = getComputedStyle(element);
    const below = ground(element);
    const ink = element instanceof SVGElement ? style.fill : style.color;
    const [a, b] = [light(over(channels(ink), below)), light(below)];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    if (contrast < (large ? 3 : 4.5)) bad.push([texts.currentNode.data.trim(), ink, below, contrast]);
  }
  return { bad, seen };
})()
"""


@dataclass
class Stage:
    """What the service would say, and where its page is."""

    said: Snapshot = field(default_factory=moment)
    url: str = ""

    async def status(self) -> Snapshot:
        """As staged, but of this moment."""
        return self.said.model_copy(update={"at": datetime.now(UTC).timestamp()})


@pytest.fixture(scope="module")
def devtools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with chromium(tmp_path_factory.mktemp("chromium") / "profile") as address:
        yield address


@pytest.fixture
async def stage(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    monkeypatch.setattr(web, "AS_OLD_AS_S", -1.0)
    stage = Stage()
    listener = StatusListener(WebSettings(listen="127.0.0.1:0"), stage.status, SystemClock())
    await listener.start()
    stage.url = f"http://127.0.0.1:{listener.port}/"
    yield stage
    await listener.stop()


@pytest.fixture
async def browser(devtools: str) -> AsyncIterator[Tab]:
    async with tab(devtools) as opened:
        await opened.looks_like(1100)
        yield opened


async def test_new_figures_come_without_a_reload_and_what_was_unfolded_stays_so(stage: Stage, browser: Tab) -> None:
    await browser.open(stage.url)
    assert await browser.says("document.querySelector('h1').textContent") == "Draining"
    await browser.says("window.loadedOnce = true; document.querySelector('details').open = true")
    stage.said = moment(state="mta_down", reason="connection refused", backlog=Backlog(entries=17, recipients=203))
    await browser.when("document.querySelector('h1').textContent === 'MTA down'")
    said = await browser.says("document.querySelector('[role=status][aria-live=polite]').innerText")
    assert said.split() == ["MTA", "down", "connection", "refused"]
    assert "203 recipients" in await browser.says("document.querySelector('.figures').innerText")
    assert (await browser.says("document.title")).startswith("MTA down")
    assert await browser.says("window.loadedOnce && document.querySelector('details').open")
    state_colour = "getComputedStyle(document.querySelector('h1')).color"
    assert await browser.says(state_colour) == "rgb(168, 32, 26)"
    assert browser.complaints == []


async def test_page_says_that_its_figures_are_old_while_nobody_answers(devtools: str, browser: Tab) -> None:
    stage = Stage()
    listener = StatusListener(WebSettings(listen="127.0.0.1:0"), stage.status, SystemClock())
    await listener.start()
    await browser.open(f"http://127.0.0.1:{listener.port}/")
    assert await browser.says("document.getElementById('lost').checkVisibility()") is False
    await listener.stop()
    await browser.says(COME_BACK)
    await browser.when("document.getElementById('lost').checkVisibility()")
    words = await browser.says("document.querySelector('[role=alert]').textContent")
    as_of = await browser.says("document.querySelector('.as-of').textContent")
    assert words == f"No answer from drainer. These {as_of.replace('Figures', 'figures are old: they are')}."
    listener = StatusListener(WebSettings(listen=f"127.0.0.1:{listener.port}"), stage.status, SystemClock())
    await listener.start()
    await browser.says(COME_BACK)
    await browser.when("!document.getElementById('lost').checkVisibility() && !document.body.matches('.old')")
    await listener.stop()


async def test_without_javascript_the_figures_are_there_and_the_page_refreshes_itself(
    stage: Stage, browser: Tab
) -> None:
    await browser.call("Emulation.setScriptExecutionDisabled", value=True)
    await browser.open(stage.url)
    assert not [url for url in browser.asked if url.endswith(".js")]
    tree = await browser.call("DOM.getDocument", depth=-1)
    refresh = await browser.call(
        "DOM.querySelector", nodeId=tree["root"]["nodeId"], selector="head meta[http-equiv=refresh][content='10']"
    )
    assert refresh["nodeId"] != 0
    text = await browser.says("document.body.innerText")
    for words in ("49,012 recipients", "23.3/s", "2 recipients", "7 entries", "harbour"):
        assert words in text
    assert await browser.says("document.querySelector('svg').checkVisibility()")


async def test_nothing_is_asked_of_anybody_else_and_nothing_is_complained_of(stage: Stage, browser: Tab) -> None:
    await browser.open(stage.url)
    await browser.says(COME_BACK)
    await browser.when(
        "performance.getEntriesByType('resource').filter((one) => one.initiatorType === 'fetch').length > 0"
    )
    assert {url.removeprefix(stage.url) for url in browser.asked} >= {"", "page.css", "page.js"}
    assert [url for url in browser.asked if not url.startswith(stage.url)] == []
    assert browser.complaints == []


async def test_content_security_policy_stops_what_would_get_in_all_the_same(stage: Stage, browser: Tab) -> None:
    await browser.open(stage.url)
    await browser.says(
        "window.stopped = []; document.addEventListener('securitypolicyviolation',"
        " (violation) => window.stopped.push(violation.effectiveDirective));"
        "document.body.insertAdjacentHTML('beforeend',"
        ' \'<img src=x onerror="window.ran = 1"><img src="http://127.0.0.2:9/x"><p style="color: red">x</p>\');'
        "const script = document.createElement('script'); script.textContent = 'window.ran = 1';"
        "document.body.append(script)"
    )
    assert await browser.says("window.ran === undefined")
    directives = "['img-src', 'script-src-attr', 'script-src-elem', 'style-src-attr']"
    await browser.when(f"{directives}.every((one) => window.stopped.includes(one))")
    assert browser.complaints != []
    assert (
        await browser.says(f"fetch('{stage.url}'.replace('127.0.0.1', 'localhost')).then(() => 'got', () => 'refused')")
        == "refused"
    )


async def test_hostile_names_stay_text_in_the_first_page_and_in_what_comes_after(stage: Stage, browser: Tab) -> None:
    hostile = moment(
        reason=HOSTILE,
        lists=[ListBacklog(list=HOSTILE, entries=1, recipients=1)],
        guards=[Guard(name=HOSTILE, verdict="stop", reason=HOSTILE)],
        mta=Mta(host=HOSTILE, port=25, state="down", reason=HOSTILE),
    )
    for first, second in ((hostile, moment(reason="calm")), (moment(reason="calm"), hostile)):
        stage.said = first
        await browser.open(stage.url)
        stage.said = second
        await browser.says(COME_BACK)
        await browser.when(
            f"document.querySelector('.reason').textContent {'!' if second is hostile else '='}== 'calm'"
        )
        assert await browser.says("document.querySelectorAll('img, main script').length") == 0
    assert HOSTILE in await browser.says("document.querySelector('[data-live=lists]').innerText")
    assert browser.complaints == []


async def test_phone_shows_everything_without_scrolling_sideways(stage: Stage, browser: Tab) -> None:
    long = ListBacklog(
        list="a-list-with-a-very-long-name-" * 8 + "@lists.example.org", entries=1_000_000, recipients=9_999_999
    )
    stage.said = moment(
        reason="x" * 300, lists=[long, *moment().lists], mta=Mta(host="h" * 200, port=25, reason="r" * 300)
    )
    await browser.looks_like(360, 740)
    await browser.open(stage.url)
    await browser.says("document.querySelector('details').open = true")
    assert await browser.says("document.documentElement.scrollWidth") == 360
    wider = "[...document.querySelectorAll('.scroll')].filter((one) => one.scrollWidth > one.clientWidth).length"
    assert await browser.says(wider) == 0
    assert await browser.says("[...document.querySelectorAll('svg')].map((one) => one.checkVisibility())") == [
        False,
        True,
    ]
    letters = (
        "[...document.querySelectorAll('svg.narrow text')].map((one) => parseFloat(getComputedStyle(one).fontSize))"
    )
    assert min(await browser.says(letters)) >= 12
    assert "9,999,999" in await browser.says("document.querySelector('[data-live=lists]').innerText")


async def test_tables_stay_tables_for_a_screen_reader_on_a_phone(stage: Stage, browser: Tab) -> None:
    await browser.looks_like(360, 740)
    await browser.open(stage.url)
    tree = await browser.call("Accessibility.getFullAXTree")
    roles = [node["role"]["value"] for node in tree["nodes"] if not node["ignored"]]
    assert roles.count("table") == 3
    assert roles.count("rowheader") == len(stage.said.lists) + len(stage.said.guards) + len(stage.said.mailman.queues)
    assert {"banner", "main", "contentinfo", "status", "columnheader", "cell"} <= set(roles)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_text_has_the_contrast_of_wcag_aa_in_every_state(stage: Stage, browser: Tab, scheme: str) -> None:
    await browser.looks_like(1100, 900, scheme)
    guards = [Guard(name=word, verdict=word, reason="r") for word in ("go", "slow", "stop")]
    for state in get_args(ServiceState):
        stage.said = moment(
            state=state, reason="because", guards=guards, mta=Mta(host="h", port=1, state="down", reason="r")
        )
        await browser.open(stage.url)
        await browser.says("document.querySelector('details').open = true; document.getElementById('lost').hidden = false;"
                           "document.getElementById('lost').textContent = 'No answer'")  # fmt: skip
        found = await browser.says(TEXTS_BELOW_AA)
        assert found["seen"] > 80
        assert found["bad"] == [], state
    await browser.says("document.querySelector('.reason').style.setProperty('color', 'rgb(128, 128, 128)')")
    assert (await browser.says(TEXTS_BELOW_AA))["bad"] != []


async def test_dark_scheme_is_dark(stage: Stage, browser: Tab) -> None:
    grounds = []
    for scheme in ("light", "dark"):
        await browser.looks_like(1100, 900, scheme)
        await browser.open(stage.url)
        grounds.append(await browser.says("getComputedStyle(document.body).backgroundColor"))
    assert grounds == ["rgb(244, 245, 247)", "rgb(16, 19, 23)"]
