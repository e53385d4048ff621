"""`make places`: one real drain of some five minutes, seen from every place at several moments.

Exit status 0 when every place agreed with every other at each moment nothing moved, and at the end with the sink.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
from base64 import b64decode
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from drainer.demo.misbehaviour import Rule
from drainer.demo.sink import SinkOptions, SinkThread
from tests.places.agreement import asked, disagreements, figures
from tests.postfix import free_port
from tests.promtool import promtool
from tests.report.browser import chromium, tab
from tests.scenarios.test_notifications import program, secret, webhook
from tests.scenarios.troubled import WITHIN_S, Outbreak, given, outbreak

MAILS = 1000
MESSAGES, FASTER = "4/s", "5/s"
OUTAGE_S, PAUSE_S = 40.0, 30.0
RULES = (
    "rcpt 550 5.1.1 no such user recipient=tara* first=12",
    "rcpt 450 4.2.0 greylisted recipient=*.choir@uni.example.org first=60",
    "dot take-and-hang-up every=400",
)
_SCREENS = (("desktop", 1100, "light", True), ("phone", 360, "light", True), ("dark", 1100, "dark", True),
            ("without-javascript", 1100, "light", False))  # fmt: skip


class Heard:
    """What systemd would get: the newest STATUS=, and whether READY=1 and WATCHDOG=1 came."""

    def __init__(self, address: Path) -> None:
        self.status = ""
        self.words: Counter[str] = Counter()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(address))
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            for line in self._socket.recv(65536).decode().splitlines():
                name, _, value = line.partition("=")
                self.words[name] += 1
                if name == "STATUS":
                    self.status = value


class Drain:
    """The site, its service, and the directory that what was seen goes to."""

    def __init__(self, site: Outbreak, web: str, seen: Path, devtools: str) -> None:
        self.site, self.web, self.seen, self.devtools = site, web, seen, devtools
        self.heard = Heard(site.home / "notify")
        self.disagreed: list[str] = []
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "NOTIFY_SOCKET": str(self.site.home / "notify"), "WATCHDOG_USEC": "10000000"}
        with self.site.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "drainer", "run", "--config", str(self.site.settings)],
                stdout=log, stderr=log, env=environment,
            )  # fmt: skip

    def start_again(self) -> None:
        self.process = self._start()

    def says(self, *arguments: str, columns: int = 80) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "drainer", *arguments, "--config", str(self.site.settings)],
            capture_output=True, text=True, timeout=120, env={**os.environ, "COLUMNS": str(columns)},
        )  # fmt: skip
        return done.stdout + done.stderr + (f"(exit status {done.returncode})\n" if done.returncode else "")

    def look(self, name: str, *, still: bool = False, screens: bool = True) -> None:
        """Write down what every place says now. still: nothing moves, so that the figures have to be the same."""
        there = self.seen / name
        there.mkdir()
        print(f"{time.strftime('%H:%M:%S')}  {name}", flush=True)
        texts = {
            f"status-{columns}": self.says("status", columns=columns)
            for columns in (80, 40, 132)[: 3 if screens else 1]
        }
        texts["systemd"] = f"{self.heard.status}\n{dict(self.heard.words)}"
        texts["check"] = self.says("check")
        texts["report"] = self.says("report")
        if screens:
            texts["eta"] = self.says("eta") + self.says("eta", "--at", "200/s") + self.says("eta", "--by", "+10m")
            texts["eta-list"] = self.says("eta", "--list", "choir")
            texts["entries"] = self.says("entries", "--limit", "10") + self.says("entries", "--state", "held")
            texts["watch"] = self._in_tmux()
        try:
            said = asked(self.site.settings, self.web, self.heard.status)
        except (urllib.error.URLError, json.JSONDecodeError) as exc:
            texts["page"] = f"no answer: {exc}"
        else:
            promtool("check", "metrics", given=said.metrics)
            texts["metrics"] = said.metrics.decode()
            texts["page.html"] = said.page
            texts["status.json"] = json.dumps(said.status, indent=2)
            if still:
                found = disagreements(figures(said))
                texts["agreement"] = "\n".join(found) or "all agree"
                self.disagreed += [f"{name}: {one}" for one in found]
            if screens:
                asyncio.run(self._screens(there))
        (there / "report.html").write_text(self.says("report", "--format", "html"))
        for what, text in texts.items():
            (there / what).write_text(text)

    def _in_tmux(self) -> str:
        name = f"drainer-places-{os.getpid()}"
        command = f"{sys.executable} -m drainer status --watch --config {self.site.settings}"
        subprocess.run(["tmux", "new-session", "-d", "-s", name, "-x", "80", "-y", "24", command], check=True)
        try:
            until("something is on the screen", lambda: _captured(name).strip())
            return _captured(name)
        finally:
            subprocess.run(["tmux", "kill-session", "-t", name], check=False)

    async def _screens(self, there: Path) -> None:
        async with tab(self.devtools) as browser:
            for name, width, scheme, script in _SCREENS:
                await browser.call("Emulation.setScriptExecutionDisabled", value=not script)
                await browser.looks_like(width, scheme=scheme)
                await browser.open(self.web)
                picture = await browser.call("Page.captureScreenshot", captureBeyondViewport=True)
                (there / f"{name}.png").write_bytes(b64decode(picture["data"]))
            assert not browser.complaints, browser.complaints


def until(what: str, is_so: Callable[[], object], within_s: float = WITHIN_S) -> None:
    deadline_s = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < deadline_s, f"not within {within_s:g} s: {what}"
        time.sleep(0.2)


def _captured(session: str) -> str:
    return subprocess.run(["tmux", "capture-pane", "-p", "-t", session], capture_output=True, text=True).stdout


def through_it_all(drain: Drain, sink: Callable[[], SinkThread], home: Path) -> None:
    """The story. sink: makes one that listens on the port of the settings."""
    site = drain.site

    def delivered(recipients: int) -> None:
        def is_so() -> bool:
            said = site.status()
            return said is not None and said.done.delivered_recipients >= recipients

        until(f"{recipients} delivered", is_so, 600)

    owed = site.owed().total()
    mta = sink()
    mta.__enter__()
    until("it listens", site.status)
    drain.look("01-just-started", screens=False)
    delivered(owed // 8)
    drain.look("02-draining")
    drain.says("pause", "--reason", "the provider asked for half an hour")
    site.status_when("it stands still", lambda said: said.state == "paused" and not said.backlog.in_doubt_recipients)
    began_s = time.monotonic()
    drain.look("03-paused", still=True)
    until("the pause has lasted", lambda: time.monotonic() - began_s >= PAUSE_S, 600)
    drain.says("resume", "--reason", "they called back")
    drain.says("rate", "--messages", FASTER, "--reason", "the MTA is bored")
    delivered(owed * 3 // 8)
    drain.look("04-draining-on", screens=False)
    mta.__exit__(None, None, None)
    site.status_when("the MTA is down", lambda said: said.state == "mta_down")
    began_s = time.monotonic()
    drain.look("05-mta-down", still=True)
    until("the outage has lasted", lambda: time.monotonic() - began_s >= OUTAGE_S, 600)
    mta = sink()
    mta.__enter__()
    delivered(owed * 5 // 8)
    drain.look("06-after-the-outage", screens=False)
    drain.process.send_signal(signal.SIGSTOP)
    (drain.seen / "07-stopped-by-sigstop").write_text(drain.says("check", "--timeout", "6s"))
    drain.process.send_signal(signal.SIGCONT)
    drain.process.kill()
    drain.process.wait()
    drain.look("08-killed", screens=False)
    drain.start_again()
    site.status_when("it drains again", lambda said: said.state == "draining")
    delivered(owed * 7 // 8)
    drain.look("09-near-the-end")
    until("all is settled", lambda: (said := site.status()) is not None and said.state == "idle"
          and not said.backlog.in_doubt_recipients and not said.backlog.dsns_owed, 900)  # fmt: skip
    drain.look("10-drained", still=True)
    shown = site.outcomes("in_doubt")[:1]
    for message_id in [min(site.outage.held)[1], *(line["message_id"] for line in shown)]:
        with (drain.seen / "10-drained/show").open("a") as file:
            file.write(drain.says("show", message_id) + "\n")
    mta.__exit__(None, None, None)
    drain.process.terminate()
    drain.process.wait()
    drain.look("11-stopped", screens=False)


def compared(drain: Drain, capture: Path) -> list[str]:
    """What the sink has, against what was owed and what the report says."""
    report = json.loads(drain.says("report", "--format", "json"))
    taken, owed = given(capture), drain.site.owed()
    wrong = []
    bounced = {(line["list"], line["message_id"], line["recipient"]) for line in report["bounced"]["lines"]}
    if taken - owed or (owed - taken).keys() - bounced:
        wrong.append("the sink has not what was owed")
    if report["done"]["delivered_recipients"] != taken.total():
        wrong.append(f"delivered: the report says {report['done']['delivered_recipients']}, the sink {taken.total()}")
    if report["backlog"]["held_entries"] != len(drain.site.outage.held):
        wrong.append("held entries are not the resends")
    return wrong


@contextmanager
def notified(home: Path) -> Iterator[dict[str, object]]:
    """Settings of [notify] with a program and a webhook; the notices they get go into files of `home`."""
    page_me = program(home, f'echo "$DRAINER_EVENT: $DRAINER_TEXT" >> {home / "paged"}')
    with webhook() as (url, posted):
        yield {"command": [str(page_me)], "url_file": str(secret(home, url)), "after": "5s", "quiet": "10s",
               "events": ["drained", "stopped_by_guard", "mta_down", "stalled", "held", "recovered"]}  # fmt: skip
        (home / "posted").write_text("".join(f"{json.loads(body)['text']}\n" for _, body in posted))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.places", description=__doc__)
    parser.add_argument("directory", type=Path, help="what was seen goes there; must not exist")
    seen: Path = parser.parse_args().directory.resolve()
    home = seen / "site"
    home.mkdir(parents=True)
    capture, log, port, web = home / "capture.jsonl", home / "mail.log", free_port(), free_port()
    capture.touch()
    rules = tuple(Rule.parse(line) for line in RULES)
    with chromium(home / "profile") as devtools, notified(home) as notify:
        site = outbreak(
            home, port, MAILS, mta={"log_file": log, "sessions": 4}, web={"listen": f"127.0.0.1:{web}"}, notify=notify,
            feed={"messages": MESSAGES, "adaptive": True, "retry_first": "20s"}, ledger={"in_doubt": "ask"},
        )  # fmt: skip
        drain = Drain(site, f"http://127.0.0.1:{web}", seen, devtools)
        options = SinkOptions(port=port, capture=capture, log=log)
        try:
            through_it_all(drain, lambda: SinkThread(options, *rules), home)
        finally:
            drain.process.kill()
    wrong = [*drain.disagreed, *compared(drain, capture)]
    shutil.rmtree(home / "profile", ignore_errors=True)
    print("\n".join(wrong) or f"every place agrees, and with the sink; all of it is in {seen}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
