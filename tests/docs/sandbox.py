"""A small site with a service, on which the command lines of the pages run.

In    a command line as a page has it: the paths of a mail host, and words in capitals for what a reader puts in
Out   its exit status and what it printed; `drainer` runs within this process, other programs as processes
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import BytesIO, TextIOWrapper
from pathlib import Path
from unittest.mock import patch

import pytest

from drainer.cli.main import main
from tests.scenarios.operated import Site, site

MAILS = 60
DEFERRED = "rcpt 450 4.2.0 later recipient=*.choir@*"
"""Mail of the list choir waits, however fast the rest is delivered."""
PROGRAMS = frozenset({"curl"})
"""Run as they are, against the socket of the site."""
_MM_CFG = "VERP_FORMAT = '%(bounces)s+%(mailbox)s=%(host)s'\nSMTP_MAX_RCPTS = 50\n"


@dataclass(frozen=True, slots=True)
class Ran:
    status: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Sandbox:
    """here: the site, with its service, which sends nothing at first; work: the directory the commands run in."""

    here: Site
    work: Path

    def run(self, words: list[str]) -> Ran:
        replaced = [self._here(word) for word in words]
        program, *arguments = replaced
        with chdir(self.work):
            if program == "drainer":
                return self._drainer(arguments)
            assert program in PROGRAMS, program
            done = subprocess.run(replaced, capture_output=True, text=True, timeout=60, check=False)
            return Ran(done.returncode, done.stdout, done.stderr)

    def _drainer(self, arguments: list[str]) -> Ran:
        out, err = (TextIOWrapper(BytesIO(), "utf-8", write_through=True) for _ in range(2))
        with (
            patch.object(sys, "argv", ["drainer", *arguments, *self._settings_for(arguments)]),
            redirect_stdout(out),
            redirect_stderr(err),
            pytest.raises(SystemExit) as left,
        ):
            main()
        return Ran(int(left.value.code or 0), *(read_back(stream) for stream in (out, err)))

    def _settings_for(self, arguments: list[str]) -> list[str]:
        return [] if "--config" in arguments or "--version" in arguments else ["--config", str(self.here.settings)]

    def _here(self, word: str) -> str:
        """The path, entry or number of the site that the word on the page stands for."""
        stands_for: dict[str, Callable[[], object]] = {
            "/opt/drainer/bin/drainer": lambda: "drainer",
            "/etc/drainer/drainer.toml": lambda: self.here.settings,
            "/etc/mailman/mm_cfg.py": lambda: self.work / "mm_cfg.py",
            "/run/drainer/control.sock": lambda: self.here.home / "control.sock",
            "/var/lib/mailman3/queue": lambda: self.here.outage.queue_dir,
            "/var/log/mail.log": lambda: self.here.sink.log,
            "/var/log/mail.log.1": lambda: self.here.sink.log,
            "ENTRY": self._an_entry,
            "MESSAGE-ID": lambda: min(message_id for _, message_id in self.here.outage.owed),
            "NUMBER": self._an_action,
        }
        return str(stands_for[word]()) if word in stands_for else word

    def _an_entry(self) -> str:
        return min(path.stem for path in self.here.custody.glob("held/*.pck"))

    def _an_action(self) -> int:
        """The number of an action that can be undone: a pause, made for this."""
        paused = self._drainer(["pause", "--list", "harbour"])
        assert paused.status == 0, paused.err
        actions = json.loads(self._drainer(["journal", "--json"]).out)["actions"]
        return max(int(action["number"]) for action in actions)


@contextmanager
def sandbox(directory: Path) -> Iterator[Sandbox]:
    work = directory / "work"
    work.mkdir(parents=True)
    (work / "mm_cfg.py").write_text(_MM_CFG)
    with (
        site(directory / "site", MAILS, "--rule", DEFERRED, members_each=4, feed={"messages": "0"}) as here,
        here.run() as service,
    ):
        here.surveyed()
        with patch.dict(os.environ, {"COLUMNS": "100", "TZ": "UTC"}):
            place = Sandbox(here, work)
            held = place.run(["drainer", "hold", "--class", "resend", "--yes"])
            assert held.status == 0, held.err
            yield place
        assert service.terminate() == 0, service.log_text()


def read_back(stream: TextIOWrapper) -> str:
    stream.seek(0)
    return stream.read()
