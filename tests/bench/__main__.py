"""python -m tests.bench: how fast drainer feeds, beside others; a large backlog; the start of a command; slow providers."""

from __future__ import annotations

import importlib

from tests.bench import behind, feeding, starting


def main() -> None:
    feeding.main()
    try:
        backlog = importlib.import_module("tests.bench.backlog")
    except ModuleNotFoundError as exc:
        if exc.name != "tests.bench.backlog":
            raise
        print("The measurement of a large backlog is missing (tests/bench/backlog.py).")
    else:
        backlog.main()
    starting.main()
    behind.main()


if __name__ == "__main__":
    main()
