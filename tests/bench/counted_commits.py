"""`python -m tests.bench.counted_commits run ...`: drainer, which says at its end how often its ledger committed."""

from __future__ import annotations

import atexit
import sys
from typing import Any

from drainer.cli.main import main
from drainer.ledger.group_commit import GroupCommit

SAID = "commits="


def count() -> None:
    commits, commit = 0, GroupCommit._commit

    def counted(*arguments: Any) -> None:
        nonlocal commits
        commits += 1
        commit(*arguments)

    setattr(GroupCommit, "_commit", counted)  # noqa: B010 - mypy takes no assignment to a method
    atexit.register(lambda: print(f"{SAID}{commits}", file=sys.stderr, flush=True))


if __name__ == "__main__":
    count()
    main()
