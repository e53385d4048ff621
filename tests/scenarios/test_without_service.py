"""The reading commands while no service answers: after the end, after kill -9 in the middle, beside a service that hangs.

What they say comes from the ledger and the queue's own directories, and those are as they were afterwards.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import psutil
import pytest

from drainer.cli.main import main
from tests.scenarios.operated import SOON_S, Site, site


def said(lists: Site, *commands: Sequence[str]) -> list[str]:
    """What each of these commands prints, run in this process: to start Python for each would take most of the time."""
    answers = [run(lists, command) for command in commands]
    assert [err for _, err in answers] == [""] * len(commands), answers
    return [out for out, _ in answers]


def run(lists: Site, command: Sequence[str], exit_status: int = 0) -> tuple[str, str]:
    out, err, before = StringIO(), StringIO(), sys.argv
    sys.argv = ["drainer", *command, "--config", str(lists.settings)]
    try:
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as left:
            main()
    finally:
        sys.argv = before
    assert (left.value.code or 0) == exit_status, (command, out.getvalue(), err.getvalue())
    return out.getvalue(), err.getvalue()


def as_json(lists: Site, *commands: Sequence[str]) -> list[dict[str, Any]]:
    return [json.loads(text) for text in said(lists, *([*command, "--json"] for command in commands))]


def everything_below(home: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """Every name, with inode, mode, time of change and octets: what a reader may not touch."""
    return {
        str(path.relative_to(home)): (
            path.lstat().st_ino,
            path.lstat().st_mode,
            path.lstat().st_mtime_ns,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in home.rglob("*")
        if path.suffix not in (".jsonl", ".log")
    }


def figures(snapshot: dict[str, Any]) -> dict[str, Any]:
    """What depends on neither the moment nor on a service that runs."""
    now = ("oldest_age_s", "in_doubt_recipients")  # a service that runs resolves doubts at once
    backlog = {name: value for name, value in snapshot["backlog"].items() if name not in now}
    lists = {one["list"]: (one["entries"], one["recipients"], one["paused"]) for one in snapshot["lists"]}
    pauses = [(one["list"], one["by"], one["reason"]) for one in snapshot["pauses"]]
    return {"backlog": backlog, "done": snapshot["done"], "lists": lists, "pauses": pauses}


def test_after_a_drain_until_empty_the_disk_shows_held_entries_and_the_reasons(tmp_path: Path) -> None:
    with site(tmp_path, 12) as lists:
        lists.drain()
        before = everything_below(tmp_path)
        held = sorted(path.stem for path in (lists.custody / "held").iterdir())
        assert held
        text, table, shown, eta = said(lists, ["status"], ["entries"], ["show", held[0]], ["eta"])
        snapshot, listed, one, in_json = as_json(
            lists, ["status"], ["entries", "--state", "held"], ["show", held[0]], ["eta", "--at", "5/s"]
        )
        report = lists.says("report")
        assert everything_below(tmp_path) == before, "asking left something behind, or changed it"

        assert text.startswith("NOT RUNNING since ") and "nothing is left but held entries" in text.splitlines()[0]
        assert "\nAs of " in text and f"held: {len(held)} entries" in text
        assert "no such" not in text and "\nGuards" not in text
        first = "drainer is not running since "
        assert [answer.startswith(first) for answer in (table, shown, eta)] == [True, True, True]
        assert all(
            "start it with `systemctl start drainer`" in " ".join(answer.split()) for answer in (table, shown, eta)
        )
        assert "nothing left to deliver" in eta
        assert "resend: " in table and "resend: " in shown.partition("state")[2].splitlines()[0]
        assert "still owed:" in shown and "not running" in report

        assert (snapshot["state"], snapshot["eta"]["state"], snapshot["pid"]) == ("not_running", "done", 0)
        assert snapshot["backlog"]["held_entries"] == len(held) == listed["total"]
        assert [(line["entry"], line["state"]) for line in listed["entries"]] == [(name, "held") for name in held]
        assert all(line["reason"].startswith("resend") and line["subject"] for line in listed["entries"])
        assert one["entry"]["entry"] == held[0] and len(one["owed"]) == one["entry"]["recipients"]
        written_s = (tmp_path / "ledger.sqlite").stat().st_mtime
        for answer in (snapshot, listed, one, in_json):
            without = answer["without_service"]
            assert (without["state"], without["reason"]) == ("not_running", "nothing is left but held entries")
            assert without["as_of"] == pytest.approx(written_s) and without["since"] <= written_s + 1


def attempted(path: Path) -> int:
    """Recipients of attempts that are open or in doubt."""
    with sqlite3.connect(path) as ledger:
        found = sum(len(json.loads(joined)) for (joined,) in ledger.execute("SELECT addresses FROM attempts"))
    ledger.close()
    return found


def without_age(line: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line.items() if name != "age_s"}


def test_answers_about_a_killed_service_equal_those_of_its_next_run(tmp_path: Path) -> None:
    rules = ("--rule", "dot delay=0.5", "--rule", "rcpt 450 4.2.0 later recipient=*@home.example.net")
    feed = {"retry_first": "1h", "retry_longest": "2h"}
    with site(tmp_path, 25, *rules, feed=feed, mta={"sessions": 4}) as lists:
        with lists.run() as service:
            lists.status_when(
                lambda found: found["done"]["transactions"] >= 8 and found["backlog"]["deferred_recipients"]
            )
            lists.says("pause", "--reason", "provider asked")
            helpers = psutil.Process(service.process.pid).children(recursive=True)
            service.kill()
        _, alive = psutil.wait_procs(helpers, SOON_S)
        assert helpers and not alive
        assert "resource_tracker" not in service.log_text(), "Python's own warnings are not for operators"
        before = everything_below(tmp_path)
        (dead,) = as_json(lists, ["status"])
        table, of_list = as_json(lists, ["entries"], ["entries", "--list", "harbour"])
        eta, list_eta = said(lists, ["eta", "--at", "50/s", "--by", "+2h"], ["eta", "--list", "harbour"])
        (fate,) = as_json(lists, ["show", lists.sink.taken()[0]["message_id"]])
        assert everything_below(tmp_path) == before, "asking left something behind, or changed it"

        assert (dead["state"], dead["eta"]["state"], dead["eta"]["finish"]) == ("not_running", "stalled", None)
        assert "killed" in dead["reason"] and dead["backlog"]["deferred_recipients"] > 0
        assert dead["backlog"]["in_doubt_recipients"] == attempted(tmp_path / "ledger.sqlite")
        assert "no finish time: drainer does not run" in eta and "if it goes on now, at 50/s recipients: about " in eta
        assert "list harbour: " in list_eta and " about " not in list_eta
        assert any(one["state"] == "delivered" for one in fate["fates"]), fate
        assert table["total"] == dead["backlog"]["entries"] + dead["backlog"]["held_entries"]
        assert {line["list"] for line in of_list["entries"]} == {"harbour"}

        with lists.run() as service:
            again = lists.surveyed(table["total"])
            assert figures(again) == figures(dead)
            listed, listed_of_list = as_json(lists, ["entries"], ["entries", "--list", "harbour"])
            assert [without_age(line) for line in listed["entries"]] == [without_age(line) for line in table["entries"]]
            assert listed_of_list["total"] == of_list["total"]
            assert listed["without_service"] is None and again["without_service"] is None

            os.kill(service.process.pid, signal.SIGSTOP)
            try:
                text, hung_json, report = lists.say_at_once(
                    ["status"], ["status", "--json"], ["report", "--format", "json"]
                )
            finally:
                os.kill(service.process.pid, signal.SIGCONT)
            hung = json.loads(hung_json)
            assert figures(hung) == figures(again)
            assert (hung["state"], hung["pid"]) == ("not_answering", service.process.pid)
            assert text.startswith("NOT ANSWERING since ") and "journalctl -u drainer" in text
            assert json.loads(report)["state"] == "not_answering"


def test_without_service_and_ledger_the_commands_exit_3_and_say_what_is_missing(tmp_path: Path) -> None:
    with site(tmp_path, 1) as lists:
        for command in (("status",), ("entries",), ("show", "1700000000"), ("eta", "--json"), ("report",)):
            out, refused = run(lists, command, exit_status=3)
            assert refused.startswith("drainer: drainer is not running: nothing listens on "), (command, refused)
            assert f"{tmp_path}/ledger.sqlite: there is no ledger" in refused and not out, (command, out, refused)
