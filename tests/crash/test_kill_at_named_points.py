"""kill -9 at the points of one transaction that decide who owns the mail: in doubt from DATA on, and not before."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

from drainer.backlog.selection import Selectors
from drainer.control.client import ControlClient
from drainer.control.messages.entries import SelectRequest
from drainer.control.messages.pauses_and_rates import PauseRequest, ResumeRequest
from drainer.demo.misbehaviour import SILENCE, TAKE_AND_SILENCE, Behaviour, SinkStep, StageName
from drainer.demo.sink import SinkOptions, SinkThread
from tests.scenarios.running import drainer
from tests.scenarios.troubled import Outbreak, every_session_read, given, once, outbreak

MAILS = 4


class SilentOnce:
    """Script: falls silent the first time a session comes to `stage`, and says so."""

    def __init__(self, stage: StageName, behaviour: Behaviour = SILENCE) -> None:
        self.stage = stage
        self.behaviour = behaviour
        self.reached = threading.Event()

    def __call__(self, step: SinkStep) -> Behaviour | None:
        if step.stage != self.stage or self.reached.is_set():
            return None
        self.reached.set()
        return self.behaviour


def site_with_one_session(home: Path, port: int, log: Path) -> Outbreak:
    return outbreak(
        home, port, MAILS, members_each=3, mta={"log_file": log, "sessions": 1},
        ledger={"in_doubt": "ask", "in_doubt_wait": "100ms"},
    )  # fmt: skip


@pytest.mark.parametrize("stage", ["connect", "mail", "rcpt"])
def test_a_kill_before_data_leaves_no_recipient_in_doubt(tmp_path: Path, stage: StageName) -> None:
    script, capture, log = SilentOnce(stage), tmp_path / "capture.jsonl", tmp_path / "mail.log"
    with SinkThread(SinkOptions(capture=capture, log=log), script) as sink:
        site = site_with_one_session(tmp_path, sink.port, log)
        with site.run() as service:
            site.until(f"silence at {stage}", script.reached.is_set)
            service.kill()
        site.drain()
    assert site.in_doubt() == set()
    once(stage, site.owed(), given(capture))


@pytest.mark.parametrize(
    ("stage", "behaviour", "resolved_as"),
    [
        ("data", SILENCE, "in_doubt_resend"),
        ("content", SILENCE, "in_doubt_resend"),
        ("dot", SILENCE, "in_doubt_resend"),
        ("dot", TAKE_AND_SILENCE, "in_doubt_delivered"),
    ],
    ids=["before_354", "in_the_content", "not_taken_at_the_final_dot", "taken_at_the_final_dot"],
)
def test_killed_after_data_is_in_doubt_and_the_log_of_the_mta_settles_it(
    tmp_path: Path, stage: StageName, behaviour: Behaviour, resolved_as: str
) -> None:
    script, capture, log = SilentOnce(stage, behaviour), tmp_path / "capture.jsonl", tmp_path / "mail.log"
    with SinkThread(SinkOptions(capture=capture, log=log), script) as sink:
        site = site_with_one_session(tmp_path, sink.port, log)
        with site.run() as service:
            site.until(f"silence at {stage}", script.reached.is_set)
            service.kill()
        every_session_read(sink.port)
        site.drain()
    (doubt,) = site.outcomes("in_doubt")
    (resolved,) = site.outcomes(resolved_as)
    assert (doubt["filebase"], doubt["recipients"]) == (resolved["filebase"], resolved["recipients"])
    once(stage, site.owed(), given(capture))


def test_status_counts_who_is_in_doubt_until_it_is_resolved(tmp_path: Path) -> None:
    """The log says nothing of that moment yet, so it is asked again; everything else goes on meanwhile."""
    script, capture, log = SilentOnce("dot", SILENCE), tmp_path / "capture.jsonl", tmp_path / "mail.log"
    with SinkThread(SinkOptions(capture=capture, log=log), script) as sink:
        site = outbreak(
            tmp_path, sink.port, MAILS, members_each=3, mta={"log_file": log, "sessions": 1},
            ledger={"in_doubt": "ask", "in_doubt_wait": "1h"},
        )  # fmt: skip
        with site.run() as service:
            site.until("silence at the final dot", script.reached.is_set)
            service.kill()
        with site.run() as service:
            said = site.status_when(
                "only the doubtful is left",
                lambda said: (
                    said.backlog.recipients == said.backlog.in_doubt_recipients != 0 and said.mta.state == "up"
                ),
            )
            service.terminate()
    assert said.backlog.in_doubt_recipients == len(site.in_doubt())
    missing = site.owed() - given(capture)
    assert {(message_id, recipient) for _, message_id, recipient in missing} == site.in_doubt()
    assert given(capture) - site.owed() == {}


def test_release_of_what_an_operator_held_leaves_those_in_doubt_held(tmp_path: Path) -> None:
    """His own hold was never about them; about them he is asked, with how many may get a second copy."""
    script, capture = SilentOnce("dot", TAKE_AND_SILENCE), tmp_path / "capture.jsonl"
    with SinkThread(SinkOptions(capture=capture), script) as sink:
        site = outbreak(tmp_path, sink.port, MAILS, members_each=3, mta={"sessions": 1}, ledger={"in_doubt": "hold"})
        with site.run() as service:
            site.until("silence at the final dot", script.reached.is_set)
            asked(site, lambda control: control.pause(PauseRequest()))
            service.kill()
        with site.run() as service:
            site.until("the doubt is for a person", lambda: site.outcomes("in_doubt_held"))
            (doubt,) = site.outcomes("in_doubt_held")
            doubtful = doubt["recipients"].split(",")
            it = SelectRequest(selectors=Selectors(entry=doubt["filebase"]), yes=True)
            assert asked(site, lambda control: control.hold(it)).changed == 1
            released = asked(site, lambda control: control.release(it))
            assert (released.changed, released.may_have_it) == (1, 0)
            asked(site, lambda control: control.resume(ResumeRequest()))
            site.status_when("all but the held is done", lambda said: said.state == "idle" and not said.backlog.entries)
            assert max(given(capture).values()) == 1
            held = [line for line in site.outcomes("held") if line["filebase"] == doubt["filebase"]]
            assert [line["reason"] for line in held] == ["operator", "in_doubt"]
            shown = drainer("release", "--all", "--config", site.settings).stdout
            assert f"{len(doubtful)} recipients may have it already" in shown
            assert asked(site, lambda control: control.release(it)).may_have_it == len(doubtful)
            site.until("he said so", lambda: 2 in given(capture).values())
            site.status_when("that is done too", lambda said: said.state == "idle" and not said.backlog.entries)
            service.terminate()
    twice = {(message_id, recipient) for (_, message_id, recipient), number in given(capture).items() if number == 2}
    assert twice == {(doubt["message_id"], recipient) for recipient in doubtful}


Answer = TypeVar("Answer")


def asked(site: Outbreak, request: Callable[[ControlClient], Coroutine[Any, Any, Answer]]) -> Answer:
    """What the service answers."""

    async def answered() -> Answer:
        async with ControlClient(site.home / "control.sock") as service:
            return await request(service)

    return asyncio.run(answered())
