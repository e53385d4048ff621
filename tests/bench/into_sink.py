"""How fast entries leave into an smtp-sink, beside Mailman 3's own runner and Postfix's smtp-source.

In    the senders of feeding.py
Out   rows of the table of aims

Mailman's runner is one process with one session; it gets fewer entries, since each takes it as long as the one before. Its
fsync does nothing here (tests/mailman3/inside.py), ours is as on a mail host.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.bench.feeding import (
    BARE,
    PERSONALISED,
    SESSIONS,
    VERP,
    Drained,
    bare_loop,
    clones_of,
    genuine_site,
    mailman2_drainer,
    mailman3_drainer,
    mailman3_runner,
    smtp_source,
)
from tests.bench.link import link_to
from tests.bench.rows import PAIRS, Aim, Row, compared, in_turns
from tests.mailman3.site import Site

_RUNNER, _SOURCE = "Mailman's runner", f"smtp-source, {SESSIONS} sessions, sink"
LINK_DELAY_S = 0.02


@dataclass(frozen=True, slots=True)
class Scale:
    """How much each sender gets: enough for some seconds of steady drain.

    drainer, runner, source  messages of one recipient; of `many` recipients a part of that
    """

    drainer: int = 3000
    runner: int = 300
    source: int = 30_000
    many: int = 100
    pairs: int = PAIRS

    def of_many(self, part: float, least: int = 4) -> tuple[int, int]:
        """Entries of many recipients, for drainer and for the runner."""
        return max(least, int(self.drainer * part)), max(least, int(self.runner * part))


class Runs:
    """Runs of drainer, each in a directory of its own; messages/s."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._serial = itertools.count()

    def directory(self) -> Path:
        return self._home / f"run-{next(self._serial)}"


def mailman3_rows(home: Path, scale: Scale) -> Iterator[Row]:
    """A queue of Mailman 3, against its runner, and of 100 recipients against smtp-source."""
    runs = Runs(home)
    with genuine_site(home / "mailman3", members=scale.many) as site:
        few = scale.drainer, scale.runner
        yield _against_runner(site, runs, scale, "MM3 queue, 1 rcpt, sink", "", 1, few, 8.0)
        verp, personal, many = scale.of_many(0.02), scale.of_many(0.02), scale.of_many(0.2)
        yield _against_runner(site, runs, scale, f"MM3, VERP, {scale.many} rcpts", VERP, scale.many, verp, 30.0)
        yield _against_runner(
            site, runs, scale, f"MM3, personalised, {scale.many} rcpts", PERSONALISED, scale.many, personal, 3.0
        )
        clones = clones_of(site, many[0], scale.many)
        yield _against_source(
            f"MM3, {scale.many} rcpts",
            scale.many,
            scale,
            0.20,
            lambda: mailman3_drainer(site, runs.directory(), clones),
        )


def mailman2_rows(home: Path, scale: Scale) -> Iterator[Row]:
    """A queue of Mailman 2.1, against smtp-source; and the same of a bare loop, which shows how far Python could get."""
    runs, many = Runs(home), scale.of_many(0.3)[0]
    yield _against_source("2.1, 1 rcpt", 1, scale, 0.09, lambda: mailman2_drainer(runs.directory(), scale.drainer, 1))
    yield _against_source(
        f"2.1, {scale.many} rcpts",
        scale.many,
        scale,
        0.40,
        lambda: mailman2_drainer(runs.directory(), many, scale.many),
    )
    for recipients, entries in ((1, scale.drainer), (scale.many, many)):
        work = f"{BARE}, 2.1, {recipients} rcpt{'s' * (recipients > 1)}"
        yield _against_source(work, recipients, scale, None, partial(_bare, runs, entries, recipients))


def _bare(runs: Runs, entries: int, recipients: int) -> Drained:
    return bare_loop(runs.directory(), entries, recipients)


def link_rows(home: Path, scale: Scale) -> Iterator[Row]:
    """A queue of Mailman 3, over a link whose octets arrive 20 ms later in each direction."""
    runs = Runs(home)
    with genuine_site(home / "mailman3") as site:
        yield _against_runner(
            site,
            runs,
            scale,
            f"link with {LINK_DELAY_S * 1000:g} ms delay, {scale.many} rcpts",
            "",
            scale.many,
            (max(4, int(scale.drainer * 0.1)), max(3, int(scale.runner * 0.02))),
            20.0,
            lambda port: link_to(port, LINK_DELAY_S),
        )


def _against_runner(
    site: Site,
    runs: Runs,
    scale: Scale,
    work: str,
    kind: str,
    recipients: int,
    entries: tuple[int, int],
    least: float,
    through: Callable[[int], AbstractContextManager[int]] | None = None,
) -> Row:
    """entries: for drainer, for the runner."""
    clones = clones_of(site, max(entries), recipients, kind)
    more = {} if through is None else {"through": through}

    def ours() -> float:
        return recipients * mailman3_drainer(site, runs.directory(), clones[: entries[0]], **more).per_s

    def theirs() -> float:
        return recipients * mailman3_runner(site, clones[: entries[1]], **more).per_s

    return compared(work, _RUNNER, in_turns(ours, theirs, scale.pairs), Aim(least), "rcpt/s")


def _against_source(work: str, recipients: int, scale: Scale, least: float | None, drain: Callable[[], Drained]) -> Row:
    messages = scale.source if recipients == 1 else max(10, scale.source // 25)
    found = in_turns(
        lambda: recipients * drain().per_s,
        lambda: recipients * smtp_source(messages, recipients).per_s,
        scale.pairs,
    )
    return compared(work, _SOURCE, found, None if least is None else Aim(least), "rcpt/s")
