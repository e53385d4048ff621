"""An MTA that refuses all recipients stops the drain before the backlog fails; one that hangs up on one entry does not."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from drainer.demo.misbehaviour import Rule
from drainer.demo.sample_queue import Outage, write_plain
from drainer.demo.sink import Sink, SinkOptions, SinkThread
from drainer.feed.refusals import MOST_RECIPIENTS
from drainer.report.snapshot import Snapshot
from tests.scenarios.running import (
    Service,
    drainer,
    eventually,
    running_service,
    running_sink,
    site_settings,
    status,
)
from tests.scenarios.troubled import Outbreak

MAILS, RECIPIENTS_EACH = 60, 5


def settings_for(home: Path, outage: Outage, port: int, **sections: dict[str, Any]) -> Path:
    mailman = {"flavour": "mailman2", "queue_dir": outage.queue_dir, "lists_dir": outage.lists_dir}
    return site_settings(home, port, mailman, **sections)


def owed(outage: Outage) -> Counter[tuple[str, str]]:
    return Counter((message_id, address) for (_, message_id), all_ in outage.owed.items() for address in all_)


def everybody_counted(snapshot: dict[str, Any]) -> bool:
    """Entries in flight when the gate closed have been put back: every recipient is either failed or owed."""
    failed: int = snapshot["done"]["bounced_recipients"]
    return bool(snapshot["backlog"]["recipients"] == MAILS * RECIPIENTS_EACH - failed)


def is_done(snapshot: dict[str, Any]) -> bool:
    """Every recipient is settled, and every DSN that is owed was sent."""
    return bool(snapshot["state"] == "idle" and not snapshot["backlog"]["dsns_owed"])


def drained_after(site: Outbreak, service: Service, sink: Sink, *commands: str) -> Snapshot:
    """The MTA is repaired; what the service says once these commands were given and nothing waits any more."""
    sink.scripts.clear()
    for command in commands:
        done = drainer(*command.split(), "--config", site.settings)
        assert done.returncode == 0, done.stderr
    said = site.status_when("nothing waits", lambda said: said.state == "idle")
    assert service.terminate() == 0
    return said


def test_relay_that_denies_relaying_fails_no_recipient_and_stops_the_drain(tmp_path: Path) -> None:
    """After the repair the entry is released, and every recipient gets it."""
    outage = write_plain(tmp_path / "site", MAILS, RECIPIENTS_EACH)
    with SinkThread(SinkOptions(), Rule.parse("rcpt 554 5.7.1 <you>: Relay access denied")) as sink:
        site = Outbreak(tmp_path, outage, settings_for(tmp_path, outage, sink.port, mta={"sessions": 4}))
        with site.run() as service:
            stopped = site.status_when("it has stopped", lambda said: said.state == "stopped_by_guard")
            assert "Relay access denied" in stopped.reason and "drainer resume" in stopped.reason
            assert stopped.done.bounced_recipients == stopped.backlog.dsns_owed == 0
            drained_after(site, service, sink, "resume", "release --state deferred --yes")
        assert Counter((message_id, address) for address, message_id in sink.delivered()) == owed(outage)


def test_relay_that_takes_mail_for_one_domain_only_is_stopped_and_its_refusals_are_undone(tmp_path: Path) -> None:
    """The MTA accepts one recipient of every mail. No DSN goes out; after `drainer resume` the failed ones get theirs."""
    domains = ("example.org", *(f"elsewhere{number}.example" for number in range(11)))
    outage = write_plain(tmp_path / "site", MAILS, len(domains), domains=domains)
    with SinkThread(SinkOptions(), Rule.parse("rcpt 550 5.1.1 no such user recipient=*@elsewhere*")) as sink:
        site = Outbreak(tmp_path, outage, settings_for(tmp_path, outage, sink.port, mta={"sessions": 4}))
        with site.run() as service:
            stopped = site.status_when("it has stopped", lambda said: said.state == "stopped_by_guard")
            assert "11 domains" in stopped.reason and "for 1 only" in stopped.reason
            assert 0 < stopped.done.bounced_recipients < sum(owed(outage).values()) / 2
            site.status_when("its DSNs are dropped", lambda said: not said.backlog.dsns_owed)
            done = drained_after(site, service, sink, "resume").done
            assert done.dsns_sent == 0 < done.dsns_dropped
        assert Counter((message_id, address) for address, message_id in sink.delivered()) == owed(outage)
    assert not list((outage.queue_dir / "drainer/duplicates").iterdir())


def test_broken_map_that_refuses_all_fails_a_hundred_and_resume_tries_them_again(tmp_path: Path) -> None:
    """And a DSN reports, once, a recipient that the repaired MTA refuses too."""
    outage = write_plain(tmp_path / "site", MAILS, RECIPIENTS_EACH)
    (_, gone), *_ = sorted(owed(outage))
    refused = Counter({copy: 1 for copy in owed(outage) if copy[1] == gone})
    sessions = 4
    with running_sink(tmp_path / "refusing", "--rule", "rcpt 550 5.1.1 User unknown") as refusing:
        settings = settings_for(tmp_path, outage, refusing.port, mta={"sessions": sessions})
        with running_service(settings, tmp_path / "drainer.log") as service:
            eventually(lambda: status(settings)["state"] == "stopped_by_guard", service.log_text)
            eventually(lambda: everybody_counted(status(settings)), lambda: f"{status(settings)}", within_s=30)
            stopped = status(settings)
            assert "550 5.1.1 User unknown" in stopped["reason"] and "drainer resume" in stopped["reason"]
            failed = stopped["done"]["bounced_recipients"]
            in_flight = sessions * RECIPIENTS_EACH
            assert MOST_RECIPIENTS <= failed <= MOST_RECIPIENTS + in_flight
            with running_sink(tmp_path / "healthy", "--rule", f"rcpt 550 5.1.1 gone recipient={gone}") as healthy:
                settings.write_text(settings.read_text().replace(str(refusing.port), str(healthy.port)))
                service.process.send_signal(1)
                eventually(lambda: "event=reloaded" in service.log_text(), service.log_text)
                assert status(settings)["state"] == "stopped_by_guard"
                assert drainer("resume", "--config", settings).returncode == 0
                eventually(lambda: is_done(status(settings)), service.log_text)
                delivered = healthy.deliveries()
            done = status(settings)["done"]
            assert done["bounced_recipients"] == done["dsns_sent"] == refused.total()
            assert 0 < done["dsns_dropped"] <= failed
            assert service.terminate() == 0
    # No DSN from before among them: what such an MTA says of a recipient is no reason to bounce a member.
    mail = owed(outage)
    assert Counter({copy: times for copy, times in delivered.items() if copy in mail}) == mail - refused
    assert delivered.total() - (mail - refused).total() == refused.total()


def test_entry_that_always_makes_the_mta_hang_up_is_put_off_and_the_others_go_out(tmp_path: Path) -> None:
    outage = write_plain(tmp_path / "site", 12, 2, lists=("harbour", "announce"))
    with running_sink(tmp_path / "sink", "--rule", "mail hang-up sender=harbour-bounces@*") as sink:
        feed = {"retry_first": "1h", "retry_longest": "2h"}
        settings = settings_for(tmp_path, outage, sink.port, mta={"sessions": 1}, feed=feed)
        with running_service(settings, tmp_path / "drainer.log") as service:
            eventually(lambda: sink.deliveries().total() == 22, service.log_text)
            eventually(lambda: status(settings)["backlog"]["entries"] == 1, service.log_text)
            backlog = status(settings)["backlog"]
            assert backlog["deferred_recipients"] == 2 and backlog["in_doubt_recipients"] == 0
            assert [line["list"] for line in status(settings)["lists"]] == ["harbour"]
            assert service.terminate() == 0
        assert set(sink.deliveries().values()) == {1}
    poison = min(path.name for path in (outage.queue_dir / "drainer/backlog").iterdir())
    assert (outage.queue_dir / "drainer/backlog" / poison).suffix == ".pck"
