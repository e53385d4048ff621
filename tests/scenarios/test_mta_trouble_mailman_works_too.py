"""Mailman is restarted in the middle, its runner works on out/ beside us, new mail arrives: each entry has one owner."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from drainer.demo.sink import SinkOptions, SinkThread
from tests.scenarios.troubled import given, outbreak


def test_every_entry_is_handled_by_mailman_or_by_us_and_by_one_only(tmp_path: Path) -> None:
    capture, delivered = tmp_path / "capture.jsonl", tmp_path / "delivered"
    fresh = outbreak(tmp_path / "fresh", 1, 40, members_each=3)
    with SinkThread(SinkOptions(capture=capture)) as sink:
        site = outbreak(
            tmp_path / "site", sink.port, 40, members_each=3,
            custody={"poll": "20ms"}, duplicates={"exact": "deliver", "resend": "deliver"},
        )  # fmt: skip
        out = site.outage.queue_dir / "out"
        names = {path.stem for path in site.files("out")}
        with site.run() as service:
            site.until("the drain is under way", lambda: sink.taken_recipients > 0)
            runner = subprocess.Popen([sys.executable, "-m", "tests.scenarios.mailman_runner", out, delivered])
            site.until("Mailman's runner works", delivered.exists)
            for entry in fresh.files("out"):
                half_written = out / (entry.stem + ".tmp")
                half_written.write_bytes(entry.read_bytes())
                half_written.rename(out / entry.name)
                names.add(entry.stem)
            (site.outage.queue_dir / "stop").touch()
            assert runner.wait(60) == 0
            site.status_when(
                "all is done", lambda said: said.state == "idle" and not site.files("out", "drainer/backlog")
            )
            assert service.terminate() == 0
    by_mailman = [json.loads(line)["filebase"] for line in delivered.read_text().splitlines()]
    by_us = [line["filebase"] for line in site.outcomes("finished")]
    assert sorted([*by_mailman, *by_us]) == sorted(names)
    assert by_us and given(capture)
    assert not site.files("out", "drainer/backlog", "drainer/held")
