"""Handed back while mail is in flight, cut off by kill -9, on a full disk: no recipient is Mailman's and ours at once.

What Mailman would send is read from the files in its out/, which is all it knows.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

from drainer.backlog.selection import Selectors
from drainer.control.client import ControlClient
from drainer.control.messages.entries import SelectReply, SelectRequest
from drainer.control.messages.pauses_and_rates import RateRequest
from drainer.demo.misbehaviour import Behaviour, Rule, SinkStep
from drainer.demo.sink import SinkOptions, SinkThread
from drainer.errors import DrainerError
from drainer.queuedir.content import header_pairs, value_text
from drainer.queuedir.read import read_entry
from tests.scenarios.troubled import Given, Outbreak, given, once, outbreak

SENDS_NOTHING = {"messages": "0"}


def handed_back(site: Outbreak, entry: str | None = None) -> SelectReply:
    async def ask() -> SelectReply:
        async with ControlClient(site.home / "control.sock") as service:
            return await service.handback(SelectRequest(selectors=Selectors(entry=entry), yes=True))

    return asyncio.run(ask())


def unlimited(site: Outbreak) -> None:
    async def ask() -> None:
        async with ControlClient(site.home / "control.sock") as service:
            await service.set_rate(RateRequest(messages="unlimited"))

    asyncio.run(ask())


def mailmans(site: Outbreak) -> Counter[Given]:
    """What Mailman's runner would send of its queue now, without mails that a person sent twice: they are not owed."""
    entries = [read_entry(path) for path in site.files("out")]
    return Counter(
        (entry.list_id, message_id, recipient)
        for entry in entries
        for message_id in [value_text(dict(header_pairs(entry.message))["Message-ID"])]
        if (entry.list_id, message_id) not in site.outage.held
        for recipient in entry.recipients
    )


def all_read(site: Outbreak, entries: int) -> None:
    site.status_when("all is read", lambda said: said.backlog.entries == entries and said.backlog.unread_entries == 0)


def reasons(reply: SelectReply) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in reply.skipped)


def test_handback_while_mail_is_in_flight_leaves_each_recipient_to_one_of_the_two(tmp_path: Path) -> None:
    """Copies of a mail that was begun are narrowed too: Mailman gets each recipient of it once. Of a mail that was not
    begun it gets back all files."""
    capture, dots = tmp_path / "capture.jsonl", threading.Semaphore(0)

    def slow(step: SinkStep) -> Behaviour | None:
        if step.stage != "dot":
            return None
        dots.release()
        return Behaviour(delay_s=0.3)

    deferring = Rule.parse("rcpt 450 4.2.0 later recipient=[a-f]*")
    with SinkThread(SinkOptions(capture=capture), deferring, slow) as sink:
        site = outbreak(tmp_path, sink.port, 25, 6, mta={"sessions": 3}, feed={"messages": "10/s", "retry_first": "1h"})
        with site.run() as service:
            for _ in range(6):
                assert dots.acquire(timeout=60)
            reply = handed_back(site)
            assert (reply.skipped, reply.matched) == ([], reply.changed + reply.gone)
            assert reply.gone == sum(reply.gone_why.values()), reply.gone_why
            left = site.status_when("nothing is here", lambda said: said.state == "paused")
            assert (left.backlog.entries, left.backlog.held_entries) == (0, 0)
            assert service.terminate() == 0
    had, theirs = given(capture), mailmans(site)
    once("given by us or left to Mailman", Counter(set(site.owed())), Counter([*had, *set(theirs)]))
    begun = {(list_name, message_id) for list_name, message_id, _ in had}
    assert begun & {key[:2] for key in theirs}, "some were part-delivered"
    assert {key for key, number in theirs.items() if number > 1 and key[:2] in begun} == set()
    assert max(had.values()) == 1


def test_kill_between_two_copies_holds_the_one_that_is_still_here(tmp_path: Path) -> None:
    capture = tmp_path / "capture.jsonl"
    with SinkThread(SinkOptions(capture=capture)) as sink:
        site = outbreak(tmp_path, sink.port, 1, feed=SENDS_NOTHING)
        first, copy = (path.stem for path in site.files("out"))
        point = ("custody.hand_back after rename", "1")
        with site.log.open("ab") as log:
            doomed = [sys.executable, "-m", "tests.torture.doomed", *point, "run", "--config", str(site.settings)]
            with subprocess.Popen(doomed, stdout=log, stderr=log) as service:
                all_read(site, 2)
                with pytest.raises(DrainerError, match="went away"):
                    handed_back(site)
                assert service.wait() == -9
        assert [path.stem for path in site.files("out")] == [first]
        with site.run() as again:
            unlimited(site)
            held = site.status_when("the copy is held", lambda said: said.backlog.held_entries == 1)
            assert (held.backlog.entries, held.state, given(capture)) == (0, "paused", Counter())
            assert handed_back(site).changed == 1
            assert [path.stem for path in site.files("out")] == [first, copy]
            assert again.terminate() == 0
    assert set(mailmans(site)) == set(site.owed()) and not given(capture)


def test_copies_of_a_mail_go_back_together_or_not_at_all(tmp_path: Path) -> None:
    """One is asked for and the other not; then one is in doubt."""
    capture = tmp_path / "capture.jsonl"
    with SinkThread(SinkOptions(capture=capture), Rule.parse("dot take-and-hang-up first=1")) as sink:
        site = outbreak(
            tmp_path, sink.port, 1, feed=SENDS_NOTHING, mta={"sessions": 1}, ledger={"in_doubt": "hold"}
        )  # fmt: skip
        first, copy = (path.stem for path in site.files("out"))
        with site.run() as service:
            all_read(site, 2)
            for one, other in ((first, copy), (copy, first)):
                why = f"{other} is a copy of it and would stay here: both would send it; give back both, or drop one"
                assert reasons(handed_back(site, one)) == {one: why}
            unlimited(site)
            site.until("a doubt is for a person", lambda: site.outcomes("in_doubt_held"))
            refused = reasons(handed_back(site))
            assert refused.keys() == {first, copy}
            assert any("may have it already" in why for why in refused.values())
            assert site.files("out") == []
            assert service.terminate() == 0
    assert max(given(capture).values()) == 1
