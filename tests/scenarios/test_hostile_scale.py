"""Far too much of everything at once: one-byte files by the thousand, a mail of 30 MB, an entry of 100,000 recipients. The
service answers in between, its memory stays bounded, and all of it ends where it belongs.

DRAINER_TEST_ONE_BYTE_FILES=1000000 makes it the million (`make hostile`).
"""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from pathlib import Path

from drainer.demo.sink import SinkOptions, SinkThread
from tests.scenarios.hostile_queue import mail, meant_for, put
from tests.scenarios.running import Service
from tests.scenarios.troubled import Outbreak, outbreak

ONE_BYTE_FILES = int(os.environ.get("DRAINER_TEST_ONE_BYTE_FILES", "4000"))
RECIPIENTS = 100_000
LARGE_BYTES = 30 * 2**20
MOST_RESIDENT_BYTES = 700 * 2**20
"""Of the service itself; 449 MiB were measured (2026-11-22, two busy cores), most of it copies of the 30 MB mail."""


def write_one_byte_files(out: Path) -> None:
    for number in range(ONE_BYTE_FILES):
        fd = os.open(out / f"{1_680_000_000 + number}.5+{number:040x}.pck", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o660)
        os.write(fd, b"\x80" if number % 2 else b".")
        os.close(fd)


def test_service_answers_within_bounds_while_far_too_much_goes_through_it(tmp_path: Path) -> None:
    recipients = [f"member{number}@example.org" for number in range(RECIPIENTS)]
    with SinkThread(SinkOptions(extensions=("PIPELINING", "SIZE 52428800"))) as sink:
        site = outbreak(tmp_path, sink.port, 1, mta={"sessions": 4})
        queue_dir = site.outage.queue_dir
        large = "".join(f"{line:076d}\n" for line in range(LARGE_BYTES // 77))
        put(queue_dir, mail("<large@x>", large), meant_for("a@example.org", "b@example.com", "c@example.net"))
        put(queue_dir, mail("<many@x>"), meant_for(*recipients))
        write_one_byte_files(queue_dir / "out")
        with site.run("--until-empty", executed=True) as service:
            figures = asked_until_it_ends(site, service)
            assert service.wait() == 0, service.log_text()[-4000:]
    assert len(list((queue_dir / "bad").iterdir())) == ONE_BYTE_FILES
    assert Counter(
        who for taken in sink.taken if taken.message_id == "<many@x>" for who in taken.recipients
    ) == Counter(recipients)
    assert sorted(who for taken in sink.taken if taken.message_id == "<large@x>" for who in taken.recipients) == [
        "a@example.org",
        "b@example.com",
        "c@example.net",
    ]
    assert [path for path in (queue_dir / "out", queue_dir / "drainer/backlog") if list(path.iterdir())] == []
    resident, answers = figures
    assert resident <= MOST_RESIDENT_BYTES, f"{resident / 2**20:.0f} MiB"
    assert answers >= 3


def asked_until_it_ends(site: Outbreak, service: Service) -> tuple[int, int]:
    """Peak resident memory of the service in bytes, and how often it answered while something was left.

    `status` waits for an answer as long as the client does (60 s); one that does not come fails the test.
    """
    answers = resident = 0
    while service.process.poll() is None:
        snapshot = site.status()
        answers += bool(snapshot and snapshot.backlog.entries)
        try:
            status = Path(f"/proc/{service.process.pid}/status").read_text()
        except FileNotFoundError:
            break
        if found := re.search(r"VmHWM:\s+(\d+) kB", status):
            resident = int(found[1]) * 1024
        time.sleep(0.2)
    return resident, answers
