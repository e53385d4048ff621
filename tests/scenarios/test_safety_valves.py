"""An MTA that refuses everybody stops the drain before the backlog is failed; one entry it hangs up on stops nothing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from drainer.demo.sample_queue import Outage, write_plain
from drainer.feed.refusals import MOST_RECIPIENTS
from tests.scenarios.running import (
    drainer,
    eventually,
    running_service,
    running_sink,
    site_settings,
    status,
)

MAILS, RECIPIENTS_EACH = 60, 5


def settings_for(home: Path, outage: Outage, port: int, **sections: dict[str, Any]) -> Path:
    mailman = {"flavour": "mailman2", "queue_dir": outage.queue_dir, "lists_dir": outage.lists_dir}
    return site_settings(home, port, mailman, **sections)


def owed(outage: Outage) -> Counter[tuple[str, str]]:
    return Counter((message_id, address) for (_, message_id), all_ in outage.owed.items() for address in all_)


def everybody_counted(snapshot: dict[str, Any]) -> bool:
    """What was in flight when the gate closed has been put back: everybody is either failed or owed."""
    failed: int = snapshot["done"]["bounced_recipients"]
    return bool(snapshot["backlog"]["recipients"] == MAILS * RECIPIENTS_EACH - failed)


def test_relay_that_refuses_everybody_fails_a_hundred_and_the_rest_goes_out_after_resume(tmp_path: Path) -> None:
    outage = write_plain(tmp_path / "site", MAILS, RECIPIENTS_EACH)
    sessions = 4
    with running_sink(tmp_path / "refusing", "--rule", "rcpt 554 5.7.1 relay access denied") as refusing:
        settings = settings_for(tmp_path, outage, refusing.port, mta={"sessions": sessions})
        with running_service(settings, tmp_path / "drainer.log") as service:
            eventually(lambda: status(settings)["state"] == "stopped_by_guard", service.log_text)
            eventually(lambda: everybody_counted(status(settings)), lambda: f"{status(settings)}", within_s=30)
            stopped = status(settings)
            assert "554 5.7.1 relay access denied" in stopped["reason"] and "drainer resume" in stopped["reason"]
            failed = stopped["done"]["bounced_recipients"]
            in_flight = sessions * RECIPIENTS_EACH
            assert MOST_RECIPIENTS <= failed <= MOST_RECIPIENTS + in_flight
            with running_sink(tmp_path / "healthy") as healthy:
                settings.write_text(settings.read_text().replace(str(refusing.port), str(healthy.port)))
                service.process.send_signal(1)
                eventually(lambda: "event=reloaded" in service.log_text(), service.log_text)
                assert status(settings)["state"] == "stopped_by_guard"
                assert drainer("resume", "--config", settings).returncode == 0
                eventually(lambda: status(settings)["state"] == "idle", service.log_text)
                delivered = healthy.deliveries()
            done = status(settings)["done"]
            assert done["bounced_recipients"] == failed
            assert done["dsns_sent"] == status(settings)["backlog"]["dsns_owed"] == 0 < done["dsns_dropped"] <= failed
            assert service.terminate() == 0
    # No DSN among them: what such an MTA says of a recipient is no reason to bounce a member.
    assert set(delivered) <= set(owed(outage)) and max(delivered.values()) == 1
    assert delivered.total() == MAILS * RECIPIENTS_EACH - failed


def test_entry_the_mta_always_hangs_up_on_is_put_off_and_the_others_go_out(tmp_path: Path) -> None:
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
