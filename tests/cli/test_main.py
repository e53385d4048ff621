"""The command line as a whole."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from drainer.cli.main import COMMANDS
from tests.control.small_service import SmallService, serving

LOADED = "import sys; from drainer.cli.main import application; application(sys.argv[1:]); print(*sys.modules)"

RUN = """
import sys
from drainer.cli.main import main
try:
    main()
finally:
    print(*sys.modules, file=sys.stderr)
"""


def loaded_for(*arguments: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", LOADED, *arguments], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_command_loads_what_it_needs_and_not_the_code_of_the_others() -> None:
    loaded = loaded_for("pause", "--for", "10m")
    assert "drainer.cli.pause" in loaded
    assert not {"drainer.cli.scan", "drainer.cli.run", "drainer.demo.sink", "drainer.duplicates.decision"} & loaded


def loaded_by(*arguments: str) -> set[str]:
    """What a whole run of a command has loaded when it ends."""
    done = subprocess.run([sys.executable, "-c", RUN, *arguments], capture_output=True, text=True, check=True)
    return set(done.stderr.splitlines()[-1].split())


def test_help_loads_no_subcommand_and_status_nothing_but_what_asks_and_shows(tmp_path: Path) -> None:
    """What each of these takes to import: aiohttp alone twice as long as all else that `status` needs."""
    for_help = loaded_by("--help")
    assert "typer" in for_help
    assert not {"pydantic", "asyncio", "drainer.settings", "drainer.cli.status"} & for_help
    settings, socket = tmp_path / "drainer.toml", tmp_path / "control.sock"
    settings.write_text(f'[control]\nsocket = "{socket}"\n')
    with serving(socket, SmallService()):
        for_status = loaded_by("status", "--config", str(settings))
    packages = {name.partition(".")[0] for name in for_status}
    assert not {"aiohttp", "psutil", "uvloop", "aiosmtplib", "prometheus_client", "sqlite3"} & packages
    assert not {"rich.console", "rich.live", "rich.markdown"} & for_status, "rich.cells alone, for widths"
    ours = {name.split(".")[1] for name in for_status if name.startswith("drainer.")}
    assert ours <= set(
        "backlog cli control errors estimate files guards report schedule settings settings_file text".split()
    )
    assert not {name for name in for_status if name.startswith("drainer.report.incident")}


def test_each_command_is_one_line_of_the_help_and_its_function_is_there() -> None:
    for name, (place, line) in COMMANDS.items():
        module, _, function = place.partition(":")
        assert callable(getattr(importlib.import_module(f"drainer.cli.{module}"), function)), name
        assert len(line) <= 61 and line.endswith("."), f"{name}: the list of --help is 80 columns wide"


@pytest.mark.parametrize("arguments", [["--help"], [], ["stauts"]], ids=["help", "nothing", "no such command"])
def test_help_and_a_wrong_command_know_every_command(arguments: list[str]) -> None:
    said = subprocess.run(
        [sys.executable, "-m", "drainer", *arguments], capture_output=True, text=True, check=False
    )  # fmt: skip
    if arguments == ["stauts"]:
        assert "Did you mean 'status'?" in said.stderr
    else:
        assert all(f"\n  {name} " in said.stdout for name in [*COMMANDS, "version"])
