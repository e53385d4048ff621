"""How much CPU a command line takes to start, as ratios against what no command can do without.

`drainer status` asks a service that answers; beside it in turns: the interpreter alone, and the bare import of typer and
pydantic, which every command needs. Ratios, since all of them are slow on a slow or a busy machine.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.control.small_service import SmallService, serving

TIMES = 10
BARE = "import typer; from pydantic import BaseModel"


def cpu_s(*arguments: str) -> float:
    """User and system time of one process."""
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, arguments
    return usage.ru_utime + usage.ru_stime


def measured(times: int = TIMES) -> dict[str, float]:
    """Median CPU seconds of each, measured in turns."""
    with tempfile.TemporaryDirectory(prefix="drainer-bench-") as directory:
        socket, settings = Path(directory) / "control.sock", Path(directory) / "drainer.toml"
        settings.write_text(f'[control]\nsocket = "{socket}"\n', "utf-8")
        command_lines = {
            "python": ("-c", "pass"),
            "typer and pydantic": ("-c", BARE),
            "drainer --help": ("-m", "drainer", "--help"),
            "drainer status": ("-m", "drainer", "status", "--config", str(settings)),
            "the service's code": ("-c", "import drainer.service"),
        }
        with serving(socket, SmallService()):
            runs = [{name: cpu_s(*line) for name, line in command_lines.items()} for _ in range(times + 1)]
    return {name: statistics.median(run[name] for run in runs[1:]) for name in command_lines}


def main() -> None:
    found = measured()
    bare = found["typer and pydantic"]
    print(f"Start of a command: CPU in s, and as a multiple of `{BARE}`")
    for name, seconds in found.items():
        print(f"  {name:20} {seconds:6.3f} s  {seconds / bare:5.2f}")


if __name__ == "__main__":
    main()
