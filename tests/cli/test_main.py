"""The command line as a whole."""

from __future__ import annotations

import subprocess
import sys

import pytest

from drainer.cli.main import COMMANDS

LOADED = "import sys; from drainer.cli.main import application; application(sys.argv[1:]); print(*sys.modules)"


def loaded_for(*arguments: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", LOADED, *arguments], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_command_loads_what_it_needs_and_not_the_code_of_the_others() -> None:
    loaded = loaded_for("pause", "--for", "10m")
    assert "drainer.cli.pause" in loaded
    assert not {"drainer.cli.scan", "drainer.cli.run", "drainer.demo.sink", "drainer.duplicates.decision"} & loaded


@pytest.mark.parametrize("arguments", [["--help"], [], ["stauts"]], ids=["help", "nothing", "no such command"])
def test_help_and_a_wrong_command_know_every_command(arguments: list[str]) -> None:
    said = subprocess.run(
        [sys.executable, "-m", "drainer", *arguments], capture_output=True, text=True, check=False
    )  # fmt: skip
    if arguments == ["stauts"]:
        assert "Did you mean 'status'?" in said.stderr
    else:
        assert all(f"\n  {name} " in said.stdout for name in [*COMMANDS, "version"])
