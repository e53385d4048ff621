"""What an operator decides about entries: hold, release and drop, by every selector, each undone or final as promised."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from email.parser import Parser
from pathlib import Path
from typing import Any

from drainer.demo.sample_queue import write_plain
from tests.scenarios.operated import Site, site, when
from tests.scenarios.running import children_named, drainer, running_service, running_sink, site_settings

PAUSED = {"messages": "0"}


def entries(lists: Site, *selectors: str) -> list[dict[str, Any]]:
    found = json.loads(lists.says("entries", *selectors, "--limit", "1000", "--json"))
    assert found["total"] == len(found["entries"])
    return list(found["entries"])


def one_of(lists: Site, list_name: str, single: bool = True) -> dict[str, Any]:
    """A waiting original of that list of which there is no other copy."""
    known = entries(lists, "--list", list_name)
    copies = [one["message_id"] for one in entries(lists)]
    return next(one for one in known if one["duplicate"] == "none" and copies.count(one["message_id"]) == 1)


def test_entries_are_found_by_every_selector_and_shown_by_name_beginning_and_message_id(tmp_path: Path) -> None:
    with site(tmp_path, 25, feed=PAUSED) as lists, lists.run():
        lists.surveyed()
        known = entries(lists)
        assert {one["entry"] for one in known} == {path.stem for path in lists.custody.joinpath("backlog").iterdir()}
        assert sum(one["recipients"] for one in known) == lists.outage.recipients
        some = known[7]
        for option, value in (
            ("--list", "NIGHT-sky@lists.example.org"),
            ("--sender", some["sender"]),
            ("--subject", some["subject"][4:12]),
        ):
            key = option.removeprefix("--").replace("-", "_")
            wanted = value.partition("@lists")[0].casefold()
            expected = [one["entry"] for one in known if wanted in one[key].casefold()]
            assert expected
            assert [one["entry"] for one in entries(lists, option, value)] == expected
        assert len(entries(lists, "--class", "resend")) == lists.outage.duplicates["resend"]
        age_s = int(known[9]["age_s"])
        # In this order: who grows too old between the two questions is in both answers, not in neither.
        younger = entries(lists, "--younger-than", f"{age_s}s")
        older = entries(lists, "--older-than", f"{age_s}s")
        assert 0 < len(older) < len(known)
        assert 0 < len(younger) < len(known)
        assert len(older) + len(younger) >= len(known)
        assert "No entry matches." in lists.says("entries", "--subject", "no such subject")

        by_name = json.loads(lists.says("show", some["entry"], "--json"))
        by_beginning = json.loads(lists.says("show", some["entry"][:20], "--json"))
        assert by_name["entry"]["entry"] == by_beginning["entry"]["entry"] == some["entry"]
        assert dict(by_name["headers"])["Message-ID"] == some["message_id"]
        assert len(by_name["recipients"]) == some["recipients"]
        assert by_name["owed"] == by_name["recipients"]
        waiting = lists.says("show", some["message_id"])
        for named in (one["entry"] for one in known if one["message_id"] == some["message_id"]):
            assert re.search(rf"^(entry|also waits) +{re.escape(named)}$", waiting, re.MULTILINE)
        assert Parser().parsestr(waiting.split("\n\n")[1])["Subject"] == some["subject"]
        assert lists.says("show", some["message_id"].strip("<>")).splitlines()[0] == waiting.splitlines()[0]
        assert lists.refuses(1, "show", "<nobody@example.org>") == (
            "drainer: no entry and no message known as '<nobody@example.org>'"
        )
        assert re.fullmatch(
            rf"drainer: {len(known)} entries begin with 17: 1.*; say more of the name, or all of it",
            lists.refuses(1, "show", "17"),
        )

        lists.says("rate", "--messages", "unlimited")
        lists.status_when(lambda said: not said["backlog"]["entries"])
        delivered = lists.says("show", some["message_id"])
        assert delivered.startswith("No such entry waits.\n")
        counts = re.findall(r"delivered +(\d+) recipient", delivered)
        assert sum(map(int, counts)) == sum(
            number for (message_id, _), number in lists.sink.deliveries().items() if message_id == some["message_id"]
        )


def test_dry_runs_say_so_and_change_nothing(tmp_path: Path) -> None:
    with site(tmp_path, 12, feed=PAUSED) as lists, lists.run():
        lists.surveyed()
        lists.says("pause")
        lists.paused_at_rest()
        before = entries(lists)
        for action in ("hold", "release", "drop"):
            said = lists.says(action, "--list", "choir")
            *_, summary, last = said.splitlines()
            assert summary.startswith(f"Dry run: nothing was changed. With --yes this would {action} ")
            assert last.startswith("`--yes` looks again")
        assert "Dry run: nothing was changed." in lists.says("handback")
        assert [(one["entry"], one["state"]) for one in entries(lists)] == [
            (one["entry"], one["state"]) for one in before
        ]
        assert not {"hold", "release", "drop", "handback"} & {line.action for line in lists.journal()}
        assert list(lists.out.iterdir()) == []


def test_dropped_recipients_never_get_it_and_the_file_is_kept(tmp_path: Path) -> None:
    with site(tmp_path, 25, feed=PAUSED) as lists, lists.run("--until-empty") as service:
        lists.surveyed()
        dropped = {str(one["entry"]) for one in entries(lists, "--list", "choir")}
        gone = entries(lists, "--list", "choir")
        said = lists.says("drop", "--list", "choir", "--yes", "--reason", "spam run")
        assert (
            f"{len(gone)} entries dropped (of {len(gone)} entries, {sum(one['recipients'] for one in gone)} r" in said
        )
        assert {path.stem for path in (lists.custody / "duplicates").iterdir()} == dropped
        assert lists.status()["done"]["dropped_entries"] == len(gone)
        shown = lists.says("show", gone[0]["message_id"])
        assert "skipped" in shown
        assert "spam run" in shown
        lists.says("rate", "--messages", "unlimited")
        assert service.wait() == 0
        assert lists.sink.deliveries() == lists.owed(but_list="choir")
        assert (lists.journal()[0].action, lists.journal()[0].detail) == (
            "drop",
            f"{len(gone)} entries: list=choir: spam run",
        )


def test_held_entries_wait_over_a_restart_and_go_out_once_after_release(tmp_path: Path) -> None:
    with site(tmp_path, 20, feed=PAUSED, duplicates={"resend": "deliver"}) as lists:
        with lists.run() as service:
            lists.surveyed()
            held = one_of(lists, "harbour")
            said = lists.says("hold", held["entry"][:24], "--yes", "--reason", "wrong attachment")
            assert "1 entry held" in said
            lists.says("rate", "--messages", "unlimited")
            lists.status_when(lambda said: not said["backlog"]["entries"])
            service.kill()
        # Only held entries are left, so this ends by itself.
        lists.drain()
        with lists.run():
            idle = lists.status_when(lambda said: said["state"] == "idle")
            assert (idle["backlog"]["held_entries"], idle["eta"]["state"]) == (1, "done")
            (kept,) = entries(lists, "--state", "held")
            assert (kept["entry"], kept["reason"]) == (held["entry"], "operator: wrong attachment")
            assert [path.stem for path in (lists.custody / "held").iterdir()] == [held["entry"]]
            assert held["message_id"] not in {message_id for message_id, _ in lists.sink.deliveries()}
            again = lists.says("hold", "--message-id", held["message_id"], "--yes")
            assert "it is held already" in again
            assert "1 entry released" in lists.says("release", "--message-id", held["message_id"], "--yes")
            lists.status_when(lambda said: not said["backlog"]["held_entries"] and not said["backlog"]["entries"])
        assert lists.sink.deliveries() == lists.owed(resends_too=True)


def test_held_resend_is_delivered_once_after_release_even_over_a_kill(tmp_path: Path) -> None:
    with site(tmp_path, 40, feed={"messages": "unlimited"}) as lists:
        with lists.run() as service:
            lists.status_when(lambda said: said["state"] == "idle" and said["backlog"]["held_entries"] > 0)
            held = entries(lists, "--state", "held")
            assert {one["message_id"] for one in held} == {message_id for _, message_id in lists.outage.held}
            assert all(one["reason"].startswith("resend") for one in held)
            assert lists.sink.deliveries() == lists.owed()
            lists.says("pause")
            assert f"{len(held)} entries released" in lists.says("release", "--class", "resend", "--yes")
            service.kill()
        with lists.run("--until-empty") as service:
            waiting = lists.surveyed(len(held))
            assert (waiting["state"], waiting["backlog"]["held_entries"]) == ("paused", 0)
            lists.says("resume")
            assert service.wait() == 0
        assert lists.sink.deliveries() == lists.owed(resends_too=True)


def test_copy_of_an_entry_held_while_it_waits_for_a_retry_goes_to_its_recipients(tmp_path: Path) -> None:
    """Or the copy would wait for the held one, and `run --until-empty` for both."""
    a_member_once = "rcpt 450 4.2.0 later recipient=[a-m]* first=1"
    feed = {"retry_first": "1h", "retry_longest": "1h"}
    with site(tmp_path, 1, "--rule", a_member_once, feed=feed, mta={"sessions": 1}) as lists:
        first, copy = sorted(lists.out.iterdir())
        with lists.run():
            lists.status_when(lambda said: said["backlog"]["deferred_recipients"] > 0 and said["mta"]["state"] == "up")
            lists.says("hold", first.stem, "--yes")
            lists.status_when(lambda said: said["state"] == "idle" and said["backlog"]["held_entries"] == 1)
        assert lists.sink.deliveries() == lists.owed()
        assert not (lists.custody / "backlog" / copy.name).exists()


def test_bak_that_was_held_before_it_was_read_is_seen_and_goes_when_released(tmp_path: Path) -> None:
    """An operator's hold can come between the taking and the reading of what Mailman's runner left."""
    with site(tmp_path, 1, feed=PAUSED, ledger={"in_doubt": "resend"}) as lists:
        first, copy = sorted(lists.out.iterdir())
        copy.unlink()
        with lists.run() as service:
            lists.surveyed(1)
            lists.says("hold", first.stem, "--yes")
            service.kill()
        held = lists.custody / "held" / first.name
        held.rename(held.with_suffix(".bak"))
        with lists.run():
            lists.surveyed(1)
            lists.says("release", first.stem, "--yes")
            lists.says("rate", "--messages", "unlimited")
            lists.status_when(lambda said: said["state"] == "idle")
        assert lists.sink.deliveries() == Counter(
            {one: number for one, number in lists.owed().items() if not one[1].startswith("newcomer")}
        )


def test_entries_moved_or_removed_while_they_are_read_are_neither_forgotten_nor_waited_for(tmp_path: Path) -> None:
    """Reading takes another process a moment, in which an operator can hold an entry, or delete its file."""
    with site(tmp_path, 3, feed=PAUSED, duplicates={"resend": "deliver"}) as lists:
        known, first, *others, deleted = sorted(lists.out.iterdir())
        aside = tmp_path / "aside"
        lists.out.rename(aside)
        lists.out.mkdir()
        (aside / known.name).rename(known)
        with lists.run() as service:
            lists.surveyed(1)
            readers = children_named(service.process.pid, "multiprocessing.spawn")
            assert readers
            for reader in readers:
                reader.suspend()
            (aside / first.name).rename(first)
            lists.status_when(lambda said: said["backlog"]["unread_entries"] == 1)
            for file in (*others, deleted):
                (aside / file.name).rename(file)
            lists.status_when(lambda said: said["backlog"]["unread_entries"] == lists.outage.entries - 1)
            lists.says("hold", first.stem, "--yes")
            (lists.custody / "backlog" / deleted.name).unlink()
            for reader in readers:
                reader.resume()
            said = lists.status_when(lambda said: said["backlog"]["unread_entries"] == 0)
            assert (said["backlog"]["entries"], said["backlog"]["held_entries"]) == (1 + len(others), 1)
            assert f"outcome=vanished filebase={deleted.stem}" in lists.log.read_text()
            lists.says("release", first.stem, "--yes")
            lists.says("rate", "--messages", "unlimited")
            when(lambda: not any((lists.custody / "backlog").iterdir()), lists.status)
        assert lists.log.read_text().count("event=ready") == 1


def test_show_names_only_recipients_still_owed_as_many_as_entries_counts(tmp_path: Path) -> None:
    outage = write_plain(tmp_path, mails=1, recipients_each=6)
    refused = outage.owed[next(iter(outage.owed))]
    later = min(refused)
    with running_sink(tmp_path / "sink", "--rule", f"rcpt 451 4.3.0 later recipient={later}") as sink:
        mailman = {"flavour": "mailman2", "queue_dir": outage.queue_dir, "lists_dir": outage.lists_dir}
        settings = site_settings(tmp_path, sink.port, mailman)
        with running_service(settings, tmp_path / "drainer.log"):
            deadline_s = time.monotonic() + 60
            counted: list[dict[str, Any]] = []
            while [one["recipients"] for one in counted] != [1]:  # five were delivered to, and the turn has ended
                assert time.monotonic() < deadline_s, counted
                counted = json.loads(drainer("entries", "--json", "--config", settings).stdout)["entries"]
            shown = json.loads(drainer("show", counted[0]["entry"], "--json", "--config", settings).stdout)
            assert (shown["owed"], len(shown["recipients"])) == ([later], 6)
            text = drainer("show", counted[0]["entry"], "--config", settings).stdout
            assert f"1 recipient of 6 still owed:\n  {later}\n\nmetadata" in text
