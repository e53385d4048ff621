"""kill -9 at random moments of one drain, again and again, under every policy for recipients in doubt."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import pytest

from drainer.demo.misbehaviour import SILENCE, TAKE_AND_SILENCE, Behaviour, Rule, SinkStep
from drainer.demo.sink import Sink, SinkOptions, SinkThread
from drainer.ledger.evidence import Fate
from drainer.report.incident.from_ledger import read_account
from drainer.settings.ledger import LedgerSettings
from tests.scenarios.running import drainer
from tests.scenarios.troubled import Outbreak, every_session_read, given, once, outbreak

KILLS = 5
MAILS = 200
SLOW_MTA = (Rule.parse("data delay=0.1"), Rule.parse("dot delay=0.1"))
"""So that most sessions are in a transaction when the kill comes."""


class SilentFromThen:
    """Script: once `recipients` more were taken, falls silent in each session, in turns before 354 and after the final dot.

    Those that are silent after the final dot have their mail taken. An attempt is committed before DATA: a kill that waits
    for both finds attempts of both kinds, however fast the machine is.
    """

    def __init__(self) -> None:
        self._left = 0
        self._before_354 = 0
        self._after_dot = 0

    def allow(self, recipients: int) -> None:
        """For the next run of the service, before it starts."""
        self._left, self._before_354, self._after_dot = recipients, 0, 0

    def holds_both(self) -> bool:
        return self._before_354 > 0 and self._after_dot > 0

    def __call__(self, step: SinkStep) -> Behaviour | None:
        if step.stage == "data" and self._left <= 0 and self._before_354 <= self._after_dot:
            self._before_354 += 1
            return SILENCE
        if step.stage == "dot" and self._left <= 0:
            self._after_dot += 1
            return TAKE_AND_SILENCE
        if step.stage == "dot":
            self._left -= len(step.recipients)
        return None


def killed_again_and_again(site: Outbreak, sink: Sink, silent: SilentFromThen, seed: int) -> None:
    """Run the service KILLS times, each ended by kill -9 once the sink was given some more."""
    moments = random.Random(seed)
    most = sum(site.owed().values()) // (KILLS + 3)
    for number in range(KILLS):
        silent.allow(moments.randrange(1, most))
        with site.run() as service:
            site.status_when("all is read", lambda said: said.backlog.entries > 0 and not said.backlog.unread_entries)
            site.until(f"seed {seed}, kill {number}", silent.holds_both)
            service.kill()
        every_session_read(sink.port)
    silent.allow(sys.maxsize)
    assert site.files("out", "drainer/backlog"), f"seed {seed}: nothing was left to do"


@pytest.mark.parametrize("seed", [2014])
def test_log_of_the_mta_keeps_everyone_at_once_through_five_kills(tmp_path: Path, seed: int) -> None:
    capture, log = tmp_path / "capture.jsonl", tmp_path / "mail.log"
    capture.touch()
    with SinkThread(SinkOptions(capture=capture, log=log), silent := SilentFromThen(), *SLOW_MTA) as sink:
        site = outbreak(
            tmp_path, sink.port, MAILS, mta={"log_file": log}, ledger={"in_doubt": "ask", "in_doubt_wait": "1s"}
        )
        killed_again_and_again(site, sink, silent, seed)
        site.drain()
    once(f"seed {seed}", site.owed(), given(capture))
    account = read_account(LedgerSettings(path=site.home / "ledger.sqlite"), None)
    settled = {
        fate: {(line.message_id, address) for line in account.evidence[fate].lines for address in line.addresses}
        for fate in (Fate.DOUBT_DELIVERED, Fate.DOUBT_RESENT)
    }
    assert all(settled.values()), f"seed {seed}: a kill finds both what the MTA owned and what it did not"
    # The ledger is asked, not the log: a kill may come between the commit and the line.
    assert not account.open_doubts and site.in_doubt() <= set[tuple[str, str]]().union(*settled.values()), (
        f"seed {seed}"
    )


def test_hold_policy_sends_no_second_copy_and_reports_held_recipients(tmp_path: Path) -> None:
    seed = 7
    capture = tmp_path / "capture.jsonl"
    capture.touch()
    with SinkThread(SinkOptions(capture=capture), silent := SilentFromThen(), *SLOW_MTA) as sink:
        site = outbreak(tmp_path, sink.port, MAILS, ledger={"in_doubt": "hold"})
        killed_again_and_again(site, sink, silent, seed)
        with site.run() as service:
            site.status_when("everything else is done", lambda said: said.backlog.entries == 0 and said.state == "idle")
            listed = drainer("entries", "--state", "held", "--limit", "1000", "--json", "--config", site.settings)
            service.terminate()
    found = given(capture)
    assert max(found.values()) == 1, f"seed {seed}: somebody got a second copy"
    missing = site.owed() - found
    assert missing, f"seed {seed}: every kill finds what the MTA did not own"
    assert {(message_id, recipient) for _, message_id, recipient in missing} <= site.in_doubt(), f"seed {seed}"
    held = [entry for entry in json.loads(listed.stdout)["entries"] if entry["reason"].startswith("in_doubt")]
    assert {message_id for _, message_id, _ in missing} <= {entry["message_id"] for entry in held}, f"seed {seed}"
    assert {entry["message_id"] for entry in held} <= {message_id for message_id, _ in site.in_doubt()}


def test_resend_policy_makes_second_copies_only_for_those_reported_in_doubt(tmp_path: Path) -> None:
    seed = 11
    capture = tmp_path / "capture.jsonl"
    capture.touch()
    with SinkThread(SinkOptions(capture=capture), silent := SilentFromThen(), *SLOW_MTA) as sink:
        site = outbreak(tmp_path, sink.port, MAILS, ledger={"in_doubt": "resend"})
        killed_again_and_again(site, sink, silent, seed)
        site.drain()
    found = given(capture)
    assert site.owed() - found == {}, f"seed {seed}: somebody is missing"
    assert set(found) == set(site.owed()), f"seed {seed}"
    twice = {(message_id, recipient) for (_, message_id, recipient), number in found.items() if number > 1}
    assert twice and twice <= site.in_doubt(), f"seed {seed}"
