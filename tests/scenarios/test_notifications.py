"""The real service sends notices to the operator's program and webhook, and nothing they do delays the drain."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import uvloop

from drainer.demo.sink import SinkOptions, SinkThread
from drainer.report.notify import Notifier
from drainer.report.snapshot import Backlog
from drainer.settings.surroundings import NotifySettings
from tests.report.staged import NOW_S, moment
from tests.scenarios.running import eventually
from tests.scenarios.troubled import given, once, outbreak

TOKEN = "token-nobody-may-see"
AT_ONCE = threading.Event()
AT_ONCE.set()


class _Hook(BaseHTTPRequestHandler):
    posted: list[tuple[str, bytes]]
    answers: int
    may_answer: threading.Event

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.posted.append((self.path, body))
        self.may_answer.wait()
        self.send_response(self.answers)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing on standard error."""


@contextmanager
def webhook(answers: int = 200, may_answer: threading.Event = AT_ONCE) -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """The URL of a webhook, and what was posted to it."""
    posted: list[tuple[str, bytes]] = []
    handler = type("Hook", (_Hook,), {"posted": posted, "answers": answers, "may_answer": may_answer})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/{TOKEN}", posted
        finally:
            server.shutdown()
            thread.join()


def program(home: Path, text: str) -> Path:
    path = home / "page-me"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def secret(home: Path, url: str) -> Path:
    path = home / "url"
    path.write_text(url + "\n")
    path.chmod(0o600)
    return path


def test_program_and_webhook_get_the_notice_drained(tmp_path: Path) -> None:
    heard = tmp_path / "heard"
    page_me = program(tmp_path, f'printf "%s\\n" "$1 $DRAINER_EVENT: $DRAINER_TEXT" > {heard}; cat >> {heard}')
    capture = tmp_path / "capture.jsonl"
    with webhook() as (url, posted), SinkThread(SinkOptions(capture=capture)) as sink:
        notify = {"command": [str(page_me), "pager"], "url_file": str(secret(tmp_path, url)), "drained_from": 1}
        site = outbreak(tmp_path / "site", sink.port, 20, notify=notify)
        site.drain()
    once("drained", site.owed(), given(capture))
    first, _, rest = heard.read_text().partition("\n")
    assert first.startswith("pager drained: drained: ")
    by_program, (path, body) = json.loads(rest), posted[0]
    assert path == f"/{TOKEN}" and json.loads(body) == by_program
    assert by_program["status"]["done"]["delivered_recipients"] == site.owed().total()
    assert by_program["event"] == "drained" and f"{site.owed().total():,} recipients delivered" in by_program["text"]
    assert len(posted) == 1
    assert TOKEN not in site.log.read_text()


def test_program_that_hangs_and_webhook_that_refuses_hold_up_nothing(tmp_path: Path) -> None:
    page_me = program(tmp_path, f"echo $$ > {tmp_path / 'pid'}; exec sleep 3600")
    capture = tmp_path / "capture.jsonl"
    with webhook(500) as (url, posted), SinkThread(SinkOptions(capture=capture)) as sink:
        notify = {"command": [str(page_me)], "url_file": str(secret(tmp_path, url)), "after": "0s", "timeout": "1s",
                  "drained_from": 1}  # fmt: skip
        site = outbreak(tmp_path / "site", sink.port, 20, notify=notify)
        with site.run() as service:
            site.until("the program runs", (tmp_path / "pid").exists)
            site.status_when("all is done", lambda said: said.state == "idle")
            site.until("its failing is said", lambda: "event=not_told by=command" in service.log_text())
            assert service.terminate() == 0
    once("drained", site.owed(), given(capture))
    assert "killed" in site.log.read_text()
    assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()
    assert posted and TOKEN not in site.log.read_text()
    assert "answered 500" in site.log.read_text()


def test_program_that_ends_without_reading_its_notice_ends_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    start, heard = asyncio.create_subprocess_exec, tmp_path / "heard"

    async def started_and_gone(*arguments: Any, **options: Any) -> asyncio.subprocess.Process:
        process = await start(*arguments, **options)
        await process.wait()
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", started_and_gone)
    page_me = program(tmp_path, f'echo "$DRAINER_EVENT" > {heard}')

    async def received() -> None:
        notifier = Notifier(NotifySettings(command=(str(page_me),), after=0.0, drained_from=1))
        notifier.observe(moment())
        notifier.observe(moment(at=NOW_S + 1, state="idle", backlog=Backlog()))
        await notifier.last_words()

    uvloop.run(received())
    assert heard.read_text() == "drained\n"
    assert "not_told" not in caplog.text


@pytest.mark.parametrize(("answers", "times"), [(200, 1), (500, 2)])
async def test_notice_that_is_being_posted_as_the_service_ends_is_posted_again_only_if_it_failed(
    tmp_path: Path, answers: int, times: int
) -> None:
    may_answer = threading.Event()
    with webhook(answers, may_answer) as (url, posted):
        notifier = Notifier(NotifySettings(url_file=secret(tmp_path, url), after=0.0, drained_from=1))
        running = asyncio.create_task(notifier.run())
        notifier.observe(moment())
        notifier.observe(moment(at=NOW_S + 1, state="idle", backlog=Backlog()))
        try:
            await asyncio.to_thread(eventually, lambda: bool(posted))
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            ending = asyncio.create_task(notifier.last_words())
            await asyncio.sleep(0)
        finally:
            may_answer.set()
        await ending
    assert len(posted) == times


def test_url_file_that_every_user_may_read_is_reported_and_the_drain_goes_on(tmp_path: Path) -> None:
    capture = tmp_path / "capture.jsonl"
    with webhook() as (url, posted), SinkThread(SinkOptions(capture=capture)) as sink:
        exposed = secret(tmp_path, url)
        exposed.chmod(0o644)
        site = outbreak(tmp_path / "site", sink.port, 5, notify={"url_file": str(exposed), "drained_from": 1})
        site.drain()
    assert not posted
    assert "notify.url_file" in site.log.read_text() and TOKEN not in site.log.read_text()
