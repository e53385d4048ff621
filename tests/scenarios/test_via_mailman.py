"""feed.via = "mailman": a genuine Mailman 3's own outgoing runner delivers what the real service releases to it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from drainer.pickles.restricted import load_pair
from drainer.queuedir.entry import entry_from_pickles
from drainer.queuedir.narrow import with_recipients
from drainer.queuedir.read import read_entry
from tests.mailman3.site import Site
from tests.scenarios.running import (
    Service,
    SinkProcess,
    drainer,
    eventually,
    running_service,
    running_sink,
    site_settings,
    status,
)
from tests.scenarios.test_mailman3_into_postfix import owed_by
from tests.scenarios.troubled import once as all_once
from tests.scenarios.troubled import outbreak

WINDOW = 4


@contextmanager
def outgoing_runner(site: Site, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Mailman's own runner of out/, as its master starts it."""
    overlay = site.directory / f"port-{port}.cfg"
    overlay.write_text(f"[mta]\nsmtp_port: {port}\n[runner.out]\nsleep_time: 0.1s\n")
    command: list[str | Path] = [site.python, site.python.with_name("runner"), "-C", site.config, "--runner=out:0:1"]
    environment = {**os.environ, "MAILMAN_EXTRA_TESTING_CFG": str(overlay)}
    with subprocess.Popen(command, env=environment, cwd=site.directory) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


@contextmanager
def released_to(site: Site, service: Service) -> Iterator[None]:
    """From here on what is in out/ was put there by drainer: Mailman's runner may start and cannot come first."""
    eventually(lambda: "outcome=released" in service.log_text(), service.log_text)
    assert in_out(site.out)
    yield


