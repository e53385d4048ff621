"""Every output of drainer about a hostile site, read by the programs and people that it is made for."""

from __future__ import annotations

import asyncio
import email
import email.message
import email.policy
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.promtool import needs_promtool, promtool, series
from tests.report.browser import chromium, tab
from tests.scenarios.hostile_site import (
    ACCEPTED,
    REFUSED,
    HostileMta,
    HostileSite,
    hostile_mta,
    hostile_site,
    is_of_fields,
    objections,
    texts_in,
)
from tests.scenarios.running import Service, drainer, eventually, site_settings


def status(settings: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(drainer("status", "--json", "--config", settings).stdout)
    return found


@dataclass
class Outputs:
    """What was said, by what said it."""

    site: HostileSite
    mta: HostileMta
    texts: dict[str, str] = field(default_factory=dict)
    jsons: dict[str, Any] = field(default_factory=dict)
    first: dict[str, Any] = field(default_factory=dict)
    page: str = ""
    metrics: bytes = b""
    log: str = ""
    noticed: list[str] = field(default_factory=list)
    environment: str = ""
    home: Path = Path()
    opened: dict[str, tuple[str, int, list[str], list[str], str]] = field(default_factory=dict)


COMMANDS = [
    ["status"], ["entries"], ["show", "ENTRY"], ["show", "<resend@x>"], ["eta"], ["report"], ["report", "--format", "html"],
    ["check"], ["scan"], ["rate"], ["hold", "--subject", "caf"], ["release", "--state", "held"], ["drop", "--sender", "ann"],
    ["config"],
]  # fmt: skip
AS_JSON = [
    ["status"], ["entries"], ["show", "ENTRY"], ["eta"], ["scan"], ["scan", "--entries"], ["rate"], ["config"],
    ["hold", "--subject", "caf"],
]  # fmt: skip
LATER = [["status"], ["entries"], ["show", "ENTRY"], ["report"], ["report", "--format", "html"], ["check"], ["scan"]]
"""Once more when the service has ended."""


async def fetched(port: int) -> tuple[str, bytes, str]:
    async with aiohttp.ClientSession() as session:
        answers = []
        for path in ("/", "/metrics", "/status.json"):
            async with session.get(f"http://127.0.0.1:{port}{path}") as answer:
                assert answer.status == 200
                answers.append(await answer.read())
    return answers[0].decode(), answers[1], answers[2].decode()


async def opened(devtools: str, url: str) -> tuple[str, int, list[str], list[str], str]:
    """What a browser makes of a page: its title, foreign elements, what it complained of and asked for, its text."""
    async with tab(devtools) as shown:
        await shown.open(url)
        foreign = "document.querySelectorAll('img,iframe,textarea,[onclick],[onerror],a[href^=javascript]').length"
        title, odd = await shown.says("document.title"), await shown.says(foreign)
        return title, odd, list(shown.complaints), list(shown.asked), await shown.says("document.body.innerText")


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outputs]:
    home = tmp_path_factory.mktemp("site")
    site = hostile_site(home)
    noticed, program = home / "noticed", home / "page-me"
    program.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$DRAINER_TEXT" >>{noticed}.text\ncat >>{noticed}; echo >>{noticed}\n'
    )
    program.chmod(0o755)
    noticed.touch()
    with hostile_mta() as mta, chromium(home / "profile") as devtools:
        settings = site_settings(
            home,
            mta.port,
            {"flavour": "mailman2", "queue_dir": site.queue_dir, "lists_dir": site.lists_dir},
            web={"listen": "127.0.0.1:0"},
            notify={"command": [str(program)], "after": "0s"},
            feed={"dsn_wait": "1s"},
        )
        found = Outputs(site, mta, home=home)
        service = Service(settings, home / "drainer.log")
        try:
            eventually(lambda: "mta_down" in noticed.read_text(), service.log_text)
            found.first = status(settings)
            port = service.web_port()
            found.opened["page"] = asyncio.run(opened(devtools, f"http://127.0.0.1:{port}/"))
            mta.is_busy.clear()
            eventually(lambda: any(sender == b"<>" for sender, _, _ in mta.taken), service.log_text)
            eventually(lambda: len(json.loads(drainer("entries", "--state", "held", "--json", "--config", settings).stdout)
                                   ["entries"]) >= 3, service.log_text)  # fmt: skip
            sent = site.entries["sent"]
            for key, commands in (("", COMMANDS), (" --json", AS_JSON)):
                for command in commands:
                    arguments = [sent if word == "ENTRY" else word for word in command]
                    ran = drainer(*arguments, *key.split(), "--config", settings)
                    found.texts[" ".join(command) + key] = ran.stdout
                    found.texts[f"{' '.join(command)}{key}: complaints"] = ran.stderr
                    if key:
                        found.jsons[" ".join(command)] = json.loads(ran.stdout)
            found.jsons["report"] = json.loads(drainer("report", "--format", "json", "--config", settings).stdout)
            found.page, found.metrics, page_json = asyncio.run(fetched(int(port)))
            found.jsons["status.json"] = json.loads(page_json)
            (home / "report.html").write_text(found.texts["report --format html"])
            found.opened["report"] = asyncio.run(opened(devtools, (home / "report.html").as_uri()))
            assert service.terminate() == 0, service.log_text()[-3000:]
        finally:
            service.kill()
        for command in LATER:
            ran = drainer(*[sent if word == "ENTRY" else word for word in command], "--config", settings)
            found.texts[f"{' '.join(command)} afterwards"] = ran.stdout + ran.stderr
        found.log = (home / "drainer.log").read_bytes().decode()
        found.noticed = noticed.read_text().splitlines()
        found.environment = noticed.with_suffix(".text").read_text()
        yield found


