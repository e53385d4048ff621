"""A FIFO in place of a list's settings, and a server of lists that does not answer: the mail of other lists goes out, and
SIGTERM ends the process."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from drainer.demo.sample_queue import LISTS, write_plain
from tests.scenarios.running import Service, eventually, running_sink, site_settings

HANGS = """
import asyncio, sys, threading
import drainer.compose.list_settings, drainer.report.systemd, drainer.observe.surroundings
read, look, never = drainer.compose.list_settings.read_regular, drainer.observe.surroundings.disk_guards, threading.Event()
drainer.compose.list_settings.READ_WITHIN_S = drainer.observe.surroundings.LOOK_WITHIN_S = 0.5
notify_ready = drainer.report.systemd.notify_ready
hanging = sys.argv[1]
def reading(path, *rest, **more):
    if path.parent.name == hanging:
        never.wait()
    return read(path, *rest, **more)
def looking(*given):
    never.wait()
def ready():
    asyncio.get_running_loop().run_in_executor(None, never.wait)
    return notify_ready()
drainer.report.systemd.notify_ready = ready
drainer.compose.list_settings.read_regular = reading
drainer.observe.surroundings.disk_guards = looking
import drainer.service
drainer.service.THREADS_END_WITHIN_S = 1.0
from drainer.cli.main import main
sys.argv[1:] = sys.argv[5:]
main()
"""
"""drainer with a lists_dir, and a disk that guards look at, that never answer again, and one more thread that hangs; as on a
dead NFS server, the thread that asks cannot be interrupted."""


def test_fifo_in_the_place_of_a_lists_settings_holds_its_entries_and_no_other(tmp_path: Path) -> None:
    """Twelve entries, more than there are threads: each would have had one for ever."""
    outage = write_plain(tmp_path, 13, 2, lists=[LISTS[1], *[LISTS[0]] * 12])
    config = outage.lists_dir / LISTS[0] / "config.pck"
    config.unlink()
    os.mkfifo(config)
    with running_sink(tmp_path / "sink") as sink:
        mailman = {"flavour": "mailman2", "queue_dir": outage.queue_dir, "lists_dir": outage.lists_dir}
        settings = site_settings(tmp_path, sink.port, mailman)
        service = Service(settings, tmp_path / "drainer.log", "--until-empty")
        try:
            assert service.wait() == 0
        finally:
            service.kill()
        assert len(sink.taken()) >= 1 and {one["message_id"] for one in sink.taken()} == {"<000000.plain@example.org>"}
    held = [line for line in service.log_text().splitlines() if "outcome=held" in line]
    assert len(held) == 12 and all("list_config_unreadable" in line and "FIFO" in line for line in held)


def test_lists_that_cannot_be_read_wait_while_others_are_delivered_and_sigterm_ends_the_process(tmp_path: Path) -> None:
    outage = write_plain(tmp_path, 20, 2, lists=[LISTS[1], *[LISTS[0]] * 19])
    script = tmp_path / "hangs.py"
    script.write_text(HANGS)
    with running_sink(tmp_path / "sink") as sink:
        mailman = {"flavour": "mailman2", "queue_dir": outage.queue_dir, "lists_dir": outage.lists_dir}
        settings = site_settings(tmp_path, sink.port, mailman)
        service = Service(settings, tmp_path / "drainer.log", under=[sys.executable, str(script), LISTS[0]])
        try:
            eventually(lambda: len(sink.taken()) > 0, service.log_text)
            eventually(lambda: "does not answer" in service.log_text(), service.log_text)
            eventually(lambda: "event=side_task_failed task=guards" in service.log_text(), service.log_text)
            service.process.send_signal(signal.SIGTERM)
            assert service.wait() == 0
        finally:
            service.kill()
    assert "event=ended_by_force" in service.log_text()
    assert "event=stopped" in service.log_text(), "all was written down before"
    left = list((outage.queue_dir / "drainer" / "backlog").iterdir())
    assert len(left) == 19, "nothing is lost"
