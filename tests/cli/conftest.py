"""The command line as operators run it: a process of its own, against a service on a real socket."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pytest

from drainer.cli.main import main
from tests.control.small_service import SmallService, serving


@dataclass
class Ran:
    code: int
    out: str
    err: str


@dataclass
class CommandLine:
    """Runs `python -m drainer ...` with a settings file that names the test's socket."""

    config: Path
    socket: Path

    def __call__(self, *arguments: str, config: bool = True, **environment: str) -> Ran:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("DRAINER_")}
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "drainer",
                *arguments,
                *(("--config", str(self.config)) if config else ()),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            env={**inherited, "TZ": "UTC", "COLUMNS": "80", **environment},
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    def inside(self, *arguments: str, config: bool = True) -> Ran:
        """The same within this process: for what ends before the service is asked, and in a twentieth of the time."""
        out, err, before = StringIO(), StringIO(), sys.argv
        sys.argv = ["drainer", *arguments, *(("--config", str(self.config)) if config else ())]
        try:
            with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as left:
                main()
        finally:
            sys.argv = before
        return Ran(int(left.value.code or 0), out.getvalue(), err.getvalue())


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
