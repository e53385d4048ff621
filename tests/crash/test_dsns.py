"""kill -9 around the sending of DSNs: none is lost before its content went out, none goes out twice."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drainer.demo.misbehaviour import SILENCE, TAKE_AND_SILENCE, Behaviour, Rule, SinkStep
from drainer.demo.sample_queue import write_plain
from drainer.demo.sink import Sink, SinkOptions, SinkThread
from tests.scenarios.running import Service, eventually, running_service, status
from tests.scenarios.test_safety_valves import settings_for

MAILS, RECIPIENTS_EACH = 4, 3
NOBODY_THERE = Rule.parse("rcpt 550 5.1.1 no such user recipient=*1.*")
LISTS = ("harbour", "announce", "quay")
TAKEN, NOT_TAKEN = "harbour-bounces@lists.example.org", "announce-bounces@lists.example.org"


def dsns_taken(sink: Sink) -> list[str]:
    """Message-IDs of the DSNs the sink owns."""
    return [taken.message_id for taken in sink.taken if not taken.reverse_path]


def kill_when(settings: Path, log: Path, true_of: Callable[[Service], bool]) -> None:
    with running_service(settings, log) as service:
        eventually(lambda: true_of(service), service.log_text)
        service.kill()


class SilentAfterDsns:
    """Script: falls silent after the final dot of the first DSN for each of these addresses, as it is said for them."""

    def __init__(self, behaviours: dict[str, Behaviour]) -> None:
        self.behaviours = behaviours
        self.silent: set[str] = set()

    def __call__(self, step: SinkStep) -> Behaviour | None:
        if step.stage != "dot" or step.reverse_path or step.recipients[0] in self.silent:
            return None
        if behaviour := self.behaviours.get(step.recipients[0]):
            self.silent.add(step.recipients[0])
        return behaviour

    def all_reached(self) -> bool:
        return self.silent == self.behaviours.keys()


def test_dsns_that_wait_outlive_a_kill_and_an_mta_that_is_down_and_go_out_once(tmp_path: Path) -> None:
    """All are refused, so nothing proves the MTA's word, and they wait for feed.dsn_wait."""
    outage = write_plain(tmp_path / "site", MAILS, RECIPIENTS_EACH)
    with SinkThread(SinkOptions(), Rule.parse("rcpt 550 5.1.1 no such user recipient=*[0-9].*")) as sink:
        settings = settings_for(tmp_path, outage, sink.port, feed={"dsn_wait": "1h"})
        kill_when(settings, tmp_path / "drainer.log", lambda _: waits(settings))
        assert dsns_taken(sink) == []
        port = sink.port
    settings.write_text(settings.read_text().replace('dsn_wait = "1h"', 'dsn_wait = "0s"'))
    log = tmp_path / "again.log"
    with running_service(settings, log, "--until-empty") as service:
        eventually(lambda: status(settings)["state"] == "mta_down", service.log_text)
        assert service.process.poll() is None and waits(settings)
        with SinkThread(SinkOptions(port=port)) as sink:
            assert service.wait() == 0, service.log_text()[-4000:]
            sent = dsns_taken(sink)
    assert len(sent) == len(set(sent)) == log.read_text().count("outcome=dsn_sent") > 0
    assert "outcome=failed" not in log.read_text()


def waits(settings: Path) -> bool:
    said = status(settings)
    return bool(said["backlog"]["entries"] == 0 and said["backlog"]["dsns_owed"] > 0)


@pytest.mark.parametrize("has_log", [True, False], ids=["with_log", "without_log"])
def test_dsn_cut_short_by_a_kill_is_sent_again_only_if_the_mta_has_none(tmp_path: Path, has_log: bool) -> None:
    outage = write_plain(tmp_path / "site", len(LISTS), RECIPIENTS_EACH, lists=LISTS)
    mta_log = tmp_path / "mail.log"
    mta: dict[str, Any] = {"sessions": 4, **({"log_file": mta_log} if has_log else {})}
    script = SilentAfterDsns({TAKEN: TAKE_AND_SILENCE, NOT_TAKEN: SILENCE})
    goes_on_at(mta_log, -60)
    with SinkThread(SinkOptions(log=mta_log), NOBODY_THERE, script) as sink:
        # Silence occupies sessions as long as the MTA likes; then no recipient is left to prove the MTA's reply.
        settings = settings_for(tmp_path, outage, sink.port, mta=mta, feed={"dsn_wait": "0s"})
        # The third one is reported by then: if it were cut short too, its result would not be certain.
        kill_when(
            settings,
            tmp_path / "drainer.log",
            lambda service: script.all_reached() and "outcome=dsn_sent" in service.log_text(),
        )
        sink.hang_up_all()
        goes_on_at(mta_log, +60)
        with running_service(settings, tmp_path / "again.log", "--until-empty") as service:
            assert service.wait() == 0, service.log_text()[-4000:]
        sent = Counter(taken.recipients[0] for taken in sink.taken if not taken.reverse_path)
        assert len(set(dsns_taken(sink))) == len(dsns_taken(sink))
    bounces = {f"{name}-bounces@lists.example.org" for name in LISTS}
    assert sent == Counter(bounces - (set() if has_log else {NOT_TAKEN}))
    said = {line.partition(" to=")[2].split()[0]: line for line in lines_of(tmp_path / "again.log")}
    reasons = (
        {TAKEN: "the MTA's log shows it accepted", NOT_TAKEN: "queued as"}
        if has_log
        else {TAKEN: "it may have been sent: no MTA log to ask", NOT_TAKEN: "it may have been sent: no MTA log to ask"}
    )
    assert {address: reason in said[address] for address, reason in reasons.items()} == dict.fromkeys(reasons, True)


def lines_of(log: Path) -> list[str]:
    """What is said of DSNs in the end."""
    return [
        line for line in log.read_text().splitlines() if "outcome=dsn_sent" in line or "outcome=dsn_dropped" in line
    ]


def goes_on_at(log: Path, from_now_s: float) -> None:
    """A line of another time: only of a log that spans the moment does silence mean anything."""
    stamp = time.strftime("%b %e %H:%M:%S", time.localtime(time.time() + from_now_s))
    with log.open("a") as lines:
        lines.write(f"{stamp} sink postfix/smtpd[1]: connect from localhost[127.0.0.1]\n")
