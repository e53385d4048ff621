"""Settings for the other Mailman, and a queue that both have written: named at the start and by entry, nothing lost."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from drainer.demo.sample_queue import write_plain
from drainer.demo.sink import SinkOptions, SinkThread
from tests.scenarios.running import drainer, site_settings
from tests.scenarios.troubled import Outbreak, given, once

OF_MAILMAN_3 = sorted((Path(__file__).parents[1] / "samples" / "mailman3").glob("*.pck"))[:2]


def test_queue_of_the_other_mailman_ends_the_start_and_stays_as_it_is(tmp_path: Path) -> None:
    outage = write_plain(tmp_path, 3, 2)
    before = {path.name: path.read_bytes() for path in (outage.queue_dir / "out").iterdir()}
    mailman = {"flavour": "mailman3", "queue_dir": outage.queue_dir, "python": sys.executable}
    done = drainer("run", "--until-empty", "--config", site_settings(tmp_path, 9, mailman))
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    said = (
        f'mailman.flavour = "mailman3", but 3 of the first 3 entries in {outage.queue_dir} were written by Mailman 2.1'
    )
    assert said in done.stderr and 'right would be "mailman2"' in done.stderr
    assert {path.name: path.read_bytes() for path in (outage.queue_dir / "out").iterdir()} == before


def test_queue_of_both_delivers_what_it_can_and_holds_the_others_by_name(tmp_path: Path) -> None:
    capture = tmp_path / "capture.jsonl"
    outage = write_plain(tmp_path, 3, 2)
    for entry in OF_MAILMAN_3:
        shutil.copy(entry, outage.queue_dir / "out")
    with SinkThread(SinkOptions(capture=capture)) as sink:
        mailman = {"flavour": "auto", "queue_dir": outage.queue_dir, "lists_dir": outage.lists_dir}
        site = Outbreak(tmp_path, outage, site_settings(tmp_path, sink.port, mailman))
        with site.run() as service:
            site.status_when("the rest is held", lambda said: said.state == "idle" and said.backlog.held_entries == 2)
            assert drainer("handback", "--yes", "--config", site.settings).returncode == 0
            assert service.terminate() == 0
    once("the others", site.owed(), given(capture))
    (named,) = [line["detail"] for line in site.lines() if line.get("event") == "flavour"]
    assert named.startswith(f"2 of the first 5 entries in {outage.queue_dir} were written by Mailman 3, the others by")
    held = site.outcomes("held")
    assert {line["reason"] for line in held} == {"other_mailman"}
    assert all("Mailman 3 wrote it, and drainer composes for Mailman 2.1 here" in line["detail"] for line in held)
    assert [path.read_bytes() for path in site.files("out")] == [entry.read_bytes() for entry in OF_MAILMAN_3]
