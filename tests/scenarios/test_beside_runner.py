"""Mailman's own outgoing runner beside us: refused at the start, and said loudly when it comes in the middle."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from drainer.guards.mailman_processes import mailman_processes
from tests.mailman3.site import Site as Mailman3
from tests.scenarios.operated import Site, site, when
from tests.scenarios.running import drainer, eventually, running_service, running_sink, site_settings
from tests.scenarios.test_mailman3_into_postfix import owed_by

OTHERS = ("archive", "bounces", "command", "digest", "in", "lmtp", "nntp", "pipeline", "rest", "retry", "task")
"""Runners of Mailman 3 that this is not about; each costs seconds to start."""

RUNNER = """
import pathlib, sys
sys.path[:0] = {path!r}
from tests.scenarios.mailman_runner import main
main(pathlib.Path({out!r}), pathlib.Path({delivered!r}))
"""


@contextmanager
def runner_of_2_1(lists: Site) -> Iterator[subprocess.Popen[bytes]]:
    """An outgoing runner that the site's own 2.1 could have started; it takes entries as Mailman does, until killed."""
    home = lists.home
    for name in ("bin", "logs", "Mailman"):
        (home / name).mkdir(exist_ok=True)
    (home / "Mailman" / "mm_cfg.py").write_text("from Defaults import *\n")
    program = home / "bin" / "qrunner"
    said = {"out": str(lists.out), "delivered": str(home / "by-mailman")}
    program.write_text(RUNNER.format(path=[str(Path(__file__).parents[2])], **said))
    command = [sys.executable, str(program), "--runner=OutgoingRunner:0:1", "-s"]
    # Its log is open before it runs: without, it might be the runner of any queue.
    with (home / "logs" / "qrunner").open("ab") as log, subprocess.Popen(command, stderr=log) as runner:
        try:
            when((home / "by-mailman").exists, lambda: "the runner does not work")
            yield runner
        finally:
            runner.kill()


def by_mailman(lists: Site) -> list[str]:
    return [json.loads(line)["filebase"] for line in (lists.home / "by-mailman").read_text().splitlines()]


def test_runner_that_starts_during_a_drain_does_not_end_it_and_every_output_says_so(tmp_path: Path) -> None:
    notices = tmp_path / "notices"
    notify = {"command": ["/bin/sh", "-c", f'echo "$DRAINER_EVENT $DRAINER_TEXT" >> {notices}'], "after": "0s"}
    with site(tmp_path / "site", 12, feed={"messages": "0"}, notify=notify, duplicates={"resend": "deliver"}) as lists:
        entries = {path.name: path.read_bytes() for path in lists.out.iterdir()}
        with lists.run() as service:
            lists.surveyed()
            with runner_of_2_1(lists) as runner:
                beside = f"OutgoingRunner (pid {runner.pid}) takes entries from the same queue"
                said = lists.status_when(lambda said: said["mailman"]["outgoing_runner_competes"])
                lists.says("rate", "--messages", "1/s")
                lists.status_when(lambda said: said["state"] == "draining" and said["reason"].startswith(beside))
                assert next(guard["reason"] for guard in said["guards"] if guard["name"] == "mailman").startswith(
                    beside
                )
                assert "second copies" in lists.says("status")
                when(lambda: notices.exists() and beside in notices.read_text(), lambda: "no notice")
                assert "works beside drainer" in drainer("check", "--config", lists.settings).stdout

                # The same mails submitted again: each goes out once, and those of the runner are counted.
                lists.says("rate", "--messages", "unlimited")
                for number, (name, octets) in enumerate(sorted(entries.items())):
                    copy = lists.out / f"{float(name.partition('+')[0]) + number + 1!r}+{number:040x}"
                    copy.with_suffix(copy.suffix + ".tmp").write_bytes(octets)
                    copy.with_suffix(copy.suffix + ".tmp").rename(f"{copy}.pck")
                when(lambda: not list(lists.out.glob("*.pck")), lambda: sorted(lists.out.iterdir()))
                refused = subprocess.run(
                    [sys.executable, "-m", "drainer", "run", "--config", lists.settings],
                    capture_output=True, text=True, timeout=60, check=False,
                )  # fmt: skip
                assert refused.returncode == 2
                assert f"(pid {runner.pid})" in refused.stderr and "QRUNNERS = [" in refused.stderr
            lists.status_when(lambda said: not said["mailman"]["outgoing_runner_competes"])
            seen = lists.status_when(lambda said: said["state"] == "idle")["mailman"]["taken_by_runner_entries"]
            assert seen <= len(by_mailman(lists))
            when(lambda: len([line for line in lists.journal() if line.action == "runner beside"]) == 2, lists.journal)
            came, gone = (line.detail for line in lists.journal() if line.action == "runner beside")
            assert came.startswith(beside)
            assert gone.startswith("Mailman's outgoing runner is gone; it was seen to take ")
            assert service.terminate() == 0
        assert lists.sink.deliveries() == lists.owed(resends_too=True), "what drainer had taken, it delivered once"


def started(site: Mailman3) -> subprocess.Popen[bytes]:
    """Mailman's own master."""
    command: list[str | Path] = [site.python, site.python.with_name("master"), "-C", site.config]
    return subprocess.Popen(command, cwd=site.directory)


def runners(site: Mailman3) -> dict[str, int]:
    return {one.name: one.pid for one in mailman_processes(site.var / "queue", site.config).runners}


def test_genuine_mailman_3_is_refused_until_the_lines_of_the_advice_have_stopped_its_runner(
    mailman3_copy: Mailman3, tmp_path: Path
) -> None:
    mailman = mailman3_copy
    for path in mailman.out.iterdir():
        path.unlink()
    with mailman.config.open("a") as config:
        config.writelines(f"[runner.{name}]\nstart: no\n" for name in OTHERS)
    known = {"flavour": "mailman3", "queue_dir": mailman.var / "queue", "python": mailman.python,
             "config": mailman.config, "coprocesses": 1}  # fmt: skip
    with running_sink(tmp_path / "sink") as sink:
        settings = site_settings(tmp_path, sink.port, known)
        with started(mailman) as master:
            try:
                eventually(lambda: {"out", "virgin"} <= set(runners(mailman)))
                refused = drainer("run", "--config", settings)
                assert refused.returncode == 2
                assert f"outgoing runner (pid {runners(mailman)['out']})" in refused.stderr
                assert not (mailman.var / "queue" / "drainer").exists(), "nothing was touched"
                assert not (tmp_path / "ledger.sqlite").exists()
                lines = re.findall(r"^    (.*)$", refused.stderr, re.MULTILINE)
                assert lines == ["[runner.out]", "start: no"]
                with mailman.config.open("a") as config:
                    config.write("\n".join(["", *lines, ""]))

                # `mailman restart` is this signal, and as the refusal says it is not enough.
                before = runners(mailman)["out"]
                os.kill(master.pid, signal.SIGUSR1)
                eventually(lambda: runners(mailman).get("out", before) != before)
            finally:
                master.terminate()
                master.wait(60)
        with started(mailman) as master:
            try:
                eventually(lambda: "virgin" in runners(mailman))
                mailman.restore_entries()
                owed = owed_by(mailman)
                with running_service(settings, tmp_path / "drainer.log", "--until-empty") as service:
                    assert service.wait() == 0, service.log_text()
                assert "out" not in runners(mailman)
            finally:
                master.terminate()
                master.wait(60)
        assert sink.deliveries() == owed
