"""The service looks behind the MTA while it runs: what is there, what cannot be read, and what is set anew."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import drainer.destinations.own_name
import drainer.destinations.traffic
import drainer.rounds.behind_the_mta
from drainer.demo.sample_queue import write_plain
from drainer.demo.sink import Sink
from drainer.operate.domain_orders import DomainOrders
from tests.stages.inside import inside

SAMPLES = Path(__file__).parents[1] / "samples" / "mta_behind"


async def test_running_service_sees_queue_and_log_and_says_what_it_cannot_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drainer.rounds.behind_the_mta, "LOOK_BEHIND_S", 0.01)
    monkeypatch.setattr(drainer.destinations.traffic, "LEAST_S", 0.0)
    log = tmp_path / "mail.log"
    log.touch()
    listing = tmp_path / "postqueue.json"
    listing.write_bytes((SAMPLES / "postqueue.json").read_bytes())
    command = [sys.executable, "-Ic", f"print(open({str(listing)!r}).read())"]
    mta = {"queue": "postfix", "queue_command": command, "log_file": log, "queue_high": 7, "queue_low": 2}
    async with Sink() as sink, inside(tmp_path, write_plain(tmp_path, 2, 2), sink, mta=mta) as run:
        behind = run.service._assembled.surroundings.behind_the_mta
        await run.until("it has looked", lambda: behind.last is not None and behind.last.log_read)
        log.write_bytes((SAMPLES / "postfix.log").read_bytes())
        await run.until("it has heard", lambda: bool(behind.last and "third.example" in behind.last.domains))
        assert behind.last is not None and behind.last.messages == len(listing.read_text().splitlines())
        assert behind.last.domains["gmail.example"].waiting_too_fast > 0
        gmail = next(one for one in (await run.status()).domains if one.domain == "gmail.example")
        assert gmail.queued and gmail.oldest_age_s and "4.7.28" in gmail.deferral_reply
        assert gmail.deferrals_per_s and gmail.arrivals_recipients_per_s, "what the log names has arrived some time"
        assert not (await run.status()).side_failures
        guard = next(guard for guard in (await run.status()).guards if guard.name == "mta_queue")
        assert guard.value == behind.last.messages
        log.unlink()
        log.mkdir()
        await run.until("it says so", lambda: "behind_the_mta" in run.service.side_tasks.failures)
        (failed,) = (await run.status()).side_failures
        assert str(log) in failed.detail and "a directory" in failed.detail


async def test_service_says_that_postfix_has_not_told_its_name_and_asks_until_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "drainer")
    monkeypatch.setattr(drainer.rounds.behind_the_mta, "LOOK_BEHIND_S", 0.01)
    monkeypatch.setattr(drainer.destinations.own_name, "ASK_AGAIN_S", 0.01)
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, script in (("postqueue", "exit 0"), ("postconf", f"test -e {tmp_path}/up && echo postfix")):
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    log = tmp_path / "mail.log"
    log.touch()
    mta = {"queue": "postfix", "log_file": log}
    async with Sink() as sink, inside(tmp_path, write_plain(tmp_path, 2, 2), sink, mta=mta) as run:
        behind = run.service._assembled.surroundings.behind_the_mta
        orders = DomainOrders(run.service.pipeline, run.service.limits)
        await run.until("it has looked", lambda: behind.last is not None)
        shown = await orders.shown("", 5)
        assert "Postfix did not say its name" in shown.trouble and shown.behind
        assert not (await run.status()).side_failures, "the log is read"
        (tmp_path / "up").touch()
        await run.until("it is known", lambda: bool(behind.last and not behind.last.name_trouble))
        await run.until("it says so", lambda: "event=mta_name_known" in caplog.text)
        assert (await orders.shown("", 5)).trouble == ""
    assert caplog.text.count("event=mta_name_unknown") == 1
