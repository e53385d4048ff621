"""python -m tests.scenarios.operated_at_random [--seed N] [--times N] [--wishes N]: an operator changes decisions at random.

In    a seed; the number of actions while a sample outage drains; how often the service is killed meanwhile
Out   nothing, or an AssertionError that says what was broken

The operator pauses, resumes, changes the rate, holds, releases, drops and gives back entries at random, and releases
everything at the end. Then: every recipient owed a mail has it once, except those dropped or in doubt; no counter fell; the
state was never idle with a backlog; every entry is in exactly one count; a restart shows the same as the run before.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import secrets
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drainer.backlog.selection import Selectors
from drainer.control.client import ControlClient
from drainer.control.messages.entries import SelectReply, SelectRequest
from drainer.control.messages.pauses_and_rates import PauseRequest, RateRequest, ResumeRequest
from drainer.errors import DrainerError
from drainer.queuedir.content import header_text
from drainer.queuedir.read import read_entry
from drainer.report.snapshot import Snapshot
from tests.scenarios.operated import Site, site, when
from tests.scenarios.running import Service

Copy = tuple[str, str]
"""Message-ID, recipient."""

MAILS = 12
WISHES = 60
KILLS = 1
SETTINGS: dict[str, dict[str, Any]] = {
    "feed": {"retry_first": "300ms", "retry_longest": "600ms", "messages": "30/s"},
    "ledger": {"in_doubt": "hold"},
    "mta": {"sessions": 3},
}
SINK = ("--rule", "rcpt 450 4.2.0 later chance=0.15", "--rule", "dot delay=0.02")
_SHOWN = 10_000
_COUNTERS = ("delivered_entries", "delivered_recipients", "suppressed_entries", "dropped_entries", "transactions")


@dataclass(slots=True)
class Story:
    """What has happened so far.

    dropped  entries he asked to be dropped, whether or not he got an answer
    counted  the counters as they were last seen
    """

    lists: Site
    random: random.Random
    dropped: set[str] = field(default_factory=set)
    counted: Counter[str] = field(default_factory=Counter)
    wished: list[str] = field(default_factory=list)

    async def wish(self, service: ControlClient) -> None:
        """One of his; a refusal is an answer too."""
        name = self.random.choice(("hold", "hold", "release", "release", "drop", "handback", "pause", "resume", "rate"))
        self.wished.append(name)
        try:
            await getattr(self, f"_{name}")(service)
        except DrainerError as exc:
            assert "the service failed on this request" not in str(exc), exc

    async def _hold(self, service: ControlClient) -> None:
        await self._on_some(service, service.hold)

    async def _release(self, service: ControlClient) -> None:
        """Without recipients to which he would send a second time."""
        held = (await service.entries(Selectors(state="held"), _SHOWN)).entries
        mine = [one.entry for one in held if one.reason.startswith("operator")]
        for name in self.random.sample(mine, min(len(mine), 2)):
            await service.release(SelectRequest(selectors=Selectors(entry=name), yes=True))

    async def _drop(self, service: ControlClient) -> None:
        if self.random.random() < 0.4:
            await self._on_some(service, service.drop, self.dropped)

    async def _handback(self, service: ControlClient) -> None:
        await self._on_some(service, service.handback)

    async def _pause(self, service: ControlClient) -> None:
        lists = [line.list for line in (await service.status()).lists]
        await service.pause(PauseRequest(list=self.random.choice(["", *lists])))

    async def _resume(self, service: ControlClient) -> None:
        paused = [pause.list for pause in (await service.status()).pauses]
        await service.resume(ResumeRequest(list=self.random.choice(["", *paused])))

    async def _rate(self, service: ControlClient) -> None:
        await service.set_rate(RateRequest(messages=self.random.choice((0.0, 20.0, 60.0, "unlimited"))))

    async def _on_some(
        self,
        service: ControlClient,
        do: Callable[[SelectRequest], Awaitable[SelectReply]],
        shown: set[str] | None = None,
    ) -> None:
        """Of all there are, wherever they stand."""
        names = [one.entry for one in (await service.entries(Selectors(), _SHOWN)).entries]
        for name in self.random.sample(names, min(len(names), self.random.choice((1, 1, 3)))):
            if shown is not None:
                shown.add(name)
            await do(SelectRequest(selectors=Selectors(entry=name), yes=True))

    async def look(self, service: ControlClient) -> Snapshot:
        """The status, held against the one before."""
        said = await service.status()
        counted = Counter({name: int(getattr(said.done, name)) for name in _COUNTERS})
        fallen = {name: (self.counted[name], counted[name]) for name in _COUNTERS if counted[name] < self.counted[name]}
        assert not fallen, fallen
        self.counted = counted
        assert said.state != "idle" or not said.backlog.entries, said
        return said


async def wishes(story: Story, number: int) -> None:
    async with ControlClient(story.lists.home / "control.sock") as service:
        for _ in range(number):
            await story.wish(service)
            await story.look(service)


async def let_go(story: Story) -> None:
    """He releases what he held himself, and lets everything go on."""
    async with ControlClient(story.lists.home / "control.sock") as service:
        for pause in (await service.status()).pauses:
            await service.resume(ResumeRequest(list=pause.list))
        await service.resume(ResumeRequest())
        await service.set_rate(RateRequest(messages="unlimited"))
        for one in (await service.entries(Selectors(state="held"), _SHOWN)).entries:
            if one.reason.startswith("operator"):
                await service.release(SelectRequest(selectors=Selectors(entry=one.entry), yes=True))


def operated(home: Path, seed: int, number: int = WISHES, kills: int = KILLS) -> None:
    """Raises AssertionError."""
    with site(home, MAILS, *SINK, members_each=6, **SETTINGS) as lists:
        recipients = {path.stem: copies_in(path) for path in lists.out.iterdir()}
        story = Story(lists, random.Random(seed))
        for _ in range(kills):
            with lists.run() as service:
                asyncio.run(wishes(story, number // (kills + 1)))
                service.kill()
        with lists.run() as service:
            asyncio.run(wishes(story, number // (kills + 1)))
            asyncio.run(let_go(story))
            said = at_rest(story, service)
            assert service.terminate() == 0, service.log_text()[-4000:]
        with lists.run() as service:
            again = at_rest(story, service)
            assert service.terminate() == 0
        before, after = (said.backlog.held_entries, said.done), (again.backlog.held_entries, again.done)
        assert before == after, f"a restart finds otherwise:\n{before}\n{after}\n{story.wished}"
        judge(story, recipients, said, kills)


def at_rest(story: Story, service: Service) -> Snapshot:
    """What the service says once nothing waits any more."""
    found: list[Snapshot] = []

    async def look() -> Snapshot:
        async with ControlClient(story.lists.home / "control.sock") as client:
            return await story.look(client)

    def rests() -> bool:
        found[:] = [asyncio.run(look())]
        (said,) = found
        return (
            said.state == "idle"
            and not (said.backlog.entries or said.backlog.unread_entries)
            and not any(story.lists.out.iterdir())
        )

    when(rests, lambda: f"{story.wished}\n{found}\n{service.log_text()[-3000:]}")
    return found[0]


def copies_in(file: Path) -> set[Copy]:
    entry = read_entry(file)
    message_id = header_text(entry.message, "message-id") or ""
    return {(message_id, address) for address in entry.recipients}


def judge(story: Story, recipients: dict[str, set[Copy]], said: Snapshot, kills: int) -> None:
    lists = story.lists
    found, owed = lists.sink.deliveries(), lists.owed()
    held = {path.stem for path in (lists.custody / "held").iterdir()}
    excused = set().union(*(recipients[name] for name in story.dropped | held))
    lost = {copy for copy in owed if not found[copy]} - excused
    resent = {copy for name in held for copy in recipients[name]}
    assert not lost, f"lost: {lost}\n{story.wished}"
    assert not (twice := {copy: number for copy, number in found.items() if number > 1}), f"twice: {twice}"
    assert found.keys() <= owed.keys() | resent | lists.owed(resends_too=True).keys()
    assert not any((lists.custody / "backlog").iterdir())
    assert said.backlog.held_entries == len(held)
    # A kill may come between the last commit of an entry and its unlink, either side of the count: of each in delivery.
    done = said.done
    counted = done.delivered_entries + done.suppressed_entries + done.dropped_entries + len(held)
    assert abs(counted - lists.outage.entries) <= kills * 5, (done, len(held), lists.outage.entries, story.wished)
    doubtful = lists.log.read_text().count("outcome=in_doubt ")
    if not doubtful:
        assert done.delivered_recipients == found.total(), (done, found.total())


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.scenarios.operated_at_random", description=__doc__)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--times", type=int, default=1, help="so many stories, each with the next seed")
    parser.add_argument("--wishes", type=int, default=WISHES)
    parser.add_argument("--kills", type=int, default=KILLS)
    given = parser.parse_args(arguments)
    for seed in range(given.seed, given.seed + given.times):
        with tempfile.TemporaryDirectory(prefix="drainer-operated-") as home:
            print(f"seed {seed}", flush=True)
            operated(Path(home), seed, given.wishes, given.kills)


if __name__ == "__main__":
    main(sys.argv[1:])
