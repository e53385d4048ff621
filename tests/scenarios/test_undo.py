"""What an operator did to entries, to pauses and to limits is taken back by its number, or the last of it, over restarts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from drainer.queuedir.read import read_entry
from tests.scenarios.operated import Site, site
from tests.scenarios.test_operating_entries import PAUSED

LONG_RETRY = {"retry_first": "1h", "retry_longest": "1h"}


def waiting(lists: Site) -> dict[str, dict[str, Any]]:
    """Entries by name, as `drainer entries --json` has them, but for what changes by itself: one whose turn has come waits
    for the rate."""
    found = json.loads(lists.answer("/entries?limit=1000")[1])["entries"]
    turned = {"active": "waiting"}
    return {one["entry"]: {**one, "age_s": 0, "state": turned.get(one["state"], one["state"])} for one in found}


def journal(lists: Site) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(lists.answer("/journal?limit=1000")[1])["actions"]
    return found


def go_on(lists: Site) -> None:
    """Everything is delivered."""
    lists.does("/rate", messages="unlimited")
    lists.status_when(lambda said: not said["backlog"]["entries"])


def test_drop_is_undone_and_done_again_and_each_recipient_gets_the_mail_once(tmp_path: Path) -> None:
    with site(tmp_path, 25, feed=PAUSED, duplicates={"resend": "deliver"}) as lists:
        with lists.run() as service:
            lists.surveyed()
            before, report = waiting(lists), json.loads(lists.answer("/report")[1])
            said = lists.says("drop", "--list", "choir", "--yes", "--reason", "spam run")
            dropped = {name for name, one in before.items() if one["list"] == "choir"}
            assert waiting(lists).keys() == before.keys() - dropped
            assert "`drainer undo 1 --yes` takes this back until " in said
            assert "(duplicates.keep)" in said
            dry = lists.says("undo")
            assert f"Dry run: nothing was changed. With --yes: {len(dropped)} entries put back." in dry
            assert waiting(lists).keys() == before.keys() - dropped
            assert "`drainer undo 2 --yes` takes the undo back" in lists.says("undo", "--yes", "--reason", "not spam")
            lists.surveyed()
            assert waiting(lists) == before
            assert not any((lists.custody / "duplicates").iterdir())
            done = lists.status()["done"]
            assert (done["dropped_entries"], done["undropped_entries"]) == (0, len(dropped))
            again = json.loads(lists.answer("/report")[1])
            assert (again["found"], again["dropped"]["total"]) == (report["found"], 0)

            # Twice is no more than once: the drop does not come back unless it is named.
            assert "nothing is left to undo; to do again what was undone last: `drainer undo 2`" in lists.refuses(
                1, "undo", "--yes"
            )
            assert "action 1 was undone by 2 already" in lists.refuses(1, "undo", "1", "--yes")
            service.kill()
        with lists.run() as service:
            lists.surveyed()
            assert lists.does("/undo", number=2, yes=True)["changed"] == len(dropped)
            assert waiting(lists).keys() == before.keys() - dropped
            service.kill()
        with lists.run("--until-empty") as service:
            lists.surveyed(len(before) - len(dropped))
            undone = lists.does("/undo", yes=True)
            assert (undone["of"]["number"], undone["changed"], undone["left"]) == (3, len(dropped), [])
            assert [(one["action"], one["undoes"], one["undone_by"], one["entries"]) for one in journal(lists)] == [
                ("drop", None, 2, len(dropped)), ("undo", 1, None, len(dropped)),
                ("undo", 2, 4, len(dropped)), ("undo", 3, None, len(dropped)),
            ]  # fmt: skip
            lists.surveyed()
            assert waiting(lists) == before
            lists.does("/rate", messages="unlimited")
            assert service.wait() == 0
        assert lists.sink.deliveries() == lists.owed(resends_too=True)


def test_hold_and_release_are_undone_for_exactly_those_that_stand_as_they_were_left(tmp_path: Path) -> None:
    with site(tmp_path, 25, feed=PAUSED, duplicates={"resend": "deliver"}) as lists:
        with lists.run() as service:
            lists.surveyed()
            before = waiting(lists)
            names = sorted(name for name, one in before.items() if one["duplicate"] == "none")
            mine, others = names[:5], names[5:8]
            for name in mine[:1]:
                lists.does("/hold", selectors={"entry": name}, yes=True, reason="mine before")
            held = lists.does("/hold", selectors={"list": "*"}, yes=True, reason="too much")
            assert held["changed"] == len(before) - 1, (held["skipped"], held["gone"])
            for name in others:
                lists.does("/release", selectors={"entry": name}, yes=True)
            lists.does("/drop", selectors={"entry": mine[1]}, yes=True)
            service.kill()
        with lists.run():
            lists.surveyed(len(before) - 1)
            assert lists.status()["backlog"]["held_entries"] == len(before) - 4
            undone = lists.does("/undo", number=held["number"], yes=True)
            assert undone["changed"] == len(before) - 5
            assert {one["reason"]: (one["entries"], sorted(one["names"])) for one in undone["left"]} == {
                "released since": (3, others), "changed since by action 6": (1, [mine[1]])
            }  # fmt: skip
            (left,) = [one for one in waiting(lists).values() if one["state"] == "held"]
            assert (left["entry"], left["reason"]) == (mine[0], "operator: mine before")
            assert lists.does("/undo", number=undone["number"], yes=True)["changed"] == len(before) - 5
            reasons = {one["reason"] for one in waiting(lists).values() if one["state"] == "held"}
            assert reasons == {"operator: mine before", "operator: too much"}

            # A release whose mail has gone out since cannot be taken back; which those are is said.
            released = lists.does("/release", selectors={"state": "held"}, yes=True)
            lists.does("/rate", messages="unlimited")
            lists.status_when(lambda said: not said["backlog"]["entries"])
            kept = sorted(name for name, one in waiting(lists).items() if one["state"] == "held")
            status, said = lists.post("/undo", number=released["number"], yes=True)
            assert status == 409, said
            assert "finished since: delivered, failed for good, or had by a copy" in said["error"]
            assert sorted(name for name, one in waiting(lists).items() if one["state"] == "held") == kept


def test_released_resend_is_held_again_with_its_reason_and_what_had_gone_out_is_named(tmp_path: Path) -> None:
    with site(tmp_path, 60, feed={"messages": "unlimited"}) as lists, lists.run():
        lists.status_when(lambda said: said["state"] == "idle" and said["backlog"]["held_entries"] > 1)
        held = waiting(lists)
        assert all(one["reason"].startswith("resend") for one in held.values())
        lists.does("/rate", messages=0)
        number = lists.does("/release", selectors={"duplicate": "resend"}, yes=True)["number"]
        lists.does("/hold", selectors={"entry": min(held)}, yes=True)
        lists.does("/undo", yes=True)  # of that hold: it is released as it was
        assert {one["state"] for one in waiting(lists).values()} == {"waiting"}
        undone = lists.does("/undo", number=number, yes=True)
        assert (undone["changed"], undone["left"]) == (len(held), [])
        assert waiting(lists) == held
        before = lists.sink.deliveries()
        lists.does("/rate", messages="unlimited")
        lists.status_when(lambda said: said["state"] == "idle")
        assert lists.sink.deliveries() == before


def test_deferred_entry_that_was_dropped_or_released_is_due_as_it_was(tmp_path: Path) -> None:
    later = "rcpt 450 4.2.0 later recipient=[a-m]*"
    with site(tmp_path, 1, "--rule", later, feed=LONG_RETRY, mta={"sessions": 1}) as lists:
        first, copy = sorted(lists.out.iterdir())
        copy.unlink()
        owed = {address for address in read_entry(first).recipients if address[0] in "abcdefghijklm"}

        def deferred() -> dict[str, Any]:
            lists.status_when(lambda said: said["backlog"]["deferred_recipients"] == len(owed))
            (one,) = waiting(lists).values()
            shown = json.loads(lists.answer(f"/entries/{first.stem}")[1])
            assert (one["state"], set(shown["owed"])) == ("deferred", owed)
            return one

        before: dict[str, Any] = {}
        for action in ("drop", "hold", "release"):
            with lists.run() as service:
                before = deferred()
                lists.does("/rate", messages=0)
                assert lists.does(f"/{action}", selectors={"entry": first.stem}, yes=True)["changed"] == 1, action
                service.kill()
            with lists.run():
                assert lists.does("/undo", yes=True)["changed"] == 1, action
                assert lists.does("/undo", yes=True)["decided"] == ["limit on messages: as the settings say"]
                assert deferred()["due"] == before["due"], action


def test_undo_restores_the_pauses_and_limits_from_before(tmp_path: Path) -> None:
    with site(tmp_path, 3, feed=PAUSED) as lists:
        with lists.run() as service:
            lists.surveyed()
            lists.does("/pause", reason="first")
            lists.does("/pause", for_s=3600, reason="second")
            lists.does("/pause", list="choir")
            lists.does("/rate", messages=5, recipients=50)
            lists.does("/resume")
            service.kill()
        with lists.run():
            undone = [lists.does("/undo", yes=True) for _ in range(4)]
            assert [one["decided"] for one in undone] == [
                ["everything: paused as before"],
                ["limit on messages: as the settings say", "limit on recipients: as the settings say"],
                ["list choir: not paused"],
                ["everything: paused as before"],
            ]
            (pause,) = lists.status()["pauses"]
            assert (pause["reason"], pause["until"]) == ("first", None)
            lists.does("/rate", messages=7)
            number = lists.does("/pause", reason="third")["number"]
            lists.does("/pause", reason="fourth")
            status, said = lists.post("/undo", number=number, yes=True)
            assert (status, "everything: paused, resumed or over by itself since" in said["error"]) == (409, True)
            assert lists.status()["pauses"][0]["reason"] == "fourth"


def test_undo_that_is_impossible_says_why_and_after_a_handback_the_rest_is_taken_again(tmp_path: Path) -> None:
    with site(tmp_path, 8, feed=PAUSED, duplicates={"keep": "1h"}) as lists, lists.run() as service:
        lists.surveyed()
        before = waiting(lists)
        number = lists.does("/drop", selectors={"list": "choir"}, yes=True)["number"]
        dropped = before.keys() - waiting(lists).keys()
        first, *others = sorted(dropped)
        (lists.custody / "duplicates" / f"{first}.pck").unlink()
        if others:
            lists.does("/undo", number=number, yes=True)
        else:
            status, said = lists.post("/undo", number=number, yes=True)
            assert (status, "their files are gone: dropped ones are kept for 1 h" in said["error"]) == (409, True)
        given = lists.does("/handback", yes=True)
        assert given["changed"] == len(before) - 1
        assert len(list(lists.out.iterdir())) == given["changed"]
        undone = lists.does("/undo", yes=True)
        assert undone["of"]["number"] == given["number"]
        assert undone["decided"] == ["taking entries from Mailman's queues: not paused"]
        lists.surveyed(given["changed"])
        assert waiting(lists).keys() == before.keys() - {first}
        assert lists.refuses(1, "undo", "77") == "drainer: there is no action 77; `drainer journal` lists them"
        listed = journal(lists)
        service.kill()
        # No service answers: the journal is read from a copy of the ledger.
        without = json.loads(lists.says("journal", "--json"))
        assert (without["actions"], without["without_service"]["state"]) == (listed, "not_running")


def copied(lists: Site, name: str, copy: str) -> str:
    """A backup or a second submission brings the mail of an entry once more. Returns the name of the copy."""
    half_written = lists.out / "copy.tmp"
    half_written.write_bytes((lists.custody / "backlog" / f"{name}.pck").read_bytes())
    half_written.rename(lists.out / f"{copy}.pck")
    return copy


def test_drop_is_not_undone_while_mailman_may_have_sent_a_copy_of_the_mail_it_was_given_since(tmp_path: Path) -> None:
    with site(tmp_path, 6, feed=PAUSED, duplicates={"resend": "deliver"}) as lists, lists.run():
        lists.surveyed()
        found = waiting(lists)
        called = [one["message_id"] for one in found.values()]
        first, second, third, *_ = (name for name, one in found.items() if called.count(one["message_id"]) == 1)
        given = copied(lists, first, f"1700009999.7+{'7' * 40}")
        again = copied(lists, second, f"1700009999.8+{'8' * 40}")
        lists.surveyed(len(found) + 2)
        for name in (first, second, third):
            lists.does("/drop", selectors={"entry": name}, yes=True)
        for name in (given, again):
            assert lists.does("/handback", selectors={"entry": name}, yes=True)["skipped"] == []
        (lists.out / f"{given}.pck").unlink()  # Mailman has sent it

        # Both copies are Mailman's, so neither drop is undone; of the third mail Mailman has had nothing.
        for number, copy in ((1, given), (2, again)):
            for request in ({"number": number}, {"number": number, "yes": True}):
                status, said = lists.post("/undo", **request)
                assert (status, f"Mailman was given {copy}, a copy of it, since" in said["error"]) == (409, True), said
        assert lists.does("/undo", number=3, yes=True)["changed"] == 1
        assert waiting(lists).keys() == found.keys() - {first, second}

        # One copy is taken again: whichever of the two is sent, the other is not.
        assert lists.does("/resume")["number"]
        lists.surveyed(len(found) - 1)
        assert lists.does("/undo", number=2, yes=True)["changed"] == 1
        go_on(lists)
        assert "was given" in lists.post("/undo", number=1, yes=True)[1]["error"]
        sent = lists.owed(resends_too=True)
        assert lists.sink.deliveries() == {who: 1 for who in sent if who[0] != found[first]["message_id"]}
