"""A list is meant by its name, its address or its list-id, and an entry by its name: what is unknown, or could mean several,
is refused by whatever command, with the names it could mean, and nothing is done."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from urllib.parse import quote

from drainer.demo.sample_queue import Outage, write_plain
from tests.scenarios.operated import Site, site
from tests.scenarios.running import site_settings
from tests.scenarios.test_operating_entries import PAUSED, entries

HOST = "lists.choir.example"
LISTS = ("choir", "choir-board", "tenor", "alto", "bass", "members")


def write_mailman3(home: Path) -> Outage:
    """Two entries for each of six lists of one host whose name has that of a list in it, and one of a namesake elsewhere."""
    outage = Outage(queue_dir=home / "var/queue", lists_dir=home / "lists")
    outage.make_queues()
    for serial, list_id in enumerate([*(f"{name}.{HOST}" for name in LISTS * 2), "tenor.archive.example"]):
        text = f"From: ann@example.org\nSubject: Mail {serial}\nMessage-ID: <{serial}@choir.example>\n\nNotes.\n"
        metadata = {"_parsemsg": True, "version": 3, "listid": list_id, "recipients": ["bob@example.org"]}
        name = f"1796000{serial:03d}.5+{serial:040x}.pck"
        (outage.queue_dir / "out" / name).write_bytes(pickle.dumps(text, 4) + pickle.dumps(metadata, 4))
        outage.entries += 1
    for name in (*LISTS, "soprano"):
        (home / "var/lists" / f"{name}.{HOST}").mkdir(parents=True)
    return outage


def of_lists(lists: Site) -> list[str]:
    return sorted(one["list"] for one in json.loads(lists.answer("/entries?limit=100")[1])["entries"])


def test_list_is_meant_exactly_by_every_command_and_an_unknown_one_changes_nothing(tmp_path: Path) -> None:
    outage = write_mailman3(tmp_path)
    mailman = {"flavour": "mailman3", "queue_dir": outage.queue_dir, "release_lists": ["alto", "tenor", "baritone"]}
    settings = site_settings(
        tmp_path, 9, mailman, feed={"via": "mailman", "messages": 0, "order": "priority", "priority": [f"bass@{HOST}"]}
    )
    lists = Site(tmp_path, outage, None, settings)  # type: ignore[arg-type]
    with lists.run():
        lists.surveyed()
        log = lists.log.read_text()
        assert "mailman.release_lists: no list is known as baritone" in log
        assert "feed.priority" not in log
        before = of_lists(lists)

        def found(asked: str) -> int:
            return int(json.loads(lists.answer(f"/entries?list={quote(asked)}")[1])["total"])

        assert [found(asked) for asked in ("choir", f"choir@{HOST}", f"choir.{HOST}", "CHOIR")] == [2, 2, 2, 2]
        assert [found(asked) for asked in ("choir*", f"*@{HOST}", "*", f"tenor@{HOST}", "soprano")] == [4, 12, 13, 2, 0]
        assert lists.refuses(1, "drop", "--list", "choi", "--yes") == (
            f"drainer: no list is known as choi; near to it: choir@{HOST}, choir-board@{HOST}; nothing was done"
        )
        assert lists.refuses(1, "pause", "--list", "board") == (
            f"drainer: no list is known as board; near to it: choir-board@{HOST}; nothing was done"
        )
        assert lists.refuses(1, "eta", "--list", "tenor") == (
            f"drainer: 2 lists are known as tenor: say tenor@archive.example or tenor@{HOST}; nothing was done"
        )
        for asked in ("choi", "tenor", HOST, "board"):
            for action in ("hold", "release", "drop", "handback"):
                for yes in (False, True):
                    status, said = lists.post(f"/{action}", selectors={"list": asked}, yes=yes)
                    assert (status, "nothing was done" in said["error"]) == (409, True), (action, asked, said)
            for action in ("pause", "resume"):
                assert lists.post(f"/{action}", list=asked)[0] == 409
        assert of_lists(lists) == before
        assert lists.journal() == []
        assert lists.status()["pauses"] == []

        # One that only Mailman knows may get mail later, so it can be paused; several by a wildcard, each by itself.
        assert "none of its entries waits now" in lists.does("/pause", list="soprano")["message"]
        lists.does("/pause", list="choir*")
        paused = [f"choir-board.{HOST}", f"choir.{HOST}", f"soprano.{HOST}"]
        assert sorted(one["list"] for one in lists.status()["pauses"]) == paused
        assert f"resumed: list choir.{HOST}; still paused" in lists.does("/resume", list=f"choir@{HOST}")["message"]
        lists.does("/resume", list="*")
        assert lists.status()["pauses"] == []
        assert lists.does("/drop", selectors={"list": "choir"}, yes=True)["changed"] == 2
        assert of_lists(lists) == [name for name in before if name != f"choir.{HOST}"]


def test_ambiguous_entry_name_changes_nothing_and_some_of_the_entries_are_listed(tmp_path: Path) -> None:
    with site(tmp_path, 5, feed=PAUSED) as lists, lists.run():
        lists.surveyed()
        names = sorted(one["entry"] for one in entries(lists))
        assert all(name.startswith("17") for name in names)
        some = f"drainer: {len(names)} entries begin with 17: {', '.join(names[:4])} and {len(names) - 4} more; nothing was"
        assert lists.refuses(1, "drop", "17", "--yes").startswith(some)
        assert lists.refuses(1, "show", "17").startswith(some)
        for action in ("hold", "release", "drop", "handback"):
            for yes in (False, True):
                status, said = lists.post(f"/{action}", selectors={"entry": "17"}, yes=yes)
                assert (status, said["error"].startswith(some.removeprefix("drainer: "))) == (409, True), said
        assert sorted(one["entry"] for one in entries(lists, "17")) == names
        assert lists.journal() == []
        assert "no entry here begins with 18" in lists.refuses(1, "hold", "18", "--yes")

        # A whole name means that entry, also where another name begins with it; a path is a name as well.
        longer = names[0] + "0"
        held = lists.custody / "backlog" / f"{names[0]}.pck"
        assert lists.does("/hold", selectors={"entry": str(held)}, yes=True)["changed"] == 1
        first = lists.custody / "held" / f"{names[0]}.pck"
        (lists.out / f"{longer}.pck").write_bytes(first.read_bytes())
        lists.surveyed(len(names) + 1)
        released = lists.does("/release", selectors={"entry": names[0]}, yes=True)
        assert (released["matched"], released["changed"]) == (1, 1)


def test_list_of_mailman_2_is_meant_by_its_own_host_only(tmp_path: Path) -> None:
    outage = write_plain(tmp_path, 4, 2, lists=("choir", "choir-board", "choir-board", "choir"))
    mailman = {"flavour": "mailman2", "queue_dir": outage.queue_dir, "lists_dir": outage.lists_dir}
    lists = Site(tmp_path, outage, None, site_settings(tmp_path, 9, mailman, feed={"messages": 0}))  # type: ignore[arg-type]
    with lists.run():
        lists.surveyed()
        for asked in ("choir", "choir@lists.example.org", "choir.lists.example.org"):
            assert lists.does("/drop", selectors={"list": asked})["matched"] == 2
        status, said = lists.post("/drop", selectors={"list": "choir@elsewhere.example"}, yes=True)
        assert (status, said["error"].partition(";")[0]) == (409, "no list is known as choir@elsewhere.example")
        assert lists.does("/drop", selectors={"list": "*@lists.example.org"})["matched"] == 4
