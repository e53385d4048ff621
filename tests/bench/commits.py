"""How often the ledger commits, and SQLite so syncs its file, for each message of a drain with 20 sessions.

In    entries as Mailman 2.1 writes them, an smtp-sink
Out   a row of the table of aims
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from drainer.demo.sample_queue import write_plain
from tests.bench.counted_commits import SAID
from tests.bench.feeding import SESSIONS, begin_drainer, measured
from tests.bench.into_sink import Runs, Scale
from tests.bench.rows import Aim, Row

MOST = 0.15


def commit_rows(home: Path, scale: Scale) -> Iterator[Row]:
    runs = Runs(home)
    found = [_commits(runs.directory(), scale.drainer) / scale.drainer for _ in range(scale.pairs)]
    each = median(found)
    aim = Aim(MOST, "", at_most=True)
    yield Row("SQLite's fsync", f"a message, {SESSIONS} sessions", f"{each:.2f} commits", "", each, aim)


def _commits(home: Path, entries: int) -> int:
    home.mkdir()
    outage = write_plain(home / "site", entries, 1, start_s=time.time() - 10 * 86_400)
    mailman = {"flavour": "mailman2", "queue_dir": outage.queue_dir, "lists_dir": outage.lists_dir}
    measured(entries, lambda port: begin_drainer(home, mailman, port, "tests.bench.counted_commits"))
    found = re.findall(rf"^{SAID}(\d+)$", (home / "drainer.log").read_text(), re.MULTILINE)
    if not found:
        raise RuntimeError(f"no count of commits in {home / 'drainer.log'}")
    return int(found[-1])
