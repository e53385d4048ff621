"""python -m tests.torture [--seed N] [--times N] [--only FAULT] [--at-once N]: hurts the service, prints what came of it.

Exit status 0: every promise was kept. 1: one was broken, or the service ended by itself; the sites concerned are kept.
"""

from __future__ import annotations

import argparse
import secrets
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.mailman3 import sample
from tests.mailman3.site import Site as Mailman3
from tests.mailman3.site import mailman_python
from tests.torture.faults import FAULTS
from tests.torture.place import Place, Row, endure
from tests.torture.table import broken, table

_AT_ONCE = 2


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000), help="repeats every choice")
    parser.add_argument("--times", type=float, default=1.0, help="so many times as much of everything")
    parser.add_argument("--only", choices=sorted(FAULTS), action="append", help="this fault; may be repeated")
    parser.add_argument("--at-once", type=int, default=_AT_ONCE, help="so many faults side by side")
    given = parser.parse_args(arguments)
    home = Path(tempfile.mkdtemp(prefix="drainer-torture-"))
    began_s = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began_s:6.0f} s  {text}", flush=True)

    print(f"seed {given.seed}, in {home}", flush=True)
    names = given.only or list(FAULTS)
    needs_mailman3 = any(FAULTS[name].kind == "mailman3" for name in names)
    mailman3 = genuine_mailman(home / "genuine") if needs_mailman3 else None
    place = Place(home, given.seed, True, mailman3, say)
    rows: list[Row] = []

    def endured(name: str) -> Row:
        try:
            row = endure(name, FAULTS[name], place, max(1, round(FAULTS[name].times * given.times)))
        except BaseException as exc:
            say(f"FAILED: {name}: {exc!r:.2000}")
            raise
        say(f"done, {len(row.found.wrong)} broken:\n{table([row])}")
        return row

    failed: list[str] = []
    with ThreadPoolExecutor(given.at_once) as pool:
        stories = {name: pool.submit(endured, name) for name in names}
        for name, story in stories.items():
            error = story.exception()
            if error is None:
                rows.append(story.result())
            else:
                failed.append(f"{name}: {''.join(traceback.format_exception(error))}")
    print(f"\n{table(rows)}\n\nseed {given.seed}, {time.monotonic() - began_s:.0f} s")
    wrong = broken(rows) + failed
    if wrong:
        print("\n".join(f"BROKEN  {line}" for line in wrong))
        print(f"everything is kept in {home}; again: python -m tests.torture --seed {given.seed}")
        return 1
    shutil.rmtree(home)
    return 0


def genuine_mailman(directory: Path) -> Callable[[Path], Mailman3]:
    """Builds a genuine Mailman 3 site; what it returns makes copies of it."""
    site = Mailman3(directory, mailman_python(), sample.MTA_SETTINGS)
    site.populate(sample.LISTS, sample.POSTS, sample.NOTICES, sample.POST_IDS)
    return site.copy_to


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
