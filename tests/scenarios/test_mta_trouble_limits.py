"""A limit of the transaction is not a recipient's fault, and neither is a fault of the content."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from drainer.demo.misbehaviour import Rule
from drainer.demo.sample_queue import Outage, write_plain
from drainer.demo.sink import SinkOptions, SinkThread
from drainer.feed.refusals import MOST_RECIPIENTS
from tests.postfix import Postfix, needed, running_postfix
from tests.scenarios.running import drainer, eventually, site_settings
from tests.scenarios.troubled import Outbreak

MEMBERS = 130


def site_of(home: Path, outage: Outage, port: int) -> Outbreak:
    mailman = {"flavour": "mailman2", "queue_dir": outage.queue_dir, "lists_dir": outage.lists_dir}
    return Outbreak(home, outage, site_settings(home, port, mailman, mta={"sessions": 2}))


def owed(outage: Outage) -> Counter[tuple[str, str]]:
    return Counter((message_id, address) for (_, message_id), all_ in outage.owed.items() for address in all_)


def test_postfix_with_twenty_recipients_a_transaction_defers_no_recipient_and_the_limit_is_learnt(
    tmp_path: Path, open_directory: Path
) -> None:
    needed()
    outage = write_plain(tmp_path / "site", 3, MEMBERS)
    with running_postfix(open_directory / "postfix", "smtpd_recipient_limit = 20") as postfix:
        site = site_of(tmp_path, outage, postfix.port)
        site.drain()
        assert site.outcomes("deferred") == []
        eventually(lambda: postfix.deliveries().total() >= 3 * MEMBERS, postfix.log_file.read_text)
        assert postfix.deliveries() == owed(outage)
        learnt = [line["recipients"] for line in site.lines() if line.get("event") == "recipient_limit"]
        assert learnt == ["20"]
        asked = _rcpts(postfix)
        assert asked > 3 * MEMBERS, "some were refused for their number"

        # It is known over a restart: the next mail is cut before it is sent.
        (outage.queue_dir / "out" / f"1700009999.5+{'b' * 40}.pck").write_bytes(_another(outage))
        with site.run() as service:
            said = site.status_when("the late mail is sent", lambda said: said.done.delivered_recipients == 4 * MEMBERS)
            assert said.mta.recipient_limit == 20
            text = " ".join(drainer("status", "--config", site.settings).stdout.split())
            assert "it takes 20 recipients in one transaction" in text
            assert service.terminate() == 0
        eventually(lambda: postfix.deliveries().total() >= 4 * MEMBERS, postfix.log_file.read_text)
        assert _rcpts(postfix) - asked == MEMBERS


def _rcpts(postfix: Postfix) -> int:
    """RCPT commands of all sessions, once each has ended."""

    def counted(pattern: str) -> list[str]:
        return re.findall(pattern, postfix.log_file.read_text())

    eventually(
        lambda: len(counted(r"\]: connect from")) == len(counted(r"\]: disconnect from")), postfix.log_file.read_text
    )
    return sum(int(count) for count in counted(r"disconnect from .* rcpt=(\d+)"))


def _another(outage: Outage) -> bytes:
    """One more mail to the same members, made of a sample written beside."""
    more = write_plain(outage.queue_dir.parent / "more", 1, MEMBERS, seed=7)
    (path,) = (more.queue_dir / "out").glob("*.pck")
    return path.read_bytes().replace(b"000000.plain", b"000009.plain")


@pytest.mark.parametrize("step", ["mail", "data", "dot"])
def test_message_refused_where_mailman_2_1_blames_no_recipient_is_held_and_can_be_released(
    tmp_path: Path, step: str
) -> None:
    outage = write_plain(tmp_path / "site", 2, 30)
    with SinkThread(
        SinkOptions(capture=tmp_path / "capture.jsonl"), Rule.parse(f"{step} 554 5.6.0 line over 998 octets")
    ) as sink:
        site = site_of(tmp_path, outage, sink.port)
        with site.run() as service:
            said = site.status_when("both are held", lambda said: said.backlog.held_entries == 2)
            assert said.done.bounced_recipients == said.backlog.dsns_owed == said.done.delivered_recipients == 0
            listed = json.loads(drainer("entries", "--json", "--config", site.settings).stdout)["entries"]
            assert {entry["reason"] for entry in listed} == {
                "content_refused: 554 5.6.0 line over 998 octets (30 recipients have not had it)"
            }
            sink.scripts.clear()
            assert drainer("release", "--state", "held", "--yes", "--config", site.settings).returncode == 0
            site.status_when("nothing is left", lambda said: said.backlog.entries == 0 and said.state == "idle")
            assert service.terminate() == 0
        assert Counter((message_id, address) for address, message_id in sink.delivered()) == owed(outage)
        assert site.outcomes("dsn_sent") == []


def test_broken_filter_that_refuses_every_message_stops_the_drain_before_the_backlog_is_held(tmp_path: Path) -> None:
    outage = write_plain(tmp_path / "site", 80, 5)
    with SinkThread(SinkOptions(), Rule.parse("dot 550 5.7.1 virus scanner says no")) as sink:
        site = site_of(tmp_path, outage, sink.port)
        with site.run() as service:
            stopped = site.status_when("it has stopped", lambda said: said.state == "stopped_by_guard")
            assert "virus scanner says no" in stopped.reason and "drainer release" in stopped.reason
            held = stopped.backlog.held_entries
            assert held * 5 >= MOST_RECIPIENTS - 20 and held < 40
            sink.scripts.clear()
            assert drainer("resume", "--config", site.settings).returncode == 0
            assert drainer("release", "--state", "held", "--yes", "--config", site.settings).returncode == 0
            site.status_when("nothing is left", lambda said: said.backlog.entries == 0 and said.state == "idle")
            assert service.terminate() == 0
        assert Counter((message_id, address) for address, message_id in sink.delivered()) == owed(outage)
