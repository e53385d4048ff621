"""python -m tests.bench.composing: how much faster Mailman's own code composes when its look-ups are remembered.

In    a genuine Mailman 3 with two lists, entries of them (tests/mailman3/site.py)
Out   a table: CPU time of the co-process for each transaction, plain and remembering, and their ratio

Both ways run in turns in one run on one machine, on the same entries; measured is CPU time of the co-process, which a
busy machine stretches less than the time on the wall.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from drainer.compose.mailman3 import Mailman3Composer
from drainer.pickles.restricted import load_pair
from drainer.queuedir.entry import QueueEntry, entry_from_pickles
from tests.mailman3.site import MailingList, Member, Post, Site, mailman_python

_LIST = "bench@lists.example.org"
_PERSONAL_LIST = "personal@lists.example.org"
_FOOTER = "list:member:regular:footer"
_PEOPLE = [f"r{number:03}@example.com" for number in range(100)]
PLAIN_S, REMEMBERING_S = 0.0, 60.0


@dataclass(frozen=True, slots=True)
class Shape:
    """What is composed: that many entries for so many recipients, in transactions of ten or one each (VERP, personal)."""

    name: str
    entries: int
    recipients: int
    verp: bool = False
    personal: bool = False


SHAPES = (
    Shape("1 recipient", 60, 1),
    Shape("100 recipients, by tens", 60, 100),
    Shape("100 recipients, VERP", 2, 100, verp=True),
    Shape("100 recipients, personal", 2, 100, personal=True),
)


@dataclass(frozen=True, slots=True)
class Composed:
    """CPU seconds for each transaction, both ways."""

    shape: Shape
    plain_s: float
    remembering_s: float

    @property
    def ratio(self) -> float:
        return self.plain_s / self.remembering_s


def measured(directory: Path, shapes: Sequence[Shape] = SHAPES) -> list[Composed]:
    """Compose each shape plainly and remembering, after a first entry that warms both up."""
    site = Site(directory / "site", mailman_python())
    posts = [
        Post(
            _PERSONAL_LIST if shape.personal else _LIST,
            _mail(100 * place + number),
            _PEOPLE[: shape.recipients],
            kind=shape.name,
            metadata={"verp": True} if shape.verp else {},
        )
        for place, shape in enumerate(shapes)
        for number in range(shape.entries + 1)
    ]
    members = [Member(address) for address in _PEOPLE]
    personal = MailingList(_PERSONAL_LIST, members, personalize="full", templates={_FOOTER: "For $user_email\n"})
    site.populate([MailingList(_LIST, members), personal], posts)
    entries: dict[str, list[QueueEntry]] = {}
    for name, raw in site.entries.items():
        entry = entry_from_pickles(name[:-4], raw, load_pair(raw))
        entries.setdefault(str(entry.metadata["sample_kind"]), []).append(entry)
    return asyncio.run(_compared(site, shapes, entries))


async def _compared(site: Site, shapes: Sequence[Shape], entries: dict[str, list[QueueEntry]]) -> list[Composed]:
    found = []
    for shape in shapes:
        seconds = [await _cpu_seconds(site, remember_s, entries[shape.name]) for remember_s in (PLAIN_S, REMEMBERING_S)]
        found.append(Composed(shape, *seconds))
    return found


async def _cpu_seconds(site: Site, remember_s: float, entries: list[QueueEntry]) -> float:
    """CPU time of a co-process for each transaction; the first entry is not counted."""
    composer = Mailman3Composer(site.python, site.config, 1, 0, remember_s)
    known = {child.pid for child in psutil.Process().children()}
    await composer.start()
    try:
        (coprocess,) = (child for child in psutil.Process().children() if child.pid not in known)
        await _messages(composer, entries[:1])
        before = coprocess.cpu_times()
        messages = await _messages(composer, entries[1:])
        after = coprocess.cpu_times()
    finally:
        await composer.close()
    return (after.user + after.system - before.user - before.system) / messages


async def _messages(composer: Mailman3Composer, entries: Sequence[QueueEntry]) -> int:
    count = 0
    for entry in entries:
        async for _ in composer.compose(entry, entry.recipients):
            count += 1
    return count


def _mail(number: int) -> bytes:
    head = f"From: r000@example.com\nTo: {_LIST}\nSubject: post {number}\nMessage-ID: <{number}@posts.example.org>\n"
    return (head + "Date: Mon, 02 Mar 2026 10:00:00 +0000\n\n" + "A line of an ordinary mail.\n" * 40).encode()


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="drainer-bench-") as directory:
        found = measured(Path(directory))
    print("CPU time of the co-process for each transaction")
    print(f"{'entries':<26} {'plain':>10} {'remembering':>12} {'ratio':>7}")
    for item in found:
        print(
            f"{item.shape.name:<26} {item.plain_s * 1e3:>7.2f} ms {item.remembering_s * 1e3:>9.2f} ms {item.ratio:>6.1f}x"
        )


if __name__ == "__main__":
    main()
