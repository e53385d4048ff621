"""Giving everything back to Mailman, and taking it again only on request."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from drainer.queuedir.read import read_entry
from tests.scenarios.operated import site, when

DOMAIN = "example.org"


def test_untouched_entries_come_back_byte_for_byte_and_stay_until_resume(tmp_path: Path) -> None:
    with site(tmp_path, 15, feed={"messages": "0"}, duplicates={"resend": "deliver"}) as lists:
        written = {path.name: path.read_bytes() for path in lists.out.iterdir()}
        with lists.run() as service:
            lists.surveyed()
            assert list(lists.out.iterdir()) == []
            (some, *_) = json.loads(lists.says("entries", "--limit", "1", "--json"))["entries"]
            lists.says("hold", some["entry"], "--yes")
            said = lists.says("handback", "--yes", "--reason", "Mailman takes over")
            assert f"{len(written)} entries given back to Mailman" in said
            assert {path.name: path.read_bytes() for path in lists.out.iterdir()} == written
            reason = "handed back to Mailman; `drainer resume` takes entries from its queue again"
            lists.status_when(lambda said: (said["state"], said["reason"]) == ("paused", reason))
            assert "`drainer resume` goes on" in lists.says("status")
            service.kill()
        with lists.run() as service:
            since_s = lists.status()["at"]
            lists.says("rate", "--messages", "unlimited")
            kept = lists.status_when(lambda said: said["at"] > since_s + 1.5)
            assert (kept["state"], kept["backlog"]["entries"]) == ("paused", 0)
            assert {path.name for path in lists.out.iterdir()} == set(written)
            lists.says("resume")
            lists.status_when(lambda said: said["state"] == "idle" and said["done"]["delivered_entries"] > 0)
            assert service.terminate() == 0
        assert lists.sink.deliveries() == lists.owed(resends_too=True)
        assert ("handback", "Mailman takes over") in [(line.action, line.detail) for line in lists.journal()]


def test_part_delivered_entry_comes_back_with_only_the_recipients_it_owes(tmp_path: Path) -> None:
    refuse = ("--rule", f"rcpt 450 4.2.0 later recipient=*@{DOMAIN}")
    with site(tmp_path, 6, *refuse, duplicates={"resend": "deliver"}) as lists:
        before = {path.name: read_entry(path) for path in lists.out.iterdir()}
        with lists.run():
            lists.status_when(
                lambda said: (
                    said["backlog"]["recipients"] == said["backlog"]["deferred_recipients"] > 0
                    and said["done"]["delivered_recipients"] > 0
                )
            )
            assert "given back to Mailman" in lists.says("handback", "--yes")
        after = {path.name: read_entry(path) for path in lists.out.iterdir()}
        given = {recipient for _, recipient in lists.sink.deliveries()}
        assert given
        for name, entry in after.items():
            owed = [recipient for recipient in before[name].recipients if recipient.endswith(f"@{DOMAIN}")]
            assert set(entry.recipients) <= set(owed)
            assert entry.raw[: entry.message_bytes] == before[name].raw[: before[name].message_bytes]
        # The sink's copies and those that Mailman would send now make up all copies owed, and no copy is in both.
        owed_still = Counter(
            (message_id, recipient)
            for entry in after.values()
            for message_id, recipient in lists.owed(resends_too=True)
            if message_id.encode() in entry.raw and recipient in entry.recipients
        )
        assert set(lists.sink.deliveries().values()) == {1}
        assert owed_still + lists.sink.deliveries() == lists.owed(resends_too=True)


def not_now(said: str) -> dict[str, str]:
    """Filebase to the reason why it was not given back."""
    lines = (line.removeprefix("not now: ") for line in said.splitlines() if line.startswith("not now: "))
    return dict(line.split(": ", 1) for line in lines)


def test_entry_in_doubt_is_reported_as_skipped_and_stays(tmp_path: Path) -> None:
    lose = ("--rule", "dot take-and-hang-up first=1")
    waits = {"in_doubt": "ask", "in_doubt_wait": "1h"}
    with site(
        tmp_path, 6, *lose, ledger=waits, mta={"sessions": 1, "log_file": tmp_path / "no-verdict.log"},
        feed={"messages": "1/m"},
    ) as lists:  # fmt: skip
        (tmp_path / "no-verdict.log").touch()
        with lists.run():
            doubtful = lists.status_when(lambda said: said["backlog"]["in_doubt_recipients"] > 0)
            said = lists.says("handback", "--yes")
            reasons = not_now(said)
            reason = (
                f"{doubtful['backlog']['in_doubt_recipients']} recipients are in doubt; they have to be resolved first"
            )
            (doubted,) = (name for name, why in reasons.items() if why == reason)
            assert {path.stem for path in (lists.custody / "backlog").iterdir()} == set(reasons)
            assert all(doubted in why for name, why in reasons.items() if name != doubted), "its copies stay with it"
            assert len(list(lists.out.iterdir())) == lists.outage.entries - len(reasons)


def test_recipients_held_in_doubt_are_not_given_to_mailman_to_send_again(tmp_path: Path) -> None:
    """With in_doubt = "hold" a person has to say; giving the entry back would say "send again" for them."""
    lose = ("--rule", "dot take-and-hang-up first=1")
    with site(tmp_path, 6, *lose, ledger={"in_doubt": "hold"}, mta={"sessions": 1}) as lists, lists.run() as service:
        when(lambda: "outcome=in_doubt_held" in service.log_text(), service.log_text)
        said = lists.says("handback", "--yes")
        reason = "may have it already (they were in doubt and are held)"
        name = next(name for name, why in not_now(said).items() if reason in why)
        assert not (lists.out / f"{name}.pck").exists()
        assert "1 entry dropped" in lists.says("drop", name, "--yes")
        lists.status_when(lambda said: not said["backlog"]["entries"])
        left = json.loads(lists.says("entries", "--json"))["entries"]
        assert name not in [line["entry"] for line in left]
        assert set(lists.sink.deliveries().values()) == {1}
