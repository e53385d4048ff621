"""kill -9 around the sending of DSNs: none is lost before its content went out, none goes out twice."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drainer.demo.sample_queue import write_plain
from drainer.demo.sink import SILENCE, TAKE_AND_SILENCE, Behaviour, Rule, Sink, SinkOptions, SinkThread, Step
from tests.scenarios.running import Service, eventually, running_service, status
from tests.scenarios.test_safety_valves import settings_for

MAILS, RECIPIENTS_EACH = 4, 3
NOBODY_THERE = Rule.parse("rcpt 550 5.1.1 no such user recipient=*1.*")
ONE_SESSION = {"sessions": 1}


def dsns_taken(sink: Sink) -> list[str]:
    """Message-IDs of the DSNs the sink owns."""
    return [taken.message_id for taken in sink.taken if not taken.reverse_path]


def kill_when(settings: Path, log: Path, true_of: Callable[[Service], bool]) -> None:
    with running_service(settings, log) as service:
        eventually(lambda: true_of(service), service.log_text)
        service.kill()


def drained(settings: Path, log: Path) -> None:
    with running_service(settings, log, "--until-empty") as service:
        assert service.wait() == 0, service.log_text()[-4000:]


class SilentAtTheFirstDsn:
    """Script: falls silent after the final dot of the first DSN."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.reached = False

    def __call__(self, step: Step) -> Behaviour | None:
        if step.stage != "dot" or step.reverse_path or self.reached:
            return None
        self.reached = True
        return self.behaviour


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


@pytest.mark.parametrize(
    ("behaviour", "log", "outcome", "times"),
    [
        (TAKE_AND_SILENCE, True, "the MTA's log shows it accepted", 1),
        (SILENCE, True, "the MTA's log covers that moment and does not have it", 1),
        (SILENCE, False, "it may have been sent: no MTA log to ask", 0),
    ],
    ids=["taken_and_logged", "not_taken_and_logged", "no_log"],
)
def test_dsn_cut_short_by_a_kill_is_sent_again_only_if_the_mta_has_none(
    tmp_path: Path, behaviour: Behaviour, log: bool, outcome: str, times: int
) -> None:
    outage, mta_log = write_plain(tmp_path / "site", MAILS, RECIPIENTS_EACH), tmp_path / "mail.log"
    script = SilentAtTheFirstDsn(behaviour)
    mta: dict[str, Any] = {**ONE_SESSION, **({"log_file": mta_log} if log else {})}
    goes_on_at(mta_log, -60)
    with SinkThread(SinkOptions(log=mta_log), NOBODY_THERE, script) as sink:
        settings = settings_for(tmp_path, outage, sink.port, mta=mta, ledger={"in_doubt_wait": "60s"})
        kill_when(settings, tmp_path / "drainer.log", lambda _: script.reached)
        sink.hang_up_all()
        goes_on_at(mta_log, +60)
        drained(settings, tmp_path / "again.log")
        sent = dsns_taken(sink)
    said = (tmp_path / "again.log").read_text()
    (doubtful,) = [line for line in said.splitlines() if "outcome=dsn_in_doubt" in line]
    identity = doubtful.partition("dsn=")[2].split()[0]
    assert sent.count(identity) == times and len(set(sent)) == len(sent)
    assert [line for line in said.splitlines() if outcome in line and f"dsn={identity}" in line]
    assert len(sent) == MAILS - 1 + times


def goes_on_at(log: Path, from_now_s: float) -> None:
    """A line of another time: only of a log that spans the moment does silence mean anything."""
    stamp = time.strftime("%b %e %H:%M:%S", time.localtime(time.time() + from_now_s))
    with log.open("a") as lines:
        lines.write(f"{stamp} sink postfix/smtpd[1]: connect from localhost[127.0.0.1]\n")
