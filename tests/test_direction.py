"""Packages import downwards only: one order, read from every import, those for the type checker included.

A reader who knows the order knows where a value can come from. A circle would make its packages one package.
"""

from __future__ import annotations

import functools
from pathlib import Path

from tests.house import circles, imported_by_each, room, rooms

PACKAGE = Path(__file__).parents[1] / "drainer"

ORDER = """
    compiled text errors clock shielded blocking exit_deadline files schedule settings settings_file secret_files
    pickles queuedir ledger duplicates mta_log backlog guards estimate
    compose destinations feed via_mailman in_doubt stages pipeline
    report control observe operate start host_check rounds without_service service
    demo cli __main__
""".split()
"""From the ground up: a package imports only what stands before it.

The ledger stands below duplicates, since a decision is made of what the ledger knows; control stands below operate, since
the operator's requests are values of the control socket.
"""


@functools.cache
def graph() -> dict[str, set[str]]:
    return imported_by_each(PACKAGE)


def test_order_names_every_package_and_every_top_level_module_once() -> None:
    assert sorted(ORDER) == sorted(set(rooms(graph())) - {"__init__"})


def test_every_import_goes_down() -> None:
    height = {name: number for number, name in enumerate(ORDER)}
    upwards = {
        (name, other)
        for name, others in graph().items()
        for other in others
        if room(name) != room(other) and height[room(other)] > height.get(room(name), len(ORDER))
    }
    assert sorted(upwards) == [], "these imports go up: move the value down to where it is made"


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circles(graph()) == []