class Watched:
    """How many entries out/ held at most, seen from outside, again and again."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.most = 0
        self.looks = 0

    def __enter__(self) -> Watched:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.is_set():
            self.most = max(self.most, len({name.rpartition(".")[0] for name in in_out(self._out)}))
            self.looks += 1
            self._over.wait(0.005)


def in_out(out: Path) -> list[str]:
    return [path.name for path in out.iterdir() if path.suffix in (".pck", ".bak")]


def settings_for(site: Site, home: Path, mailman: dict[str, Any] | None = None, **sections: dict[str, Any]) -> Path:
    """drainer cannot reach its MTA: whatever arrives was delivered by Mailman."""
    known = {"flavour": "mailman3", "queue_dir": site.var / "queue", "python": site.python, "config": site.config}
    known["coprocesses"] = 1
    feed = {"via": "mailman", "window": WINDOW, **sections.pop("feed", {})}
    return site_settings(home, 1, {**known, **(mailman or {})}, feed=feed, **sections)


def has_taken(sink: SinkProcess, transactions: int) -> bool:
    return len(sink.taken()) > transactions


def once(sink: SinkProcess, owed: Counter[tuple[str, str]]) -> None:
    deliveries = sink.deliveries()
    assert owed - deliveries == Counter(), "a copy is missing"
    assert deliveries - owed == Counter(), "a second copy was delivered"


@pytest.fixture
def site(mailman3_copy: Site) -> Site:
    mailman3_copy.restore_entries()
    return mailman3_copy


def repeated(site: Site, name: str, seconds: int) -> Path:
    """The same mail in out/ again, under a name of its own."""
    copy = site.out / f"{float(name.partition('+')[0]) + seconds!r}+{seconds:040x}.pck"
    copy.write_bytes(site.entries[name])
    return copy


def test_mailmans_runner_delivers_each_mail_once_within_the_window_and_not_while_paused(
    site: Site, tmp_path: Path
) -> None:
    owed = owed_by(site)
    for seconds, name in enumerate(list(site.entries)[:3], start=60):
        repeated(site, name, seconds)
    settings = settings_for(site, tmp_path, feed={"messages": "25/s"})
    with (
        running_sink(tmp_path / "sink") as sink,
        running_service(settings, tmp_path / "drainer.log") as service,
    ):
        eventually(lambda: len(in_out(site.out)) == WINDOW and not status(settings)["backlog"]["unread_entries"])
        said = status(settings)
        assert said["backlog"]["entries"] == len(site.entries) + 3
        assert said["mailman"]["released_entries"] == WINDOW
        assert said["state"] == "draining" and "start Mailman" in said["reason"]
        with Watched(site.out) as watched, outgoing_runner(site, sink.port):
            eventually(lambda: len(sink.taken()) > 5, service.log_text)
            assert drainer("pause", "--config", settings).returncode == 0
            eventually(lambda: not in_out(site.out), service.log_text)
            released = service.log_text().count("outcome=released")
            said = status(settings)
            assert said["state"] == "paused"
            assert said["backlog"]["entries"] > 0
            assert service.log_text().count("outcome=released") == released < len(site.entries)
            assert drainer("resume", "--config", settings).returncode == 0
            eventually(lambda: status(settings)["state"] == "idle", service.log_text)
        done = status(settings)["done"]
        assert service.terminate() == 0
        once(sink, owed)
    assert watched.looks > 100
    assert 0 < watched.most <= WINDOW
    assert done["delivered_recipients"] == len(owed)
    assert done["delivered_entries"] == len(site.entries)
    assert done["suppressed_entries"] == 3
    assert not in_out(site.out)


def test_each_mail_is_delivered_once_though_drainer_is_killed_again_and_again(site: Site, tmp_path: Path) -> None:
    owed = owed_by(site)
    settings = settings_for(site, tmp_path)
    log = tmp_path / "drainer.log"
    with running_sink(tmp_path / "sink") as sink:
        with running_service(settings, log) as service:
            eventually(lambda: len(in_out(site.out)) == WINDOW and not status(settings)["backlog"]["unread_entries"])
            service.kill()
        with outgoing_runner(site, sink.port):
            for number in range(1, 4):
                with running_service(settings, log) as service:
                    eventually(partial(has_taken, sink, 15 * number), service.log_text)
                    service.kill()
            with running_service(settings, log, "--until-empty") as service:
                assert service.wait() == 0, service.log_text()
        once(sink, owed)
    assert "event=following" in log.read_text()
    assert not in_out(site.out)


def test_shunted_entry_is_held_with_the_reason_and_goes_when_its_list_is_back(site: Site, tmp_path: Path) -> None:
    name = next(name for name, raw in site.entries.items() if b"bare.lists.example.org" in raw)
    site.entries = {name: site.entries[name]}
    owed = owed_by(site)
    site.entries = {name: site.entries[name].replace(b"bare.lists.example.org", b"gone.lists.example.org")}
    site.restore_entries()
    settings = settings_for(site, tmp_path)
    with (
        running_sink(tmp_path / "sink") as sink,
        running_service(settings, tmp_path / "drainer.log") as service,
        released_to(site, service),
        outgoing_runner(site, sink.port),
    ):
        eventually(lambda: status(settings)["backlog"]["held_entries"] == 1, service.log_text)
        held = json.loads(drainer("entries", "--state", "held", "--json", "--config", settings).stdout)["entries"]
        assert [(entry["entry"], entry["reason"].partition(":")[0]) for entry in held] == [(name[:-4], "shunted")]
        assert "shunt/" in held[0]["reason"]
        assert not list((site.var / "queue" / "shunt").iterdir())
        assert sink.taken() == []
        held = site.var / "queue" / "drainer" / "held" / name
        held.write_bytes(held.read_bytes().replace(b"gone.lists.example.org", b"bare.lists.example.org"))
        assert drainer("release", "--list", "gone.lists.example.org", "--yes", "--config", settings).returncode == 0
        eventually(lambda: status(settings)["state"] == "idle", service.log_text)
        once(sink, owed)


def test_recipient_refused_for_now_is_mailmans_to_retry_and_its_second_copy_waits(site: Site, tmp_path: Path) -> None:
    name = next(name for name, raw in site.entries.items() if b"bare.lists.example.org" in raw)
    site.entries = {name: site.entries[name]}
    owed = owed_by(site)
    site.restore_entries()
    repeated(site, name, 60)
    (_, refused) = sorted(owed)[0]
    settings = settings_for(site, tmp_path, mailman={"smtp_log": site.var / "logs" / "smtp.log"})
    retry = site.var / "queue" / "retry"
    with (
        running_sink(tmp_path / "sink", "--rule", f"rcpt 451 4.2.1 later recipient={refused} first=1") as sink,
        running_service(settings, tmp_path / "drainer.log") as service,
    ):
        with outgoing_runner(site, sink.port):
            eventually(lambda: "outcome=handed_over" in service.log_text(), service.log_text)
            eventually(lambda: status(settings)["done"]["delivered_recipients"] == len(owed) - 1, service.log_text)
            assert len(list(retry.iterdir())) == 1
            eventually(lambda: status(settings)["mailman"]["retrying_recipients"] == 1, service.log_text)
            assert "it retries: 1 recipient" in drainer("status", "--config", settings).stdout
            assert sink.deliveries() == owed - Counter({pair: 1 for pair in owed if pair[1] == refused})
            for waiting in list(retry.iterdir()):  # what Mailman's RetryRunner does every 15 minutes
                waiting.rename(site.out / waiting.name)
            eventually(lambda: status(settings)["state"] == "idle", service.log_text)
        done = status(settings)["done"]
        once(sink, owed)
    assert done["delivered_recipients"] == len(owed)
    assert done["suppressed_entries"] == 1


def test_entries_mailman_keeps_for_later_while_its_mta_is_down_are_delivered_once(site: Site, tmp_path: Path) -> None:
    site.entries = dict(list(site.entries.items())[:6])
    owed = owed_by(site)
    site.restore_entries()
    settings = settings_for(site, tmp_path)
    retry = site.var / "queue" / "retry"
    with running_service(settings, tmp_path / "drainer.log") as service:
        with outgoing_runner(site, 1):
            eventually(lambda: service.log_text().count("outcome=handed_over") == 6, service.log_text)
        assert "outcome=delivered" not in service.log_text()
        assert len(list(retry.iterdir())) == 6
        with running_sink(tmp_path / "sink") as sink, outgoing_runner(site, sink.port):
            for waiting in list(retry.iterdir()):  # what Mailman's RetryRunner does every 15 minutes
                waiting.rename(site.out / waiting.name)
            eventually(lambda: sink.deliveries().total() >= owed.total(), service.log_text)
            eventually(lambda: status(settings)["done"]["delivered_recipients"] == len(owed), service.log_text)
            once(sink, owed)


def of_list(site: Site, list_id: str) -> Counter[tuple[str, str]]:
    """What entries of one list owe."""
    entries = site.entries
    try:
        site.entries = {
            name: raw
            for name, raw in entries.items()
            if entry_from_pickles(name[:-4], raw, load_pair(raw)).list_id == list_id
        }
        return owed_by(site)
    finally:
        site.entries = entries


def test_list_named_in_release_lists_goes_through_mailman_and_the_others_do_not(site: Site, tmp_path: Path) -> None:
    owed, left_to_mailman = owed_by(site), of_list(site, "bare.lists.example.org")
    assert left_to_mailman
    with running_sink(tmp_path / "mailmans") as mailmans, running_sink(tmp_path / "ours") as ours:
        settings = settings_for(
            site, tmp_path, {"release_lists": ["bare@lists.example.org"]}, feed={"via": "smtp"}, mta={"port": ours.port}
        )
        with running_service(settings, tmp_path / "drainer.log") as service:
            eventually(lambda: ours.deliveries().total() == (owed - left_to_mailman).total(), service.log_text)
            with outgoing_runner(site, mailmans.port):
                eventually(lambda: status(settings)["state"] == "idle", service.log_text)
        assert mailmans.deliveries() == left_to_mailman
        assert ours.deliveries() == owed - left_to_mailman


def test_second_copy_for_more_recipients_is_released_for_those_alone(site: Site, tmp_path: Path) -> None:
    site.restore_entries()
    entry = max(map(read_entry, sorted(site.out.glob("*.pck"))), key=lambda entry: len(entry.recipients))
    name = f"{entry.filebase}.pck"
    site.entries = {name: site.entries[name]}
    owed = owed_by(site)
    site.restore_entries()
    repeated(site, name, 60)
    (site.out / name).write_bytes(with_recipients(entry, entry.recipients[1:]))
    settings = settings_for(site, tmp_path)
    with (
        running_sink(tmp_path / "sink") as sink,
        running_service(settings, tmp_path / "drainer.log") as service,
    ):
        with outgoing_runner(site, sink.port):
            eventually(lambda: status(settings)["done"]["delivered_entries"] == 2, service.log_text)
        once(sink, owed)
    assert [len(taken["recipients"]) for taken in sink.taken()][-1] == 1


def test_mailman_2_queue_is_handed_to_its_runner_within_the_window_each_mail_once(tmp_path: Path) -> None:
    site = outbreak(
        tmp_path / "site", 1, 40, members_each=3, feed={"via": "mailman", "window": WINDOW}, custody={"poll": "20ms"},
    )  # fmt: skip
    out, delivered = site.outage.queue_dir / "out", tmp_path / "delivered"
    with site.run() as service:
        site.status_when("the window is full", lambda said: said.mailman.released_entries == WINDOW)
        with Watched(out) as watched:
            runner = subprocess.Popen([sys.executable, "-m", "tests.scenarios.mailman_runner", out, delivered])
            site.status_when("all is done", lambda said: said.state == "idle" and not site.files("out"))
            (site.outage.queue_dir / "stop").touch()
            assert runner.wait(60) == 0
        assert service.terminate() == 0
    handled = [json.loads(line) for line in delivered.read_text().splitlines()]
    found = Counter((line["list"], line["message_id"], name) for line in handled for name in line["recipients"])
    all_once("a Mailman 2.1 queue via Mailman", site.owed(), found)
    assert watched.most <= WINDOW
    assert site.outcomes("suppressed")
