"""The reply to the final dot is lost while the service runs: in doubt, shown, resolved by policy, not tried by reflex."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from drainer.demo.misbehaviour import HANG_UP, TAKE_AND_HANG_UP, TAKE_AND_SILENCE, Behaviour, SinkStep
from drainer.demo.sink import SinkOptions, SinkThread
from tests.scenarios.troubled import Outbreak, given, once, outbreak

MAILS = 6


class AtTheFinalDot:
    """Script: misbehaves at the first `times` final dots."""

    def __init__(self, behaviour: Behaviour, times: int = 2) -> None:
        self.behaviour = behaviour
        self.left = times

    def __call__(self, step: SinkStep) -> Behaviour | None:
        if step.stage != "dot" or not self.left:
            return None
        self.left -= 1
        return self.behaviour


def site_at(home: Path, port: int, log: Path | None, **ledger: str) -> Outbreak:
    mta: dict[str, Any] = {"final_dot_timeout": "300ms", "sessions": 2}
    return outbreak(
        home, port, MAILS, members_each=3, mta={**mta, **({"log_file": log} if log else {})}, ledger=dict(ledger)
    )


@pytest.mark.parametrize("behaviour", [TAKE_AND_HANG_UP, TAKE_AND_SILENCE], ids=["hang_up", "silence"])
def test_lost_reply_is_settled_by_the_log_of_the_mta_without_a_second_copy(
    tmp_path: Path, behaviour: Behaviour
) -> None:
    capture, log = tmp_path / "capture.jsonl", tmp_path / "mail.log"
    with SinkThread(SinkOptions(capture=capture, log=log), AtTheFinalDot(behaviour)) as sink:
        site = site_at(tmp_path, sink.port, log, in_doubt="ask")
        site.drain()
    assert len(site.outcomes("in_doubt_delivered")) == 2 and site.in_doubt()
    once("asked", site.owed(), given(capture))


@pytest.mark.parametrize("mta", ["postfix", "exim"])
def test_mail_the_mta_never_owned_is_sent_once_its_log_covers_the_moment(tmp_path: Path, mta: str) -> None:
    capture, log = tmp_path / "capture.jsonl", tmp_path / "mail.log"
    log_line = postfix_line if mta == "postfix" else exim_line
    log.write_text(log_line(time.time() - 60))
    own = log if mta == "postfix" else None
    with SinkThread(SinkOptions(capture=capture, log=own), AtTheFinalDot(HANG_UP)) as sink:
        site = site_at(tmp_path, sink.port, log, in_doubt="ask", in_doubt_wait="1h")
        with site.run("--until-empty") as service:
            said = site.status_when(
                "only the doubtful are left",
                lambda said: (
                    said.backlog.recipients == said.backlog.in_doubt_recipients != 0 and said.mta.state == "up"
                ),
            )
            assert said.backlog.in_doubt_recipients == len(site.in_doubt())
            assert (site.owed() - given(capture)).total() == len(site.in_doubt())
            with log.open("a") as appended:
                appended.write(log_line(time.time() + 60))
            assert service.wait() == 0, service.log_text()[-4000:]
    resent = site.outcomes("in_doubt_resend")
    assert [fields["why"] for fields in resent] == ["the MTA's log covers that moment and does not have it"] * 2
    once("not in the log", site.owed(), given(capture))


def test_log_that_cannot_be_read_is_named_and_the_fallback_taken(tmp_path: Path) -> None:
    capture, log = tmp_path / "capture.jsonl", tmp_path / "missing" / "mail.log"
    with SinkThread(SinkOptions(capture=capture), AtTheFinalDot(TAKE_AND_HANG_UP)) as sink:
        site = site_at(tmp_path, sink.port, log, in_doubt="ask", in_doubt_fallback="hold", in_doubt_wait="100ms")
        site.drain()
    once("the sink owns all of them", site.owed(), given(capture))
    why = {fields["why"] for fields in site.outcomes("in_doubt_held")}
    assert why == {f"{log} cannot be read: No such file or directory: hold"}


def test_without_a_log_the_hold_policy_holds_and_sends_no_second_copy(tmp_path: Path) -> None:
    capture = tmp_path / "capture.jsonl"
    with SinkThread(SinkOptions(capture=capture), AtTheFinalDot(TAKE_AND_HANG_UP)) as sink:
        site = site_at(tmp_path, sink.port, None, in_doubt="ask", in_doubt_fallback="hold")
        site.drain()
    once("the sink owns all of them", site.owed(), given(capture))
    held = {line["filebase"] for line in site.outcomes("held") if line["reason"] == "in_doubt"}
    assert held and held >= {line["filebase"] for line in site.outcomes("in_doubt")}


def test_without_a_log_the_resend_policy_sends_again_and_names_the_recipients(tmp_path: Path) -> None:
    capture = tmp_path / "capture.jsonl"
    with SinkThread(SinkOptions(capture=capture), AtTheFinalDot(TAKE_AND_HANG_UP)) as sink:
        site = site_at(tmp_path, sink.port, None, in_doubt="ask", in_doubt_fallback="resend")
        site.drain()
    found = given(capture)
    assert set(found) == set(site.owed())
    twice = {(message_id, recipient) for (_, message_id, recipient), number in found.items() if number > 1}
    assert twice == site.in_doubt() != set()


def postfix_line(at_s: float) -> str:
    """A line of Postfix's about something else."""
    return (
        time.strftime("%b %e %H:%M:%S", time.localtime(at_s)) + " sink postfix/anvil[1]: statistics: max rate 1/60s\n"
    )


def exim_line(at_s: float) -> str:
    """Exim takes mail from another client."""
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_s))
    return f"{stamp} 1xV3zW-000714-2V <= eve@example.net H=(x) [127.0.0.1] P=esmtp S=291 id=one@example.test\n"
