"""The incident report of one eventful drain: the same in every form, from the service and from its ledger alone."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from drainer.clock import StoppedClock
from drainer.demo.misbehaviour import TAKE_AND_HANG_UP, Behaviour, SinkStep, answer
from drainer.demo.sink import SinkOptions, SinkThread
from drainer.estimate.eta import Eta
from drainer.ledger.sqlite import SqliteLedger
from drainer.report.inventory import Inventory
from drainer.report.record_writer import RecordWriter
from drainer.report.snapshot import Backlog
from tests.places.agreement import Statements, asked, disagreements, figures
from tests.postfix import free_port
from tests.report.browser import chromium, tab
from tests.report.staged import NOW_S, moment
from tests.scenarios import operated
from tests.scenarios.running import drainer, eventually
from tests.scenarios.troubled import Outbreak, given, outbreak

MAILS = 54
ME = pwd.getpwuid(os.geteuid()).pw_name
REASON = "disk of <b>lists1</b> | nearly full"
REPLY = "550 5.1.1 no such user"
UNLIMITED = (None, None)


class Misbehaves:
    """Script: one recipient is refused for good; the reply to one mail is lost, though the sink owns it."""

    def __init__(self) -> None:
        self.refused = ""
        self.doubts = 1

    def __call__(self, step: SinkStep) -> Behaviour | None:
        if step.stage == "rcpt" and step.recipient == self.refused:
            return answer(REPLY)
        if step.stage == "dot" and step.reverse_path and self.doubts:
            self.doubts -= 1
            return TAKE_AND_HANG_UP
        return None


@dataclass(slots=True)
class Reported:
    """What was said at the end, while the service ran and after it had stopped; said: by every place."""

    site: Outbreak
    capture: Path
    refused: str
    said: Statements
    status: dict[str, Any]
    live: dict[str, dict[str, Any] | str]
    after: dict[str, dict[str, Any] | str]

    def json(self, when: str) -> dict[str, Any]:
        found = getattr(self, when)["json"]
        assert isinstance(found, dict)
        return found


def says(site: Outbreak, *arguments: str) -> str:
    done = drainer(*arguments, "--config", site.settings)
    assert (done.returncode, done.stderr) == (0, ""), (arguments, done.stdout[-2000:], done.stderr)
    return done.stdout


def as_json(site: Outbreak) -> dict[str, Any]:
    found = json.loads(says(site, "report", "--format", "json"))
    assert isinstance(found, dict)
    return found


def written_down(site: Outbreak, state: str) -> None:
    """Wait until the report has this state: a task of its own writes down what the state became."""
    eventually(lambda: state in [line["what"] for line in as_json(site)["timeline"]["lines"]])


def reports(site: Outbreak) -> dict[str, dict[str, Any] | str]:
    return {
        "json": as_json(site),
        "markdown": says(site, "report"),
        "html": says(site, "report", "--format", "html"),
    }


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reported]:
    home = tmp_path_factory.mktemp("report")
    capture, log = home / "capture.jsonl", home / "mail.log"
    script = Misbehaves()
    with SinkThread(SinkOptions(capture=capture, log=log), script) as sink:
        site = outbreak(
            home, sink.port, MAILS, members_each=3, mta={"log_file": log}, feed={"messages": "0/s"},
            ledger={"in_doubt": "ask"}, web={"listen": f"127.0.0.1:{(web := free_port())}"},
        )  # fmt: skip
        script.refused = min(recipient for _, _, recipient in site.owed())
        with site.run() as service:
            site.status_when(
                "all is read",
                lambda said: (
                    said.state == "paused"
                    and not said.backlog.unread_entries
                    and said.backlog.entries + said.backlog.held_entries == site.outage.entries
                ),
            )
            written_down(site, "paused")
            says(site, "pause", "--reason", REASON)
            says(site, "rate", "--messages", "500/s", "--reason", "the provider agreed")
            says(site, "resume", "--reason", "room again")
            site.status_when(
                "all is settled",
                lambda said: (
                    said.state == "idle" and not said.backlog.in_doubt_recipients and not said.backlog.dsns_owed
                ),
            )
            written_down(site, "idle")
            said = asked(site.settings, f"http://127.0.0.1:{web}")
            html = says(site, "report", "--format", "html")
            live: dict[str, dict[str, Any] | str] = {"json": said.report, "markdown": said.report_text, "html": html}
            assert service.terminate() == 0
        before = {path.name: path.stat().st_mtime_ns for path in home.glob("ledger*")}
        after = reports(site)
        assert {path.name: path.stat().st_mtime_ns for path in home.glob("ledger*")} == before
        yield Reported(site, capture, script.refused, said, said.status, live, after)


def test_every_place_shows_the_same_figures(reported: Reported) -> None:
    found = figures(reported.said)
    assert set(found) == {"status --json", "status", "metrics", "page", "check", "report --format json", "report"}
    assert disagreements(found) == []
    of_metrics = found["metrics"]
    for name in ("held entries", "delivered recipients", "suppressed entries", "bounced recipients"):
        assert of_metrics[name], name


@pytest.mark.parametrize("when", ["live", "after"])
def test_figures_are_those_of_status_and_of_the_sink(reported: Reported, when: str) -> None:
    found, done = reported.json(when), reported.status["done"]
    assert found["done"] == done
    assert found["live"] is (when == "live")
    delivered = given(reported.capture)
    assert max(delivered.values()) == 1
    assert done["delivered_recipients"] == delivered.total()
    assert found["found"]["entries"] == reported.site.outage.entries
    assert found["backlog"]["held_entries"] == found["held"]["total"] == len(reported.site.outage.held) > 0
    by_list = found["found"]["by_list"]
    assert sum(one["suppressed"] for one in by_list) == done["suppressed_entries"] > 0
    assert sum(one["delivered"] for one in by_list) == done["delivered_entries"] > 0
    assert {one["list"] for one in by_list} == {list_name for list_name, _ in reported.site.outage.owed}
    assert (found["began"] is not None, found["ended"] is not None) == (True, True)


@pytest.mark.parametrize("when", ["live", "after"])
def test_each_suppression_names_the_entry_that_was_delivered(reported: Reported, when: str) -> None:
    found = reported.json(when)
    lines = found["suppressed"]["lines"]
    assert found["suppressed"]["total"] == len(lines)
    assert sum(line["recipients"] for line in lines) == reported.status["done"]["suppressed_recipients"]
    finished = {line["filebase"] for line in reported.site.outcomes("finished")}
    for line in lines:
        assert line["of"] in finished and line["of"] != line["entry"]
        assert found["since"] - 1 <= line["of_at"] <= line["at"] <= found["at"]
    assert {line["kind"] for line in lines} >= {"exact"}


@pytest.mark.parametrize("when", ["live", "after"])
def test_refusals_doubts_holds_and_operators_are_told_with_their_reasons(reported: Reported, when: str) -> None:
    found = reported.json(when)
    assert found["bounced"]["total"] == reported.status["done"]["bounced_recipients"] > 0
    for line in found["bounced"]["lines"]:
        assert (line["recipient"], line["reply"]) == (reported.refused, REPLY)
    # A second copy that is refused like the first is no news to the list.
    mails = [(line["dsn"], line["message_id"]) for line in found["bounced"]["lines"]]
    sent = {message_id for dsn, message_id in mails if dsn == "sent"}
    assert {dsn for dsn, _ in mails} == {"sent", "before"} and {message_id for _, message_id in mails} == sent
    assert len(sent) == reported.status["done"]["dsns_sent"]
    assert found["dsns"] == {"sent": reported.status["done"]["dsns_sent"], "dropped": 0, "owed": 0}
    (doubt,) = found["doubts"]["lines"]
    assert (doubt["outcome"], doubt["why"]) == ("delivered", "the MTA's log shows it accepted")
    assert {(doubt["message_id"], recipient) for recipient in doubt["recipients"]} == reported.site.in_doubt()
    assert {line["reason"].partition(":")[0] for line in found["held"]["lines"]} == {"resend"}
    assert {(line["list"], line["message_id"]) for line in found["held"]["lines"]} == reported.site.outage.held
    actions = [(line["by"], line["action"], line["detail"]) for line in found["actions"]["lines"]]
    assert actions == [
        (ME, "pause", f"everything: {REASON}"),
        (ME, "rate", "messages 500/s, recipients as the settings say: the provider agreed"),
        (ME, "resume", "everything: room again"),
    ]
    course = [moment["what"] for moment in found["timeline"]["lines"] if moment["kind"] in ("run", "state", "operator")]
    wanted = ["started", "paused", "pause", "rate", "resume", "idle", *(["stopped"] if when == "after" else [])]
    assert [what for what in dict.fromkeys(course) if what in wanted] == wanted


@pytest.mark.parametrize("when", ["live", "after"])
def test_markdown_and_html_say_the_same_and_nothing_foreign_is_markup(reported: Reported, when: str) -> None:
    found, texts = reported.json(when), getattr(reported, when)
    done = found["done"]
    for text in (texts["markdown"], texts["html"]):
        assert (
            f"Delivered: {done['delivered_entries']:,} entries to {done['delivered_recipients']:,} recipients" in text
        )
        assert f"Suppressed: {done['suppressed_recipients']:,} second copies" in text
        assert all(line["of"].replace("+", "+") in text for line in found["suppressed"]["lines"])
        assert REPLY in text and ME in text and "the provider agreed" in text
        assert "<b>" not in text
    assert r"disk of \<b\>lists1\</b\> \| nearly full" in texts["markdown"]
    assert "disk of &lt;b&gt;lists1&lt;/b&gt; | nearly full" in texts["html"]
    assert ("Not known: the state at this moment" in texts["markdown"]) is (when == "after")


async def test_html_is_one_file_that_asks_for_nothing_and_fits_a_phone(reported: Reported, tmp_path: Path) -> None:
    file = tmp_path / "incident.html"
    said = says(reported.site, "report", "--output", str(file))
    assert said.startswith(f"{file}: ") and stat.S_IMODE(file.stat().st_mode) & 0o007 == 0
    with chromium(tmp_path / "profile") as devtools:
        async with tab(devtools) as browser:
            for width, scheme in ((1100, "light"), (360, "dark")):
                await browser.looks_like(width, scheme=scheme)
                await browser.open(file.as_uri())
                assert await browser.says("document.documentElement.scrollWidth") <= width
                charts = "[...document.querySelectorAll('svg')].filter(chart => chart.checkVisibility()).length"
                assert await browser.says(charts) == 1
            assert set(browser.asked) == {file.as_uri()}
            assert browser.complaints == []


def test_fate_of_a_message_is_told_long_after_its_entries_are_gone(reported: Reported) -> None:
    with reported.site.run():
        found = reported.json("after")
        copy = next(line for line in found["suppressed"]["lines"] if line["kind"] == "exact")
        said = says(reported.site, "show", copy["message_id"])
        assert "delivered" in said
        assert f"{copy['recipients']} recipients had it by {copy['of']}" in said and copy["entry"] in said
        bounced = found["bounced"]["lines"][0]
        said = says(reported.site, "show", bounced["message_id"])
        assert f"{bounced['recipient']}: {REPLY}; DSN sent" in said
        said = says(reported.site, "show", found["doubts"]["lines"][0]["message_id"])
        assert "was in doubt, delivered: the MTA's log shows it accepted" in said


def test_report_of_a_second_outage_leaves_out_the_first(reported: Reported) -> None:
    site, queue_dir = reported.site, reported.site.outage.queue_dir
    before = reported.json("after")
    begin = datetime.now().astimezone()
    # The next copy is offered again to recipients that had none; those of the refused mails must not come back.
    refused = {line["message_id"] for line in before["bounced"]["lines"]}
    wanted = {line["entry"] for line in before["suppressed"]["lines"] if line["message_id"] not in refused}
    kept = sorted((queue_dir / "drainer/duplicates").glob("*.pck"))
    restored = [path for path in kept if path.name.removesuffix(".pck") in wanted]
    for path in restored:
        shutil.copyfile(path, queue_dir / "out" / path.name)
    with site.run() as service:
        site.status_when(
            "the second outage is over",
            lambda said: (
                said.state == "idle"
                and said.done.suppressed_entries == before["done"]["suppressed_entries"] + len(restored)
            ),
        )
        of_service = says(site, "report", "--format", "json", "--since", begin.isoformat())
        assert service.terminate() == 0
    for second in (json.loads(of_service), json.loads(says(site, "report", "--format", "json", "--since", str(begin)))):
        assert second["done"] == {
            **dict.fromkeys(before["done"], 0), "suppressed_entries": len(restored),
            "suppressed_recipients": second["done"]["suppressed_recipients"], "since": second["since"],
        }  # fmt: skip
        assert second["suppressed"]["total"] >= len(restored) > 0
        assert sum(one["suppressed"] for one in second["found"]["by_list"]) == len(restored)
        assert (second["bounced"]["total"], second["doubts"]["total"], second["actions"]["total"]) == (0, 0, 0)
        assert second["timeline"]["lines"][0]["what"] == "started"
        assert second["since"] <= second["asked_since"] == begin.timestamp()
    everything = json.loads(says(site, "report", "--format", "json"))
    assert everything["done"]["suppressed_entries"] == before["done"]["suppressed_entries"] + len(restored)
    assert everything["done"]["delivered_entries"] == before["done"]["delivered_entries"]
    assert f"the last count recorded before {begin:%Y-%m-%d %H:%M:%S}" in says(site, "report", "--since", str(begin))


async def _an_hour_foretold(ledger: Path) -> None:
    """A drain of an hour, one recipient a second, recorded as the service records it. What is foretold is a tenth too long;
    in the first half the interval is wide enough for that, then it begins behind the truth."""
    clock = StoppedClock(NOW_S)
    kept = SqliteLedger(ledger, clock)
    await kept.open()
    recorder = RecordWriter(kept, clock, lambda snapshot: Inventory(snapshot=snapshot))
    await recorder.start("0")
    for second in range(0, 3600, 60):
        left_s = 3600.0 - second
        eta = Eta(
            state="draining", seconds=1.1 * left_s, low_s=(0.9 if second < 1800 else 1.05) * left_s, high_s=1.3 * left_s
        )
        recorder.observe(
            moment(at=NOW_S + second, eta=eta, backlog=Backlog(entries=9, recipients=int(left_s))), UNLIMITED
        )
    through = moment(at=NOW_S + 3600, state="idle", eta=Eta(state="done"), backlog=Backlog())
    recorder.observe(through, UNLIMITED)
    await recorder.end(through, "SIGTERM")
    await kept.close()


async def test_status_and_report_say_how_good_the_forecasts_were(tmp_path: Path) -> None:
    site = outbreak(tmp_path, free_port(), 0)
    await _an_hour_foretold(tmp_path / "ledger.sqlite")
    said = says(site, "report")
    # Left when they were made: 60, 59, ..., 1 minutes; a tenth of that is the error.
    assert (
        "Of 60 forecasts of the finish time that can be compared with what came, 30 (50 %) had it in their interval"
        in said
    )
    assert "the median error was 3 min 03 s" in said
    assert "| up to 10 min | 10 | 0 % | 33 s |" in said
    assert "| up to 1 h 00 min | 50 | 60 % | 3 min 33 s |" in said
    with site.run():
        status = " ".join(says(site, "status").split())
    assert "Forecasts 30 of 60 finish times came within their interval; median error 3 min 03 s" in status


def test_without_service_and_ledger_it_says_so(tmp_path: Path) -> None:
    site = outbreak(tmp_path, 1, 1, members_each=3)
    done = drainer("report", "--config", site.settings)
    assert (done.returncode, done.stdout) == (3, "")
    assert "there is no ledger; was drainer ever run with these settings?" in done.stderr


def test_found_backlog_stays_the_same_while_part_of_it_is_delivered(tmp_path: Path) -> None:
    feed = {"retry_first": "1h", "retry_longest": "1h"}
    with operated.site(tmp_path, 6, "--rule", "rcpt 450 4.2.0 later recipient=[a-m]*", feed=feed) as lists, lists.run():
        lists.status_when(
            lambda said: (
                said["done"]["delivered_recipients"] > 0
                and said["backlog"]["recipients"] == said["backlog"]["deferred_recipients"] > 0
            )
        )
        found = json.loads(lists.says("report", "--format", "json"))["found"]
    assert (found["entries"], found["recipients"]) == (lists.outage.entries, lists.outage.recipients)
