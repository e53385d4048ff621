"""A command of Python's with the system's clock put right or wrong: a file holds by how many seconds it is off.

    python -m tests.scenarios.with_clock OFFSET_FILE python -m MODULE ARGUMENTS...

Only time.time() is off, as drainer's clock.py reads it; what never jumps (time.monotonic()) does not.
"""

from __future__ import annotations

import runpy
import sys
import time
from pathlib import Path


def main(offset_file: Path, command: list[str]) -> None:
    right, offset = time.time, float(offset_file.read_text())

    def wrong() -> float:
        nonlocal offset
        if written := offset_file.read_text():  # empty for a moment while it is written anew
            offset = float(written)
        return right() + offset

    time.time = wrong
    sys.argv = command[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
