"""The system's clock is set back by hours in the middle of a drain: nothing waits for it, and no figure is absurd."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import Message
from email.utils import parsedate_to_datetime
from pathlib import Path

from drainer.demo.misbehaviour import Greylisting, Rule, answer
from drainer.demo.sample_queue import write_plain
from drainer.demo.sink import SinkOptions, SinkThread
from drainer.report.snapshot import Snapshot
from tests.scenarios.running import drainer
from tests.scenarios.test_safety_valves import settings_for
from tests.scenarios.troubled import Outbreak, given, once, outbreak

BACK_S = 3 * 3600.0
MAILS = 4


def figures(said: Snapshot) -> list[float]:
    """Ages, rates and times to go; none can be negative, and none is hours."""
    found = [said.backlog.oldest_age_s, said.eta.seconds, said.eta.low_s, said.eta.high_s, said.rate.messages_per_s]
    found += [line.oldest_age_s for line in said.lists] + [said.at - said.since]
    return [figure for figure in found if figure is not None]


def _pause_left_s(said: Snapshot) -> float:
    return next((pause.until - said.at for pause in said.pauses if pause.until is not None), 0.0)


def test_clock_set_back_by_hours_delays_no_deferral_and_no_pause_and_makes_no_figure_negative(tmp_path: Path) -> None:
    capture, offset = tmp_path / "capture.jsonl", tmp_path / "offset"
    offset.write_text(str(BACK_S))
    under = (sys.executable, "-m", "tests.scenarios.with_clock", str(offset))
    with SinkThread(SinkOptions(capture=capture), Greylisting()) as sink:
        feed = {"retry_first": "15m", "retry_longest": "15m"}
        site = outbreak(tmp_path / "site", sink.port, MAILS, 3, feed=feed, duplicates={"resend": "deliver"})
        with site.run(under=under) as service:
            before = site.status_when(
                "all is deferred",
                lambda said: (
                    said.backlog.deferred_recipients == said.backlog.recipients > 0 == said.backlog.unread_entries
                ),
            )
            assert drainer("pause", "--for", "20m", "--config", site.settings).returncode == 0
            offset.write_text("0")
            back = site.status_when("the clock is followed", lambda said: 0 < _pause_left_s(said) <= 1201)
            assert back.at < before.at - BACK_S / 2
            assert min(figures(back)) >= 0 and back.backlog.deferred_recipients == before.backlog.deferred_recipients
            # A quarter of an hour later: it would have been three hours and a quarter.
            offset.write_text("1500")
            after = site.status_when("nothing waits", lambda said: not said.backlog.recipients)
            assert min(figures(after)) >= 0
            assert service.terminate() == 0
    once("each once", site.owed(), given(capture))
    (detail,) = [line["detail"] for line in site.lines() if line.get("event") == "clock"]
    assert detail.startswith(("was set back by 3 h 00 min", "was set back by 2 h 59 min"))


def test_clock_set_back_between_two_runs_delays_no_deferral(tmp_path: Path) -> None:
    capture, offset = tmp_path / "capture.jsonl", tmp_path / "offset"
    offset.write_text(str(BACK_S))
    under = (sys.executable, "-m", "tests.scenarios.with_clock", str(offset))
    refusing = [True]
    with SinkThread(
        SinkOptions(capture=capture),
        lambda step: answer("450 4.2.0 later") if step.stage == "rcpt" and refusing else None,
    ) as sink:
        site = outbreak(tmp_path / "site", sink.port, 1, 3, feed={"retry_first": "1s", "retry_longest": "2s"})
        with site.run(under=under) as service:
            site.status_when("something was refused", lambda said: said.backlog.deferred_recipients > 0)
            service.kill()
        refusing.clear()
        offset.write_text("0")
        site.drain()
    once("each once", site.owed(), given(capture))


def told_dates(message: Message) -> list[datetime]:
    """Every date a DSN has."""
    status = message.get_payload(1)
    assert isinstance(status, Message)
    blocks = status.get_payload()
    assert isinstance(blocks, list)
    found = [message["Date"]]
    for block in blocks:
        assert isinstance(block, Message)
        found += [block[name] for name in ("Arrival-Date", "Last-Attempt-Date") if block[name]]
    return [parsedate_to_datetime(date) for date in found]


def test_clock_set_back_lets_no_earlier_acceptance_vouch_for_a_refusal_and_no_dsn_tell_of_the_future(
    tmp_path: Path,
) -> None:
    """Members that a broken MTA refused get a DSN once it accepts another recipient again, not before."""
    offset = tmp_path / "offset"
    offset.write_text(str(BACK_S))
    under = (sys.executable, "-m", "tests.scenarios.with_clock", str(offset))
    rules = [Rule.parse("rcpt 550 5.1.1 no such user recipient=*.quay@*")]
    rules += [Rule.parse("rcpt 450 4.2.0 later recipient=*.pier@*")]
    lists = ("announce", "quay", "pier")
    outage = write_plain(tmp_path / "site", 3, 2, lists=lists, start_s=time.time() + BACK_S - 100)
    _, refused, deferred = sorted((outage.queue_dir / "out").iterdir())
    aside = tmp_path / refused.name
    refused.rename(aside)
    with SinkThread(SinkOptions(keep_content=True), *rules) as sink:
        feed = {"retry_first": "1h", "retry_longest": "1h", "dsn_wait": "1h"}
        site = Outbreak(tmp_path, outage, settings_for(tmp_path, outage, sink.port, feed=feed))
        with site.run(under=under) as service:
            site.status_when(
                "one is accepted, one deferred",
                lambda said: said.done.delivered_entries == 1 and said.backlog.deferred_recipients == 2,
            )
            offset.write_text("0")
            site.until("the clock is followed", lambda: [line for line in site.lines() if line.get("event") == "clock"])
            aside.rename(refused)
            before = site.status_when("both are refused", lambda said: said.done.bounced_recipients == 2)
            later = site.status_when("it has looked since", lambda said: said.at > before.at + 3)
            assert later.backlog.dsns_owed > 0 == later.done.dsns_sent
            sink.scripts.clear()
            assert drainer("release", deferred.stem, "--yes", "--config", site.settings).returncode == 0
            site.status_when("the DSNs are sent", lambda said: not said.backlog.dsns_owed and said.done.dsns_sent > 0)
            assert service.terminate() == 0
    now = datetime.now(UTC)
    dates = [told_dates(message_from_bytes(one.content)) for one in sink.taken if not one.reverse_path]
    assert dates and all(date <= now for of_one in dates for date in of_one)
