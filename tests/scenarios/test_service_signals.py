"""The service as its supervisor sees it: signals, the notify socket, the end of --until-empty, exit statuses."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.scenarios.operated import SOON_S, Site, site, when
from tests.scenarios.running import drainer

RESENDS_TOO = {"resend": "deliver"}


def rewrite(lists: Site, *changes: tuple[str, str]) -> None:
    text = lists.settings.read_text()
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    lists.settings.write_text(text)


def test_sigterm_finishes_transactions_in_flight_and_the_next_run_delivers_the_rest_once(tmp_path: Path) -> None:
    with site(tmp_path, 25, "--rule", "dot delay=0.1", duplicates=RESENDS_TOO) as lists:
        with lists.run() as service:
            lists.status_when(lambda said: said["done"]["transactions"] >= 3)
            assert service.terminate() == 0
        first = lists.sink.deliveries()
        assert 0 < len(first) < len(lists.owed(resends_too=True))
        assert "outcome=in_doubt" not in service.log_text()
        log = service.log_text()
        assert log.index("event=stopping why=SIGTERM") < log.index("event=stopped ")
        assert drainer("pause", "--config", lists.settings).returncode == 3
        left = json.loads(lists.says("status", "--json"))
        assert (left["state"], left["reason"]) == ("not_running", "it was stopped")
        lists.drain()
        assert "outcome=in_doubt" not in service.log_text()
        assert lists.sink.deliveries() == lists.owed(resends_too=True)


def test_sighup_puts_new_settings_in_force_and_keeps_the_old_ones_if_they_are_impossible(tmp_path: Path) -> None:
    with site(tmp_path, 12, feed={"messages": "0", "recipients": "5/s"}) as lists:
        with lists.run("--until-empty") as service:
            lists.surveyed()
            rewrite(lists, ('messages = "0"', 'messages = "fast"'))
            service.process.send_signal(signal.SIGHUP)
            when(lambda: "event=reload_refused" in service.log_text(), service.log_text)
            assert "feed.messages = 'fast': not a rate; right would be" in service.log_text()
            assert lists.status()["rate"]["limit_messages_per_s"] == 0

            rewrite(
                lists, ('messages = "fast"', 'messages = "unlimited"'), ('recipients = "5/s"', 'recipients = "80000/h"')
            )
            with lists.settings.open("a") as settings:
                settings.write('\n[log]\nlevel = "warning"\n')
            lists.says("rate", "--recipients", "unlimited")
            service.process.send_signal(signal.SIGHUP)
            lists.status_when(lambda said: said["rate"]["limit_messages_per_s"] is None)
            assert lists.status()["rate"]["limit_recipients_per_s"] is None
            assert service.wait() == 0
        assert lists.sink.deliveries() == lists.owed()
        after = service.log_text().partition("event=reload_refused")[2]
        assert "outcome=delivered" not in after


def test_reload_says_what_needs_a_restart_and_what_drainer_rate_overrules(tmp_path: Path) -> None:
    with site(tmp_path, 3, feed={"messages": "0"}) as lists, lists.run() as service:
        lists.says("rate", "--messages", "7/s")
        rewrite(lists, ('poll = "100ms"', 'poll = "200ms"\nscope = "backlog"'), ("[mta]", '[mta]\nqueue = "exim"'))
        service.process.send_signal(signal.SIGHUP)
        when(lambda: "event=reloaded" in service.log_text(), service.log_text)
        assert (
            "event=reloaded needs_restart=custody.scope overruled_by_drainer_rate=feed.messages" in service.log_text()
        )
        assert lists.status()["rate"]["limit_messages_per_s"] == 7
        assert lists.status()["needs_restart"] == ["custody.scope"]
        assert "restart drainer to put changed settings in force: custody.scope" in " ".join(
            lists.says("status").split()
        )
        lists.status_when(
            lambda said: any(
                guard["name"] == "mta_queue" and "not watched" not in guard["reason"] for guard in said["guards"]
            )
        )
        rewrite(lists, ('scope = "backlog"', 'scope = "all"'))
        service.process.send_signal(signal.SIGHUP)
        lists.status_when(lambda said: said["needs_restart"] == [])


def test_supervisor_hears_ready_status_watchdog_reloading_and_stopping(tmp_path: Path) -> None:
    with site(tmp_path, 6) as lists, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(str(tmp_path / "notify"))
        supervisor.settimeout(SOON_S)
        environment = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1000000"}
        environment.pop("WATCHDOG_PID", None)
        heard: list[str] = []

        def until(pattern: str) -> None:
            since = len(heard)
            while not any(re.match(pattern, said) for said in heard[since:]):
                heard.append(supervisor.recv(65536).decode())

        with lists.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "drainer", "run", "--config", lists.settings], env=environment, stderr=log
            )
        try:
            until("READY=1")
            until(r"STATUS=idle \(nothing waits\); 0 entries, 0 recipients left; nothing left to deliver\Z")
            until("WATCHDOG=1")
            until("WATCHDOG=1")
            process.send_signal(signal.SIGHUP)
            until(r"RELOADING=1\nMONOTONIC_USEC=\d+")
            until("READY=1")
            process.terminate()
            until("STOPPING=1")
            assert process.wait(SOON_S) == 0
        finally:
            process.kill()
        assert next(iter(heard)).startswith("READY=1")
        assert any(
            re.match(r"STATUS=(scanning|draining).*\d+ entr(y|ies), \d+ recipients? left", said) for said in heard
        )
        assert lists.sink.deliveries() == lists.owed()


def test_empty_queue_ends_until_empty_and_is_idle_without_it(tmp_path: Path) -> None:
    with site(tmp_path, 1) as lists:
        for path in lists.out.iterdir():
            path.unlink()
        lists.drain()
        with lists.run():
            idle = lists.status_when(lambda said: said["state"] == "idle")
            assert (idle["reason"], idle["eta"]["state"], idle["backlog"]["entries"]) == ("nothing waits", "done", 0)
            assert lists.says("status").startswith("IDLE since ")
            assert "nothing left to deliver" in lists.says("eta")


def test_numbers_of_the_end_are_those_of_the_sink(tmp_path: Path) -> None:
    with site(tmp_path, 40) as lists, lists.run() as service:
        said = lists.status_when(
            lambda said: said["state"] == "idle" and not said["backlog"]["entries"] and said["mailman"]["queues"]
        )
        taken = lists.sink.deliveries()
        assert taken == lists.owed()
        done, backlog, duplicates = said["done"], said["backlog"], lists.outage.duplicates
        assert done["delivered_recipients"] == sum(taken.values())
        assert done["transactions"] == len(lists.sink.taken())
        assert backlog["held_entries"] == duplicates["resend"]
        assert done["suppressed_entries"] == duplicates["exact"] + duplicates["restored"]
        assert done["delivered_entries"] + done["suppressed_entries"] + backlog["held_entries"] == lists.outage.entries
        held = sum(len(lists.outage.owed[key]) for key in lists.resent().values())
        assert done["suppressed_recipients"] == lists.outage.recipients - sum(taken.values()) - held
        assert (done["bounced_recipients"], done["dropped_entries"], done["unreadable_entries"]) == (0, 0, 0)
        assert (backlog["recipients"], backlog["bytes"], backlog["oldest_age_s"]) == (0, 0, None)
        assert (backlog["deferred_recipients"], backlog["in_doubt_recipients"]) == (0, 0)
        assert set(said["rate"]) >= {
            "limit_messages_per_s", "limit_recipients_per_s", "messages_per_s", "recipients_per_s",
            "arrivals_recipients_per_s", "binding",
        }  # fmt: skip
        assert set(said["eta"]) >= {"state", "finish", "seconds", "low_s", "high_s", "confidence"}
        assert {guard["name"] for guard in said["guards"]} >= {"ledger_bytes", "ledger_inodes", "queue_inodes", "load"}
        assert all(set(guard) >= {"name", "verdict", "reason", "value", "limit"} for guard in said["guards"])
        assert (said["state"], said["pid"], said["lists"]) == ("idle", service.process.pid, [])
        assert (said["mta"]["state"], said["mailman"]["flavour"]) == ("up", "mailman2")


def test_backlog_numbers_before_the_first_delivery_are_those_of_the_queue(tmp_path: Path) -> None:
    with site(tmp_path, 20, feed={"messages": "0"}, duplicates=RESENDS_TOO) as lists:
        size = sum(path.stat().st_size for path in lists.out.iterdir())
        with lists.run():
            said = lists.surveyed()
            backlog = said["backlog"]
            assert (backlog["entries"], backlog["recipients"], backlog["bytes"]) == (
                lists.outage.entries, lists.outage.recipients, size,
            )  # fmt: skip
            assert sum(one["recipients"] for one in said["lists"]) == lists.outage.recipients
            assert sum(one["entries"] for one in said["lists"]) == lists.outage.entries
            assert (said["state"], said["eta"]["state"], said["eta"]["finish"]) == ("paused", "paused", None)
            lists.says("pause")
            assert "no finish time while paused" in lists.says("eta")
            what_if = lists.says("eta", "--at", "50/s", "--by", "+2h")
            assert re.search(r"^at 50/s recipients: about \d+ s\b", what_if, re.MULTILINE)
            assert re.search(r"^to be done by .*: [0-9.,]+/[sh] recipients needed$", what_if, re.MULTILINE)


def test_asking_a_service_that_does_not_run_exits_3_and_says_so(tmp_path: Path) -> None:
    with site(tmp_path, 1) as lists:
        for command in (("status",), ("pause",), ("drop", "--all", "--yes"), ("handback", "--yes")):
            said = lists.refuses(3, *command)
            assert said.startswith("drainer: drainer is not running: nothing listens on "), (command, said)
        assert "to send nothing meanwhile, start it with `DRAINER_FEED__MESSAGES=0 drainer run`" in said


@pytest.mark.parametrize(
    ("section", "values", "said"),
    [
        ("feed", {"messages": "fast"}, "feed.messages = 'fast': not a rate; right would be"),
        ("mta", {"prot": 25}, "mta.prot: no such setting"),
        ("ledger", {"path": "/proc/nowhere/ledger.sqlite"}, "ledger.path = '/proc/nowhere/ledger.sqlite': cannot make"),
        ("control", {"socket": "/proc/nowhere.sock"}, "control.socket = '/proc/nowhere.sock': cannot listen there"),
    ],
)
def test_impossible_settings_end_the_start_with_key_value_and_what_is_wrong(
    tmp_path: Path, section: str, values: dict[str, Any], said: str
) -> None:
    with site(tmp_path, 1, members_each=12, **{section: values}) as lists:
        assert said in lists.refuses(2, "run", "--until-empty")
        assert len(list(lists.out.iterdir())) == lists.outage.entries
