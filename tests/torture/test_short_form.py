"""The torture in short: every kind of fault once, judged as in `make torture`; and no commit point is left out of it."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path

import pytest

import drainer
from drainer.demo.sample_queue import LISTS, write_plain
from drainer.ledger.sqlite import SqliteLedger
from drainer.queuedir.custody import Custody
from tests.mailman3.site import Site as Mailman3
from tests.torture.faults import FAULTS
from tests.torture.mutations import MUTATIONS, mutated
from tests.torture.place import Place, Row, endure
from tests.torture.points import ELSEWHERE, LEDGER_WRITES, MOVES, POINTS, UNUSED
from tests.torture.site import Site, stock_of
from tests.torture.table import broken, table
from tests.torture.wounds import (
    HASTY,
    backup_restored,
    killed_at_points,
    killed_at_random,
    killed_while_handing_back,
    mailman_restarted,
    mta_killed,
    mta_stopped,
    service_stopped,
)

SEEDS = (2014,)
MAILS = 110
AGAIN_SOON = {"retry_first": "500ms", "retry_longest": "2s"}
A_POINT = "custody.drop before rename"
"""One after which the file has to be where the drop can be undone."""


def assert_kept(row: Row) -> None:
    assert row.injected > 0
    assert not broken([row]), f"{table([row])}\n{broken([row])}"


@pytest.mark.parametrize("seed", SEEDS)
def test_every_recipient_gets_the_mail_once_through_every_kind_of_fault(seed: int, tmp_path: Path) -> None:
    """Of the policies for doubt, `ask` is the one that allows neither a second copy nor a lost one."""
    stock = stock_of(write_plain(tmp_path, MAILS, 4, LISTS * MAILS, seed))
    place = Place(tmp_path, seed, patient=False, points=[point for point in POINTS if point.name == A_POINT])
    injected = 0
    with Site(
        tmp_path, stock, "ask", seed, patient=False, mta=HASTY, feed=AGAIN_SOON, custody={"bak_age": "0s"}
    ) as site:
        injected += mailman_restarted(site, place, 1)
        injected += killed_at_random(site, place, 1)
        with site.run() as run:
            injected += mta_killed(site, place, 1) + mta_stopped(site, place, 1) + service_stopped(site, place, 1)
            run.kill()
        injected += killed_at_points(site, place, 1)
        injected += backup_restored(site, place, 1)
        injected += killed_while_handing_back(site, place, 1)
        site.drain()
        assert_kept(Row("every kind of fault", injected, site.judge(), tmp_path))


def test_every_recipient_gets_the_mail_once_though_mailman_3s_coprocesses_are_killed(
    mailman3_site: Mailman3, tmp_path: Path
) -> None:
    place = Place(tmp_path, SEEDS[0], patient=False, mailman3=mailman3_site.copy_to)
    assert_kept(endure("composers", replace(FAULTS["composers"], sections={}), place, times=1))


def test_every_write_of_the_ledger_and_every_move_of_a_file_is_a_point() -> None:
    writes = {
        name
        for name, method in inspect.getmembers(SqliteLedger, inspect.isfunction)
        if not name.startswith("_")
        and any(call in inspect.getsource(method) for call in ("self._write(", "self._begin("))
    }
    moving = ("self._moves.", "self._move(", "self.suppress(", "self.hand_back(")
    moves = {
        name
        for name, method in inspect.getmembers(Custody, inspect.isfunction)
        if not name.startswith("_") and name != "sync" and any(call in inspect.getsource(method) for call in moving)
    }
    assert writes | moves == LEDGER_WRITES.keys() | MOVES.keys() | UNUSED | ELSEWHERE


def test_points_left_out_are_never_called() -> None:
    package = Path(inspect.getfile(drainer)).parent
    texts = [path.read_text() for path in package.rglob("*.py")]
    for name in UNUSED:
        assert not any(f"ledger.{name}(" in text or f"custody.{name}(" in text for text in texts), name


def test_every_mutation_still_fits_the_code() -> None:
    """`python -m tests.torture.mutations` shows that the harness notices each."""
    for mutation in MUTATIONS:
        compile(mutated(mutation), mutation.file, "exec")
