"""python -m tests.torture.power_loss [--seed N] [--mails N] [--draws N]: power lost at every moment of a drain.

Every write, sync, name and send of a recorded service is a cut; after each, the disk that kept only what was synced, the
one that kept everything, names without octets, octets without names, and --draws more; services restarted on some.
Exit status 0: every promise was kept. 1: one was broken, and it says which.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.crash.model_disk import EVERYTHING, NAMES_ONLY, NOTHING, OCTETS_ONLY, some
from tests.crash.power_loss import Cuts, Judge, record

RESTARTED_EVERY = 150
"""Cuts between two after which a whole service is started on what was found."""


async def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture.power_loss", description=__doc__)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000), help="repeats every draw")
    parser.add_argument("--mails", type=int, default=30, help="originals in the queue")
    parser.add_argument("--draws", type=int, default=3, help="further disks after each cut")
    asked = parser.parse_args(arguments)
    began_s = time.monotonic()
    wrong: list[str] = []
    print(f"seed {asked.seed}, {asked.mails} mails, {asked.draws} draws")
    print("renames     cuts   disks  ledgers  restarts  promises broken  seconds")
    with tempfile.TemporaryDirectory(prefix="power-") as home:
        recording = await asyncio.to_thread(record, Path(home, "site"), asked.mails)
        for whole_renames in (True, False):
            judge, cuts, restarts, broken = Judge(recording), 0, 0, len(wrong)
            for cuts, cut in enumerate(Cuts(recording, whole_renames=whole_renames), start=1):
                draws = [some(asked.seed + cuts * asked.draws + draw) for draw in range(asked.draws)]
                for kept in (NOTHING, EVERYTHING, NAMES_ONLY, OCTETS_ONLY, *draws):
                    wrong += await judge.judge(cut, kept)
                if whole_renames and cuts % RESTARTED_EVERY == 0:
                    wrong += await judge.restarted(cut, some(asked.seed + cuts), Path(home, f"again{cuts}"))
                    restarts += 1
            print(
                f"{'one step' if whole_renames else 'two steps':9} {cuts:6} {judge.images:7} {judge.ledgers:8} {restarts:9} "
                f"{len(wrong) - broken:16} {time.monotonic() - began_s:8.0f}",
                flush=True,
            )
    print(*wrong[:50], sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