def test_every_text_is_printable_utf8_and_no_field_is_endless(outputs: Outputs) -> None:
    found = {name: objections(text) for name, text in outputs.texts.items()}
    assert {name: wrong for name, wrong in found.items() if wrong} == {}
    assert all("Traceback" not in text for text in outputs.texts.values())
    assert all(outputs.texts[" ".join(command)] for command in COMMANDS if command[0] != "show"), "each said something"


def test_every_text_of_every_json_is_printable_and_bounded(outputs: Outputs) -> None:
    found = {
        name: [wrong for text in texts_in(value) for wrong in objections(text)] for name, value in outputs.jsons.items()
    }
    assert {name: wrong[:3] for name, wrong in found.items() if wrong} == {}
    assert "caf\\xe9" in outputs.first["reason"] and "\\x1b[2J" in outputs.first["reason"], "the MTA's words, whole"


def test_log_is_lines_of_fields_and_none_is_endless(outputs: Outputs) -> None:
    lines = outputs.log.splitlines()
    assert [line[:300] for line in lines if not is_of_fields(line) or objections(line, lines=False)] == []
    assert max(map(len, lines)) < 8000, "a syslog daemon cuts there"


def test_table_of_the_markdown_report_has_its_columns_in_every_row(outputs: Outputs) -> None:
    blocks = re.findall(r"(?:^\|.*\n)+", outputs.texts["report"], re.MULTILINE)
    assert blocks
    for block in blocks:
        columns = {len(re.findall(r"(?<!\\)\|", re.sub(r"\\\\", "", line))) for line in block.splitlines()}
        assert len(columns) == 1, block[:2000]


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen |= {tag, *(name for name, _ in attrs if name.startswith("on"))}


@pytest.mark.parametrize("name", ["page", "report"])
def test_no_markup_of_a_stranger_becomes_an_element_or_runs(outputs: Outputs, name: str) -> None:
    parser = _Elements()
    parser.feed(outputs.page if name == "page" else outputs.texts["report --format html"])
    assert not parser.seen & {"img", "iframe", "textarea", "onerror", "onclick"}
    title, foreign, complaints, asked, text = outputs.opened[name]
    assert "run" not in title and foreign == 0 and complaints == []
    assert all(url.startswith(("http://127.0.0.1:", "file:///")) for url in asked)
    assert "<script>document.title='run'</script>" in text, "it is shown as what it is: text"


@needs_promtool
def test_prometheus_takes_the_metrics(outputs: Outputs) -> None:
    promtool("check", "metrics", given=outputs.metrics)
    assert series(outputs.metrics) and objections(outputs.metrics.decode()) == []


@pytest.mark.parametrize("when", ["", " afterwards"])
def test_plugin_has_performance_data_of_ours_alone(outputs: Outputs, when: str) -> None:
    first, *rest = outputs.texts[f"check{when}"].splitlines()
    _, bar, performance = first.partition("|")
    assert bar and re.fullmatch(r"( ('[^'|]*'|[\w.-]+)=[0-9.e+-]+[s%]?(;[0-9.@:~]*){0,4})+", performance), performance
    assert all("|" not in line for line in rest)


def test_notices_are_whole_and_printable(outputs: Outputs) -> None:
    assert outputs.noticed
    for line in outputs.noticed:
        assert [wrong for text in texts_in(json.loads(line)) for wrong in objections(text, lines=False)] == []
    assert objections(outputs.environment) == [] and "caf\\xe9" in outputs.environment


def test_dsn_is_a_report_any_mailman_reads(outputs: Outputs) -> None:
    (content,) = (
        content for sender, _, content in outputs.mta.taken if sender == b"<>" and REFUSED.encode() in content
    )
    assert content.isascii() and not re.search(rb"[^\t\r\n -~]", content)
    assert max(map(len, content.split(b"\r\n"))) <= 998
    report = email.message_from_bytes(content, policy=email.policy.default)
    assert report.get_content_type() == "multipart/report"
    status_part = report.get_payload(1)
    assert isinstance(status_part, email.message.Message)
    fields = status_part.get_payload()
    assert [part["Final-Recipient"] for part in fields[1:]] == [f"rfc822; {REFUSED}"]  # type: ignore[index]
    assert fields[1]["Diagnostic-Code"].startswith("smtp; 550 5.1.1")  # type: ignore[index]


def test_mail_beside_it_is_delivered_and_other_files_in_out_are_named(outputs: Outputs) -> None:
    taken = [recipient for sender, recipients, _ in outputs.mta.taken if sender != b"<>" for recipient in recipients]
    assert f"<{ACCEPTED}>".encode() in taken
    (skipped,) = outputs.jsons["status"]["mailman"]["skipped"]
    assert (skipped["directory"], skipped["files"]) == ("out", 2)
    for output in ("status", "report", "scan"):
        assert "1700000000.5+directory.pck" in outputs.texts[output], output
    assert "event=not_entries directory=out files=2" in outputs.log
