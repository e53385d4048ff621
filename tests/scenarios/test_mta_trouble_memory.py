"""Mails of 30 MB with a copy for each member: memory stays within what feed.memory allows, whatever the sessions."""

from __future__ import annotations

from pathlib import Path

from drainer.demo.sample_queue import write_plain
from drainer.demo.sink import SinkOptions, SinkThread
from drainer.feed.memory_budget import CONTENT_COPIES, ENTRY_COPIES
from tests.scenarios.hostile_queue import mail, meant_for, put
from tests.scenarios.test_safety_valves import settings_for
from tests.scenarios.troubled import Outbreak

MAILS, COPIES_EACH = 3, 2
LARGE_BYTES = 30_000_000
LINE = "x" * 75 + "\n"


def resident_bytes(pid: int, field: str) -> int:
    """VmRSS: memory the process has now; VmHWM: the most it ever had."""
    return int(Path(f"/proc/{pid}/status").read_text().partition(f"{field}:")[2].split()[0]) * 1024


def test_memory_for_large_copies_stays_within_its_bound(tmp_path: Path) -> None:
    """The bound is less than one of these mails needs, so they go one after the other, and one copy at a time."""
    outage = write_plain(tmp_path / "site", 1, 2, lists=("announce",))
    members = [f"member{number}@example.org" for number in range(COPIES_EACH)]
    with SinkThread(SinkOptions()) as sink:
        site = Outbreak(tmp_path, outage, settings_for(tmp_path, outage, sink.port, feed={"memory": "32MiB"}))
        with site.run(executed=True) as service:
            site.status_when("nothing waits", lambda said: said.state == "idle" and said.done.delivered_entries == 1)
            before = resident_bytes(service.process.pid, "VmRSS")
            body = LINE * (LARGE_BYTES // len(LINE))
            for number in range(MAILS):
                put(outage.queue_dir, mail(f"<{number}.large@x>", body), meant_for(*members, verp=1))
            site.status_when("all is delivered", lambda said: said.done.delivered_entries == 1 + MAILS)
            used = resident_bytes(service.process.pid, "VmHWM") - before
            assert service.terminate() == 0
        assert sum(taken.size > LARGE_BYTES // 2 for taken in sink.taken) == MAILS * COPIES_EACH
    # Half as much again for what the allocator keeps; four at a time took 1,006 MiB.
    assert used < 1.5 * (ENTRY_COPIES + CONTENT_COPIES) * LARGE_BYTES, f"{used / 2**20:.0f} MiB"
