"""Pausing, resuming and the rate: at once, across kill -9, with who and why, and every copy once in the end."""

from __future__ import annotations

import getpass
import json
from pathlib import Path

from tests.scenarios.operated import Site, site

RESENDS_TOO = {"resend": "deliver"}
SLOW = ("--rule", "dot delay=0.05")
USER = getpass.getuser()


def taken_while(a_site: Site, seconds: float) -> tuple[int, int]:
    """What the sink has taken, at the beginning and the end of a span of the service's own time."""
    before = len(a_site.sink.taken())
    since_s = a_site.status()["at"]
    a_site.status_when(lambda said: said["at"] >= since_s + seconds)
    return before, len(a_site.sink.taken())


def test_pause_stops_at_once_lasts_over_a_kill_and_resume_delivers_the_rest_once(tmp_path: Path) -> None:
    with site(tmp_path, 25, *SLOW, feed={"messages": "5/s"}, mta={"sessions": 4}, duplicates=RESENDS_TOO) as lists:
        with lists.run() as service:
            lists.status_when(lambda said: said["done"]["delivered_recipients"] > 0)
            said = lists.says("pause", "--reason", "provider asked")
            assert said.startswith("paused: everything, until `drainer resume`")
            paused = lists.paused_at_rest()
            before, after = taken_while(lists, 2.0)
            assert before == after
            assert (paused["reason"], paused["eta"]["state"]) == (f"by {USER}: provider asked", "paused")
            assert [(p["list"], p["by"], p["reason"], p["until"]) for p in paused["pauses"]] == [
                ("", USER, "provider asked", None)
            ]
            there = lists.status()
            assert there["done"]["delivered_recipients"] == sum(lists.sink.deliveries().values())
            assert there["backlog"]["in_doubt_recipients"] == 0
            service.kill()
        with lists.run("--until-empty") as service:
            assert lists.status_when(lambda said: said["state"] != "starting")["state"] == "paused"
            text = " ".join(lists.says("status").split())
            assert f": by {USER}: provider asked Paused everything, by {USER} until resumed" in text
            before, after = taken_while(lists, 2.0)
            assert before == after < len(lists.owed())
            lists.says("rate", "--messages", "unlimited")
            assert lists.says("resume").startswith("resumed: everything\n")
            assert service.wait() == 0
        assert lists.sink.deliveries() == lists.owed(resends_too=True)
        assert [(line.by, line.action, line.detail) for line in lists.journal()] == [
            (USER, "pause", "everything: provider asked"),
            (USER, "rate", "messages unlimited, recipients as the settings say"),
            (USER, "resume", "everything"),
        ]


def test_pause_for_a_while_ends_by_itself_and_is_journalled(tmp_path: Path) -> None:
    with site(tmp_path, 8, feed={"messages": "0"}) as lists, lists.run("--until-empty") as service:
        lists.says("pause", "--for", "2h", "--reason", "provider asked")
        (pause,) = lists.status()["pauses"]
        assert pause["until"] - pause["since"] == 7200
        lists.says("rate", "--messages", "unlimited")
        # The later pause replaces the earlier one.
        assert lists.says("pause", "--for", "1s").startswith("paused: everything, for 1 s")
        assert service.wait() == 0
        assert lists.sink.deliveries() == lists.owed()
        paused, ended = lists.journal()[-2:]
        assert (paused.by, paused.action, ended.by, ended.action) == (USER, "pause", "drainer", "resume")
        assert ended.detail == "time is over: everything"
        assert min(taken["at"] for taken in lists.sink.taken()) >= ended.at_s >= paused.at_s + 1


def test_paused_list_waits_alone_under_its_address_too(tmp_path: Path) -> None:
    with site(tmp_path, 25, feed={"messages": "0"}) as lists, lists.run("--until-empty") as service:
        lists.surveyed()
        assert lists.says("pause", "--list", "choir@lists.example.org", "--reason", "typo").startswith(
            "paused: list choir, until"
        )
        for command in ("pause", "resume"):
            assert lists.refuses(1, command, "--list", "chior") == (
                "drainer: no list is known as chior; near to it: choir; nothing was done"
            )
        assert "still paused: list choir" in lists.says("resume", "--list", "harbour")
        lists.says("rate", "--messages", "unlimited")
        left = lists.status_when(lambda said: said["reason"] == "all that is left is of paused lists: choir")
        assert (left["state"], left["eta"]["state"], [one["list"] for one in left["lists"]]) == (
            "paused",
            "paused",
            ["choir"],
        )
        assert [one["paused"] for one in left["lists"]] == [True]
        assert lists.sink.deliveries() == lists.owed(but_list="choir")
        text = lists.says("status")
        assert f"list choir, by {USER} until resumed: typo" in text
        assert "`drainer resume --list choir` lets that list go on" in text
        only = "only single lists are paused: choir; `drainer resume --list NAME` lets one go on\n"
        assert lists.says("resume").startswith(only)
        assert lists.says("resume", "--list", "choir@lists.example.org").startswith("resumed: list choir\n")
        assert service.wait() == 0
        assert lists.sink.deliveries() == lists.owed()


def test_rate_is_shown_changed_while_running_and_kept_over_a_kill(tmp_path: Path) -> None:
    with site(tmp_path, 20, feed={"messages": "0"}, duplicates=RESENDS_TOO) as lists:
        with lists.run() as service:
            lists.surveyed()
            stopped = lists.status_when(lambda said: said["state"] == "paused")
            assert (stopped["rate"]["limit_messages_per_s"], stopped["eta"]["state"]) == (0.0, "paused")
            assert "the rate limit is 0; `drainer rate` shows and changes it" in " ".join(lists.says("status").split())
            assert lists.says("rate").splitlines()[0] == "Limits:"

            changed = json.loads(lists.says("rate", "--messages", "60/m", "--recipients", "9/s", "--json"))
            assert (changed["messages"], changed["recipients"]) == (1.0, 9.0)
            since_s = lists.status()["at"]
            some = lists.status_when(lambda said: said["at"] > since_s + 2 and said["done"]["transactions"] > 0)
            sent = [taken for taken in lists.sink.taken() if taken["at"] <= some["at"]]
            # Even: never more than the rate times the time since it was set, and the one that went first.
            assert len(sent) <= 1.0 * (some["at"] - since_s + 2) + 1
            assert sum(len(taken["recipients"]) for taken in sent) <= 9.0 * (some["at"] - since_s + 2) + 20

            assert json.loads(lists.says("rate", "--recipients", "0", "--json"))["recipients"] == 0
            service.kill()
        with lists.run("--until-empty") as service:
            kept = json.loads(lists.says("rate", "--json"))
            assert (kept["messages"], kept["recipients"]) == (1.0, 0.0)
            lifted = lists.says("rate", "--messages", "unlimited", "--recipients", "unlimited")
            assert lifted.count("unlimited") == 2
            assert service.wait() == 0
        assert lists.sink.deliveries() == lists.owed(resends_too=True)
        assert (USER, "messages 1/s, recipients 9/s") in [(line.by, line.detail) for line in lists.journal()]
