"""The benchmark still works: each part of the table of aims, small."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.bench.__main__ import AIMS, BY_NAME, main, rows
from tests.bench.commits import commit_rows
from tests.bench.feeding import Drained
from tests.bench.into_postfix import postfix_rows
from tests.bench.into_sink import Scale, link_rows, mailman2_rows, mailman3_rows
from tests.bench.link import link_to
from tests.bench.quiet_and_busy import Loads, answer_rows, idle_rows
from tests.bench.rows import Aim, Row, compared, in_turns, table
from tests.bench.scanning import plot, scan_rows, size_rows
from tests.postfix import needed

SMALL = Scale(drainer=12, runner=4, source=50, many=3, pairs=1)
SMALL_LOADS = Loads(paused=30, scanned=30, fed=60, watched_s=0.2, settled_s=0.0)

PARTS: dict[str, tuple[Callable[[Path], Iterator[Row]], int]] = {
    "postfix": (lambda home: postfix_rows(home, SMALL), 4),
    "mailman3": (lambda home: mailman3_rows(home, SMALL), 4),
    "mailman2": (lambda home: mailman2_rows(home, SMALL), 4),
    "link": (lambda home: link_rows(home, SMALL), 1),
    "commits": (lambda home: commit_rows(home, SMALL), 1),
    "scan": (lambda home: scan_rows(home, 30, pairs=1), 2),
    "size": (lambda _: size_rows((20, 40)), 2),
    "idle": (lambda home: idle_rows(home, SMALL_LOADS), 2),
    "answers": (lambda home: answer_rows(home, SMALL_LOADS), 2),
}


@pytest.mark.parametrize("name", PARTS)
def test_few_entries_give_the_rows_of_each_part(name: str) -> None:
    needed()
    part, count = PARTS[name]
    found = list(rows({name: part}))
    assert len(found) == count
    for row in found:
        assert row.found > 0 or row.work.startswith(("idle", "first figure")), row


def test_every_part_is_tried_here() -> None:
    assert PARTS.keys() == {*AIMS, *BY_NAME}


def test_an_unknown_part_ends_with_the_names_of_all() -> None:
    with pytest.raises(SystemExit, match=r"unknown: speed; right would be postfix, .*, size, bearing"):
        main(["speed"])


def test_ours_and_theirs_are_measured_in_turns_and_the_ratio_is_the_median_of_the_pairs() -> None:
    asked: list[str] = []
    rates = {"ours": iter([10.0, 30.0, 8.0]), "theirs": iter([20.0, 20.0, 80.0])}

    def measured(of: str) -> float:
        asked.append(of)
        return next(rates[of])

    found = in_turns(lambda: measured("ours"), lambda: measured("theirs"), pairs=3)
    assert asked == ["ours", "theirs", "theirs", "ours", "ours", "theirs"]
    assert compared("work", "peer", found, Aim(0.5), "rcpt/s").found == 0.5


@pytest.mark.parametrize(
    ("found", "aim", "reached"),
    [(0.5, Aim(0.5), "yes"), (0.4, Aim(0.5), "NO"), (0.3, Aim(0.3, "%", True), "yes"), (51.0, Aim(50.0, "ms", True), "NO")],
)  # fmt: skip
def test_table_says_whether_an_aim_is_reached(found: float, aim: Aim, reached: str) -> None:
    head, line = table([Row("work", "peer", "ours", "theirs", found, aim)])
    assert line.split()[-1] == reached and str(aim) in line
    assert head.split()[-2:] != [reached]


def test_an_entry_with_a_content_for_each_recipient_counts_once() -> None:
    verp = Drained(entries=10, contents=1000, seconds=10.0)
    assert verp.per_s == pytest.approx(1.0, rel=0.01)


def test_what_goes_over_the_link_arrives_whole_and_never_before_the_delay_of_both_directions() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def echo() -> None:
            connection, _ = server.accept()
            with connection:
                while octets := connection.recv(65536):
                    connection.sendall(octets)

        answering = threading.Thread(target=echo)
        answering.start()
        with link_to(server.getsockname()[1], 0.02) as port, socket.create_connection(("127.0.0.1", port)) as asking:
            begun_s, sent = time.monotonic(), bytes(range(256)) * 100
            asking.sendall(sent)
            got = asking.recv(len(sent), socket.MSG_WAITALL)
            assert got == sent and time.monotonic() - begun_s >= 0.04
        answering.join()


def test_plot_has_a_bar_for_each_size_and_the_longest_for_the_dearest() -> None:
    _, *bars = plot({1000: 400.0, 10: 100.0}).splitlines()
    assert [bar.count("#") for bar in bars] == [10, 40]
