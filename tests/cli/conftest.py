"""The command line as operators run it, against a service on a real socket."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from drainer.backlog import readers
from tests.command_line import run_here, run_process
from tests.control.small_service import SmallService, serving
from tests.reads_here import ReadsHere


@dataclass
class Ran:
    code: int
    out: str
    err: str


@dataclass
class CommandLine:
    """Runs `drainer ...` with a settings file that names the test's socket.

    Called, it runs within the test's process; `process` starts one, for one test of each command.
    """

    config: Path
    socket: Path

    def __call__(self, *arguments: str, config: bool = True, **environment: str) -> Ran:
        return self._ran(run_here, arguments, config, environment)

    def process(self, *arguments: str, config: bool = True, **environment: str) -> Ran:
        return self._ran(run_process, arguments, config, environment)

    def _ran(
        self,
        run: Callable[..., subprocess.CompletedProcess[str]],
        arguments: Sequence[str],
        config: bool,
        environment: Mapping[str, str],
    ) -> Ran:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("DRAINER_")}
        done = run(
            *arguments,
            *(("--config", str(self.config)) if config else ()),
            environment={**inherited, "TZ": "UTC", "COLUMNS": "80", **environment},
        )
        return Ran(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def cli(tmp_path: Path) -> CommandLine:
    socket = tmp_path / "control.sock"
    config = tmp_path / "drainer.toml"
    config.write_text(f'[control]\nsocket = "{socket}"\n[ledger]\npath = "{tmp_path}/ledger.sqlite"\n')
    return CommandLine(config, socket)


@pytest.fixture
def service(cli: CommandLine) -> Iterator[SmallService]:
    running = SmallService()
    with serving(cli.socket, running):
        yield running


@pytest.fixture
def reads_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scan starts no processes that read; that it does is held by tests/cli/test_meant.py and tests/backlog."""
    monkeypatch.setattr(readers, "EntryReaders", ReadsHere)
