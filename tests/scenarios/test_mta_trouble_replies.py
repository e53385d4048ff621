"""4xx and 5xx at every step: deferred with growing delays and then delivered, or failed; the others are not kept waiting."""

from __future__ import annotations

import itertools
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from drainer.demo.misbehaviour import Behaviour, Greylisting, Script, SinkStep, answer
from drainer.demo.sink import SinkOptions, SinkThread
from drainer.report.snapshot import Snapshot
from tests.scenarios.running import drainer
from tests.scenarios.troubled import Given, Outbreak, given, once, outbreak

SOON = {"retry_first": "200ms", "retry_longest": "10s"}


class FirstTries:
    """Script: refuses each mail's first `times` tries at one step."""

    def __init__(self, stage: str, reply: str, times: int) -> None:
        self.stage = stage
        self.behaviour = answer(reply)
        self.times = times
        self.tries: Counter[tuple[str, ...]] = Counter()

    def __call__(self, step: SinkStep) -> Behaviour | None:
        if step.stage != self.stage:
            return None
        key = (step.reverse_path, step.recipient, *step.recipients)
        self.tries[key] += 1
        return self.behaviour if self.tries[key] <= self.times else None


def drained(home: Path, script: Script, mails: int = 6, **sections: dict[str, Any]) -> tuple[Outbreak, Counter[Given]]:
    """A site drained to the end into a sink with this script, and what the sink was given."""
    capture = home / "capture.jsonl"
    with SinkThread(SinkOptions(capture=capture), script) as sink:
        site = outbreak(home, sink.port, mails, members_each=3, **{"feed": {**SOON}, **sections})
        site.drain()
    return site, given(capture)


def test_greylisted_recipients_are_deferred_and_then_delivered_once(tmp_path: Path) -> None:
    site, found = drained(tmp_path, Greylisting())
    once("greylisting", site.owed(), found)
    assert {line["reply"].split()[0] for line in site.outcomes("deferred")} == {"450"}


@pytest.mark.parametrize(
    ("stage", "reply"),
    [
        ("mail", "451 4.3.0 later"),
        ("rcpt", "451 4.3.0 later"),
        ("data", "451 4.3.0 later"),
        ("dot", "451 4.3.0 later"),
        ("rcpt", "552 5.5.3 too many recipients"),
        ("dot", "552 5.2.2 mailbox full"),
    ],
)
def test_temporary_refusal_defers_and_what_is_deferred_is_delivered(tmp_path: Path, stage: str, reply: str) -> None:
    site, found = drained(tmp_path, FirstTries(stage, reply, times=2))
    once(f"{reply} at {stage}", site.owed(), found)
    assert any(line["reply"] == reply for line in site.outcomes("deferred"))


def test_delays_grow_until_feed_give_up_after_and_then_the_recipient_has_failed(tmp_path: Path) -> None:
    tried_s: list[float] = []

    def script(step: SinkStep) -> Behaviour | None:
        if not step.recipient.startswith("cem2."):
            return None
        tried_s.append(time.monotonic())
        return answer("450 4.2.0 never")

    feed = {"retry_first": "250ms", "retry_longest": "10s", "give_up_after": "1500ms"}
    capture = tmp_path / "capture.jsonl"
    with SinkThread(SinkOptions(capture=capture), script) as sink:
        site = outbreak(tmp_path, sink.port, 1, members_each=3, feed=feed)
        assert site.outage.entries == 1
        site.drain()
    unlucky = Counter({key: 1 for key in site.owed() if key[2].startswith("cem2.")})
    once("all but one", site.owed() - unlucky, given(capture))
    (failed,) = site.outcomes("failed")
    assert failed["reply"].startswith("given up after") and failed["recipient"].startswith("cem2.")
    waits = [later - earlier for earlier, later in itertools.pairwise(tried_s)]
    assert len(waits) >= 2 and all(wait >= 0.25 * 2**n for n, wait in enumerate(waits)), waits
    assert not site.files("out", "drainer/backlog", "drainer/held")


def test_permanent_refusal_is_recorded_and_the_others_are_delivered(tmp_path: Path) -> None:
    def script(step: SinkStep) -> Behaviour | None:
        return answer("550 5.1.1 no such user") if step.recipient.startswith("ada0.") else None

    capture = tmp_path / "capture.jsonl"
    with SinkThread(SinkOptions(capture=capture), script) as sink:
        site = outbreak(tmp_path, sink.port, 6, members_each=3, feed={**SOON, "max_recipients": 1})
        with site.run() as service:
            said = site.status_when("all is done", lambda said: said.state == "idle")
            service.terminate()
    unlucky = Counter({key: 1 for key in site.owed() if key[2].startswith("ada0.")})
    once("550 at rcpt", site.owed() - unlucky, given(capture))
    assert {line["recipient"].split(".")[0] for line in site.outcomes("failed")} == {"ada0"}
    assert said.done.bounced_recipients == len(site.outcomes("failed")) >= len(unlucky)
    assert not site.files("out", "drainer/backlog")


def all_is_deferred(said: Snapshot) -> bool:
    backlog = said.backlog
    return not backlog.unread_entries and backlog.deferred_recipients == backlog.recipients > 0


def due_times(site: Outbreak) -> dict[str, float]:
    """When each entry that was refused is due; not those that wait for another entry of their message."""
    listed = drainer("entries", "--state", "deferred", "--json", "--config", site.settings)
    return {
        entry["entry"]: entry["due"]
        for entry in json.loads(listed.stdout)["entries"]
        if entry["reason"].startswith("attempt")
    }


def test_restart_keeps_the_times_of_deferrals(tmp_path: Path) -> None:
    capture = tmp_path / "capture.jsonl"
    with SinkThread(SinkOptions(capture=capture), Greylisting()) as sink:
        site = outbreak(tmp_path, sink.port, 3, members_each=3, feed={"retry_first": "1h", "retry_longest": "1h"})
        with site.run() as service:
            before = site.status_when("all is deferred", all_is_deferred)
            due = due_times(site)
            assert due
            service.terminate()
        tried = sink.commands["RCPT"]
        with site.run() as service:
            after = site.status_when("all is deferred", all_is_deferred)
            assert due_times(site) == due
            service.terminate()
        assert sink.commands["RCPT"] == tried, "no recipient was tried again before its time"
    assert after.backlog.deferred_recipients == before.backlog.deferred_recipients > 0
