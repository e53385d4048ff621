"""An outage of the MTA that outlasts feed.give_up_after: its time counts against no recipient. The test moves the clock."""

from __future__ import annotations

import signal
import sys
from contextlib import ExitStack
from pathlib import Path

from drainer.demo.misbehaviour import Behaviour, SinkStep, answer
from drainer.demo.sink import SinkOptions, SinkThread
from drainer.report.snapshot import Snapshot
from tests.scenarios.test_mta_trouble_replies import all_is_deferred
from tests.scenarios.troubled import given, once, outbreak

DAY_S = 86_400.0


def test_days_of_an_mta_that_is_down_give_up_no_recipient_and_the_next_deferral_is_only_the_second(
    tmp_path: Path,
) -> None:
    """Greylisted, then six days of a dead MTA where feed.give_up_after is five, then greylisted once more."""
    capture, offset = tmp_path / "capture.jsonl", tmp_path / "offset"
    offset.write_text("0")
    under = (sys.executable, "-m", "tests.scenarios.with_clock", str(offset))
    refusing = [True]

    def greylist(step: SinkStep) -> Behaviour | None:
        return answer("450 4.2.0 greylisted") if step.stage == "rcpt" and refusing else None

    feed = {"retry_first": "15m", "retry_longest": "1h"}
    with ExitStack() as before:
        sink = before.enter_context(SinkThread(SinkOptions(capture=capture), greylist))
        site = outbreak(tmp_path / "site", sink.port, 3, members_each=3, feed=feed, duplicates={"resend": "deliver"})
        with site.run(under=under) as service:
            recipients = site.status_when("all is deferred", all_is_deferred).backlog.recipients
            before.close()
            offset.write_text(str(6 * DAY_S))
            said = site.status_when("the MTA is down", lambda said: said.state == "mta_down")
            assert said.done.bounced_recipients == 0
            with SinkThread(SinkOptions(capture=capture, port=sink.port), greylist) as again:
                site.until("all were tried once more", lambda: again.commands.get("RCPT", 0) >= recipients)
                site.status_when("all is deferred once more", all_is_deferred)
                refusing.clear()
                offset.write_text(str(7 * DAY_S))
                said = site.status_when("nothing waits", lambda said: not said.backlog.recipients)
                assert said.done.bounced_recipients == said.backlog.dsns_owed == 0
                assert service.terminate() == 0
    once("after six days", site.owed(), given(capture))
    assert not site.outcomes("failed")


def test_entry_that_always_makes_the_mta_hang_up_is_never_given_up_since_no_reply_was_about_it(tmp_path: Path) -> None:
    """For longer than feed.give_up_after; delivered when the MTA has been repaired."""
    capture = tmp_path / "capture.jsonl"
    broken, hang_ups = [True], []

    def hang_up(step: SinkStep) -> Behaviour | None:
        if step.stage != "rcpt" or not broken:
            return None
        hang_ups.append(step.recipient)
        return Behaviour(b"", "hang_up")

    feed = {"retry_first": "50ms", "retry_longest": "50ms", "give_up_after": "60ms"}
    with SinkThread(SinkOptions(capture=capture), hang_up) as sink:
        site = outbreak(tmp_path / "site", sink.port, 1, members_each=2, feed=feed, mta={"sessions": 1})
        with site.run("--until-empty") as service:

            def put_off_four_times(said: Snapshot) -> bool:
                if said.state == "mta_down":
                    service.process.send_signal(signal.SIGHUP)  # or it would wait longer and longer to try again
                return len(hang_ups) > 12  # three lost sessions put it off once (stages/turn.py)

            site.status_when("it was put off again and again", put_off_four_times)
            broken.clear()
            assert service.wait() == 0, service.log_text()[-4000:]
    once("repaired", site.owed(), given(capture))
    assert not site.outcomes("failed")
