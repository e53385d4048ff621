"""python -m tests.bench: the speed of feeding, beside others; a large backlog; a command's start; slow
providers; order; the index alone."""

from __future__ import annotations

import importlib

from tests.bench import bearing, behind, feeding, index, order, starting


def main() -> None:
    feeding.main()
    bearing.main()
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
    order.main()
    index.main()


if __name__ == "__main__":
    main()
