"""kill -9 at random moments of one drain, again and again, under every policy for recipients in doubt."""

from __future__ import annotations

import json
import random
from functools import partial
from pathlib import Path

import pytest

from drainer.demo.misbehaviour import Rule
from drainer.demo.sink import Sink, SinkOptions, SinkThread
from drainer.ledger.evidence import Fate
from drainer.report.incident.from_ledger import read_account
from drainer.settings.ledger import LedgerSettings
from tests.scenarios.running import drainer
from tests.scenarios.troubled import Outbreak, every_session_read, given, once, outbreak

KILLS = 5
MAILS = 200
SLOW_MTA = (Rule.parse("data delay=0.1"), Rule.parse("dot delay=0.1"))
"""So that every kill finds transactions both before 354 and after the final dot, the latter owned by the sink already. The
delays are so long that all sessions are busy on a slow machine too."""


def has_taken(sink: Sink, recipients: int) -> bool:
    return sink.taken_recipients >= recipients


def killed_again_and_again(site: Outbreak, sink: Sink, seed: int) -> None:
    """Run the service KILLS times, each ended by kill -9 once the sink was given some more."""
    moments = random.Random(seed)
    most = sum(site.owed().values()) // (KILLS + 3)
    for number in range(KILLS):
        with site.run() as service:
            site.status_when("all is read", lambda said: said.backlog.entries > 0 and not said.backlog.unread_entries)
            wanted = sink.taken_recipients + moments.randrange(1, most)
            site.until(f"seed {seed}, kill {number}", partial(has_taken, sink, wanted))
            service.kill()
        every_session_read(sink.port)
    assert site.files("out", "drainer/backlog"), f"seed {seed}: nothing was left to do"


@pytest.mark.parametrize("seed", [2014])
def test_log_of_the_mta_keeps_everyone_at_once_through_five_kills(tmp_path: Path, seed: int) -> None:
    capture, log = tmp_path / "capture.jsonl", tmp_path / "mail.log"
    capture.touch()
    with SinkThread(SinkOptions(capture=capture, log=log), *SLOW_MTA) as sink:
        site = outbreak(
            tmp_path, sink.port, MAILS, mta={"log_file": log}, ledger={"in_doubt": "ask", "in_doubt_wait": "1s"}
        )
        killed_again_and_again(site, sink, seed)
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
    with SinkThread(SinkOptions(capture=capture), *SLOW_MTA) as sink:
        site = outbreak(tmp_path, sink.port, MAILS, ledger={"in_doubt": "hold"})
        killed_again_and_again(site, sink, seed)
        with site.run() as service:
            site.status_when("everything else is done", lambda said: said.backlog.entries == 0 and said.state == "idle")
            listed = drainer("entries", "--state", "held", "--limit", "1000", "--json", "--config", site.settings)
            service.terminate()
    found = given(capture)
    assert max(found.values()) == 1, f"seed {seed}: somebody got a second copy"
    missing = site.owed() - found
    assert {(message_id, recipient) for _, message_id, recipient in missing} <= site.in_doubt(), f"seed {seed}"
    held = [entry for entry in json.loads(listed.stdout)["entries"] if entry["reason"].startswith("in_doubt")]
    assert {message_id for _, message_id, _ in missing} <= {entry["message_id"] for entry in held}, f"seed {seed}"
    assert {entry["message_id"] for entry in held} <= {message_id for message_id, _ in site.in_doubt()}


def test_resend_policy_makes_second_copies_only_for_those_reported_in_doubt(tmp_path: Path) -> None:
    seed = 11
    capture = tmp_path / "capture.jsonl"
    capture.touch()
    with SinkThread(SinkOptions(capture=capture), *SLOW_MTA) as sink:
        site = outbreak(tmp_path, sink.port, MAILS, ledger={"in_doubt": "resend"})
        killed_again_and_again(site, sink, seed)
        site.drain()
    found = given(capture)
    assert site.owed() - found == {}, f"seed {seed}: somebody is missing"
    assert set(found) == set(site.owed()), f"seed {seed}"
    twice = {(message_id, recipient) for (_, message_id, recipient), number in found.items() if number > 1}
    assert twice and twice <= site.in_doubt(), f"seed {seed}"
