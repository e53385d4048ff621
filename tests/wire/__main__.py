"""Prints what was compared with Mailman, and what of it is equal. Exit status 1 when anything differs against our will.

`python -m tests.wire [KIND...]`: with words, also every entry whose kind holds one of them.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from tests.mailman3.site import VERSIONS
from tests.wire import mailman2, mailman3, recording
from tests.wire.table import Comparison, by_group, differences, summary


async def compare_all(directory: Path) -> list[Comparison]:
    """Every Mailman; the versions of Mailman 3 side by side, each built and delivered here and now."""
    of_3 = await asyncio.gather(
        *(mailman3.compare(version, directory / version, recording.SHARE) for version in VERSIONS)
    )
    return [*mailman2.compare_all(), *(comparison for of_version in reversed(of_3) for comparison in of_version)]


def main(words: list[str]) -> int:
    with tempfile.TemporaryDirectory(prefix="drainer-wire-") as directory:
        comparisons = asyncio.run(compare_all(Path(directory)))
    of_2, of_3 = comparisons[:2], [item for item in comparisons if item.mailman in VERSIONS]
    print(summary(comparisons), by_group(of_2), by_group(of_3), sep="\n\n")
    print(f"\nDifferences that are there on purpose:\n{differences(comparisons)}")
    unwanted = [(comparison.mailman, entry) for comparison in comparisons for entry in comparison.unwanted()]
    for mailman, entry in unwanted:
        print(f"WRONG {mailman}: {entry.kind}: {entry.detail}")
    for comparison in comparisons:
        for entry in comparison.entries:
            if any(word in entry.kind for word in words):
                print(f"{comparison.mailman}: {entry.kind}: {entry.deliveries} deliveries, equal: {entry.is_equal}")
    return 1 if unwanted else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
