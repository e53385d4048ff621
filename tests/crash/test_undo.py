"""kill -9 while an action is carried out or taken back: what was done is in the journal, and undoing goes on with it."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.scenarios.operated import Site, site
from tests.scenarios.running import Service
from tests.scenarios.test_operating_entries import PAUSED
from tests.scenarios.test_undo import go_on, journal, waiting


def killed_at(lists: Site, point: str, nth: int, *requests: tuple[str, dict[str, Any]]) -> None:
    """A run of the service that dies the NTH time it comes to the point, which the last of the requests brings it to."""
    under = (sys.executable, "-m", "tests.torture.doomed", point, str(nth))
    service = Service(lists.settings, lists.log, under=under)
    try:
        lists.surveyed()
        *before, (path, body) = requests
        for to, what in before:
            lists.does(to, **what)
        with contextlib.suppress(OSError, json.JSONDecodeError):
            lists.post(path, **body)
            raise AssertionError(f"it did not come to {point}")
        assert service.process.wait(60) == -9
    finally:
        service.kill()


DROP = ("/drop", {"selectors": {"list": "choir"}, "yes": True})
UNDO = ("/undo", {"yes": True})


@pytest.mark.parametrize(
    "point", ["custody.restore after rename", "ledger.put_back written", "ledger.put_back durable"]
)
def test_undo_of_a_drop_that_was_killed_goes_on_and_no_copy_is_lost_or_sent_twice(tmp_path: Path, point: str) -> None:
    with site(tmp_path, 15, feed=PAUSED, duplicates={"resend": "deliver"}) as lists:
        with lists.run() as service:
            lists.surveyed()
            before = waiting(lists)
            service.kill()
        dropped = {name for name, one in before.items() if one["list"] == "choir"}
        assert len(dropped) > 2
        killed_at(lists, point, 2, DROP, UNDO)
        with lists.run():
            lists.surveyed(len(before) - len(dropped))
            drop, undo = journal(lists)
            back = {"custody.restore after rename": 0, "ledger.put_back written": 1, "ledger.put_back durable": 2}[
                point
            ]
            assert (undo["cut_off"], undo["undoes"], undo["entries"] or 0) == (True, drop["number"], back)
            assert undo["detail"].startswith(f"cut off after {back} entr")
            undone = lists.does("/undo", yes=True)
            assert (undone["of"]["number"], undone["changed"]) == (drop["number"], len(dropped) - back)
            assert not any((lists.custody / "duplicates").iterdir())
            lists.surveyed()
            assert waiting(lists) == before
            go_on(lists)
        assert lists.sink.deliveries() == lists.owed(resends_too=True)


def test_drop_that_was_killed_is_undone_as_far_as_it_came(tmp_path: Path) -> None:
    with site(tmp_path, 15, feed=PAUSED, duplicates={"resend": "deliver"}) as lists:
        killed_at(lists, "custody.drop before rename", 2, DROP)
        with lists.run():
            # Of the second the recipients were given up, and its file follows when its turn comes.
            lists.does("/rate", messages="1/h")
            lists.status_when(lambda said: len(list((lists.custody / "duplicates").iterdir())) == 2)
            (drop, _) = journal(lists)
            assert (drop["cut_off"], drop["entries"], drop["undoable"]) == (True, 2, True)
            assert lists.does("/undo", number=drop["number"], yes=True)["changed"] == 2
            go_on(lists)
        assert lists.sink.deliveries() == lists.owed(resends_too=True)


def test_hold_and_release_taken_back_when_killed_stand_as_before_or_as_after(tmp_path: Path) -> None:
    everything: dict[str, Any] = {"selectors": {}, "yes": True}
    with site(tmp_path, 3, feed=PAUSED, duplicates={"resend": "deliver"}) as lists:
        with lists.run() as service:
            lists.surveyed()
            total = len(waiting(lists))
            service.kill()
        # The file of the second has moved, and the ledger does not know: the ledger is right.
        killed_at(lists, "custody.release after rename", 2, ("/hold", everything), UNDO)
        with lists.run() as service:
            assert lists.status()["backlog"]["held_entries"] == total - 1
            assert lists.does("/undo", yes=True)["changed"] == total - 1
            assert lists.status()["backlog"]["held_entries"] == 0
            service.kill()
        # The ledger holds the second again, and its file has not moved: the ledger is right.
        killed_at(lists, "ledger.put_back durable", 2, ("/hold", everything), ("/release", everything), UNDO)
        with lists.run():
            assert lists.status()["backlog"]["held_entries"] == 2
            assert lists.does("/undo", yes=True)["changed"] == total - 2
            held = waiting(lists)
            assert {one["state"] for one in held.values()} == {"held"}
            assert {path.stem for path in (lists.custody / "held").iterdir()} == held.keys()
            lists.does("/release", **everything)
            go_on(lists)
        assert lists.sink.deliveries() == lists.owed(resends_too=True)
