"""One site that is hurt: its queue, its MTA, as many runs of the service as the story needs, and the judgement.

In    what the queue is to hold (Stock); the policy for recipients in doubt; a seed
Out   a Judgement: lost, second copies, in doubt, and every promise that was broken, in words
"""

from __future__ import annotations

import asyncio
import itertools
import random
import re
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from drainer.backlog.selection import Selectors
from drainer.control.client import ControlClient
from drainer.control.messages.entries import SelectReply, SelectRequest
from drainer.control.messages.pauses_and_rates import ResumeRequest
from drainer.demo.sample_queue import Outage
from drainer.errors import DrainerError
from drainer.ledger.queue_rows import FIRST_QUEUE
from drainer.ledger.states import State
from drainer.ledger.tables import unresolved_attempts
from drainer.queuedir.content import header_text
from drainer.queuedir.entry import QueueEntry
from drainer.queuedir.read import read_entry
from drainer.report.snapshot import Snapshot
from drainer.via_mailman.follow import SHUNTED
from drainer.via_mailman.whereabouts import handover_mark
from tests.mailman3.site import Site as Mailman3
from tests.scenarios.running import site_settings
from tests.scenarios.troubled import Outbreak
from tests.torture.mta import Copy, Mta, until

Answer = TypeVar("Answer")
Policy = Literal["resend", "hold", "ask"]
POLICIES: tuple[Policy, ...] = ("resend", "hold", "ask")

_ROOT = Path(__file__).parents[2]
_DRAINED_WITHIN_S = 600.0
_ANSWERS_WITHIN_S = 240.0
_TRACEBACK = re.compile(r"Traceback \(most recent call last\):\n(?!.*\n.*/multiprocessing/spawn\.py)")
"""Not those of a reading process that was being started by a service just killed."""
_FREED_AT_MOST = 3
"""What is held again each time it is released is lost."""


@dataclass(slots=True)
class Stock:
    """What the queue is to hold; `arrive` puts it there, oldest first.

    entries   file name -> content, waiting to arrive
    owed      copies that have to be taken exactly once
    optional  copies that may be taken once, or not, and then a file is kept: mail a person sent again, or dropped
    refused   copies that may be taken once, or not: the MTA refuses them for good, some of the time
    mailman3  the genuine Mailman whose queue it is, if it is one's
    """

    queue_dir: Path
    mailman: dict[str, Any]
    entries: dict[str, bytes]
    owed: set[Copy]
    optional: set[Copy] = field(default_factory=set)
    refused: set[Copy] = field(default_factory=set)
    mailman3: Mailman3 | None = None

    def excuse(self, copies: set[Copy], right: Callable[[str], bool]) -> None:
        """Move copies with such an address from owed to `copies` (optional, refused): they need not arrive any more."""
        moved = {copy for copy in self.owed if right(copy[1])}
        self.owed -= moved
        copies |= moved


def stock_of(outage: Outage) -> Stock:
    """A sample outage, out of its out/ and into stock."""
    out = outage.queue_dir / "out"
    entries = {path.name: path.read_bytes() for path in sorted(out.iterdir(), key=lambda path: time_of(path.name))}
    for name in entries:
        (out / name).unlink()
    owed = {(message_id, address) for (_, message_id), addresses in outage.owed.items() for address in addresses}
    again: set[Copy] = set()
    for list_name, message_id in outage.held:
        serial = message_id.partition(".")[2].partition("@")[0]
        again |= {
            (message_id, address)
            for (name, original), addresses in outage.owed.items()
            if name == list_name and original.startswith(f"<{serial}.")
            for address in addresses
        }
    mailman = {"flavour": "mailman2", "queue_dir": outage.queue_dir, "lists_dir": outage.lists_dir}
    return Stock(outage.queue_dir, mailman, entries, owed, again)


@dataclass(slots=True)
class Judgement:
    """entries, owed     how many entries arrived, how many recipients have to get something
    lost, second         recipients that got nothing, and copies beyond the first; second copies allowed are counted too
    in_doubt             recipients the ledger had in doubt at some moment
    verdicts             recipients: how doubts ended, as the log has it: "delivered", "resend", "held"
    held                 recipients that a person has to see to: in doubt and held, or in Mailman's own shunt/, where its
                         runner leaves an entry that it was delivering when it had to stop
    wrong                promises broken, each in words; empty if all were kept
    """

    entries: int = 0
    owed: int = 0
    lost: int = 0
    second: int = 0
    in_doubt: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    held: int = 0
    wrong: list[str] = field(default_factory=list)


class Run:
    """One run of the service, as a process; with `point`, one that ends itself there."""

    def __init__(self, site: Site, settings: Path, *options: str, point: str = "", nth: int = 1) -> None:
        self._site = site
        site.current = self
        program = ["tests.torture.doomed", point, str(nth)] if point else ["drainer"]
        with site.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *program, "run", "--config", str(settings), *options],
                stdout=log,
                stderr=log,
                cwd=_ROOT,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.kill()

    @property
    def lives(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        self.process.kill()
        self.died()

    def died(self, within_s: float = _DRAINED_WITHIN_S) -> None:
        """Wait until SIGKILL has ended it; then the ledger says who is in doubt. Raises AssertionError for any other end."""
        status = self.process.wait(within_s)
        assert status == -signal.SIGKILL, f"exit status {status} instead of a kill\n{self._site.end_of_log()}"
        self._site.in_doubt |= doubtful(self._site.ledger)

    def ended(self) -> None:
        """Wait until it has come to its end by itself."""
        try:
            status = self.process.wait(_DRAINED_WITHIN_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it does not end\n{self._site.end_of_log()}") from None
        assert status == 0, f"exit status {status}\n{self._site.end_of_log()}"


class Site:
    """`with Site(...) as site`.

    names       of the entries that have arrived
    by_another  copies that another program delivered, and not into the MTA
    gone        names of those entries
    patient     what is in doubt at the end is asked about in real time, else half a minute is written into the log
    sections    settings beside the harness's own
    """

    def __init__(
        self, home: Path, stock: Stock, policy: Policy, seed: int, *, patient: bool = False, **sections: dict[str, Any]
    ) -> None:
        self.home = home
        self.stock = stock
        self.policy = policy
        self.seed = seed
        self.random = random.Random(seed)
        self.log = home / "drainer.log"
        self.ledger = home / "ledger.sqlite"
        self.mta = Mta(home / "mta")
        self.in_doubt: set[Copy] = set()
        self.taken_and_shunted: set[Copy] = set()
        self.names: list[str] = []
        self.by_another: Counter[Copy] = Counter()
        self.gone: set[str] = set()
        self.current: Run | None = None
        self._names = iter(stock.entries)
        self._patient = patient
        self._sections = sections

    def __enter__(self) -> Self:
        self.mta.start()
        mta = {"port": self.mta.port, "sessions": 4, "log_file": self.mta.log}
        timeouts = dict.fromkeys(("connect_timeout", "command_timeout", "content_timeout", "final_dot_timeout"), "20s")
        # Mailman's own runner works beside it in some faults, on purpose.
        custody = {"poll": "100ms", "beside_runner": True, **self._sections.pop("custody", {})}
        own: dict[str, dict[str, Any]] = {
            "ledger": {"in_doubt": self.policy, "in_doubt_wait": "10m"},
            "mta": {**mta, **timeouts, **self._sections.pop("mta", {})},
            "custody": custody,
        }
        self.settings = site_settings(self.home, self.mta.port, self.stock.mailman, **self._merged(own))
        calm: dict[str, dict[str, Any]] = {
            "ledger": {"in_doubt": self.policy, "in_doubt_wait": "45s" if self._patient else "200ms"},
            "mta": mta,
            "custody": custody,
        }
        # A .bak is the runner's that works beside us; it is a stand-in, which no look at the processes takes for Mailman's.
        beside = {**own, "custody": {**custody, "bak_age": "1h"}}
        (self.home / "beside").mkdir()
        self.beside = site_settings(self.home / "beside", self.mta.port, self.stock.mailman, **self._merged(beside))
        (self.home / "calm").mkdir()
        self.calm = site_settings(self.home / "calm", self.mta.port, self.stock.mailman, **self._merged(calm))
        self._outbreak = Outbreak(self.home, Outage(self.stock.queue_dir, self.stock.queue_dir), self.settings)
        return self

    def _merged(self, own: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        own["ledger"]["path"] = self.ledger
        own["control"] = {"socket": self.home / "control.sock"}
        for name, values in self._sections.items():
            own[name] = {**own.get(name, {}), **values}
        return own

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.mta.close()

    @property
    def out(self) -> Path:
        return self.stock.queue_dir / "out"

    def arrive(self, most: int = sys.maxsize) -> list[str]:
        """That many entries come into out/ as Mailman writes them. Returns their names."""
        names = list(itertools.islice(self._names, most))
        for name in names:
            self.put(name)
        self.names += names
        return names

    def put(self, name: str, called: str = "") -> None:
        """An entry of the stock in out/, under its own name or another."""
        half_written = self.out / f"{name}.tmp"
        half_written.write_bytes(self.stock.entries[name])
        half_written.rename(self.out / (called or name))

    def run(self, *options: str, point: str = "", nth: int = 1) -> Run:
        return Run(self, self.settings, *options, point=point, nth=nth)

    def run_beside_runner(self) -> Run:
        return Run(self, self.beside)

    @contextmanager
    def running(self) -> Iterator[Run]:
        """The run there is, which goes on; or one that ends with the block, by a kill."""
        if self.current is not None and self.current.lives:
            yield self.current
        else:
            with self.run() as run:
                yield run
                run.kill()

    @property
    def lives(self) -> bool:
        """Whether the service runs."""
        return self.current is not None and self.current.lives

    def status(self) -> Snapshot | None:
        return self._outbreak.status()

    def end_of_log(self) -> str:
        return self.log.read_text(errors="replace")[-3000:] if self.log.exists() else ""

    def said(self, words: str) -> int:
        """How often the service's log, of all runs, has these words."""
        return self.log.read_text(errors="replace").count(words) if self.log.exists() else 0

    def ask(self, request: Callable[[ControlClient], Coroutine[Any, Any, Answer]]) -> Answer | None:
        """A request on the control socket; None if there was no answer: it may have been carried out, or not."""

        async def asked() -> Answer:
            async with ControlClient(self.home / "control.sock") as service:
                return await request(service)

        try:
            return asyncio.run(asked())
        except (DrainerError, OSError):
            return None

    def release(self, entry: str) -> SelectReply | None:
        """As ask."""
        return self.ask(partial(_released, SelectRequest(selectors=Selectors(entry=entry), yes=True)))

    def drain(self, *, restart_mta: bool = True) -> None:
        """Everything has arrived, all partners are well, the operator gives free what he held: to the end."""
        self.arrive()
        if restart_mta:
            self.mta.restart(rules=())
        if not self._patient:
            self.mta.half_a_minute_later()
        with Run(self, self.calm) as run:
            until("the service answers", lambda: not run.lives or self.status(), _ANSWERS_WITHIN_S)
            assert run.lives, self.end_of_log()
            self.ask(lambda service: service.resume(ResumeRequest()))
            self._settled(run)
            for _ in range(_FREED_AT_MOST):
                if not self._free():
                    break
                self._settled(run)
            run.process.terminate()
            run.ended()

    def _settled(self, run: Run) -> None:
        """Return once nothing is left to do but what is held."""

        def is_settled() -> bool:
            assert run.lives, self.end_of_log()
            said = self.status()
            if said is None or said.state != "idle" or said.backlog.entries or said.mailman.retrying_recipients:
                return False
            return not [path for name in ("out", "retry") for path in (self.stock.queue_dir / name).glob("*.pck")]

        until("nothing is left but held entries", is_settled, _DRAINED_WITHIN_S)

    def _free(self) -> int:
        """Release what is held for any reason but doubt; returns how many entries that were."""
        answer = self.ask(lambda service: service.entries(Selectors(state="held"), 100_000))
        assert answer is not None
        held = [entry for entry in answer.entries if not entry.reason.startswith(("in_doubt", "resend"))]
        for entry in held:
            if entry.reason.startswith(SHUNTED):
                # Mailman shunts what it was delivering when it is stopped. This person does not ask the MTA first.
                (file,) = (self.stock.queue_dir / "drainer/held").glob(f"{entry.entry}*")
                self.taken_and_shunted |= copies_of(read_entry(file)).keys() & self.mta.copies().keys()
            assert self.release(entry.entry) is not None
        return len(held)

    def judge(self) -> Judgement:
        """What the MTA took, against what the queue held."""
        lines = self._outbreak.lines()
        verdicts: Counter[str] = Counter()
        for fields in lines:
            outcome = fields.get("outcome", "")
            if outcome.startswith("in_doubt"):
                named = (fields.get("recipients") or fields.get("recipient", "")).split(",")
                self.in_doubt |= {(fields["message_id"], address) for address in named}
                if verdict := outcome.removeprefix("in_doubt").removeprefix("_"):
                    verdicts[verdict] += len(named)
        copies = self.mta.copies() + self.by_another
        found = Judgement(len(self.names), len(self.stock.owed), in_doubt=len(self.in_doubt), verdicts=verdicts)
        missing = self.stock.owed - copies.keys()
        kept = self._kept()
        explained = {
            copy for copy in missing & self.in_doubt if copy in kept["drainer/held"] and self.policy != "resend"
        }
        explained |= missing & kept["shunt"]
        found.held = len(explained)
        found.lost = len(missing - explained)
        more = {copy: number - 1 for copy, number in copies.items() if number > 1}
        found.second = sum(more.values())
        allowed = self.in_doubt if self.policy == "resend" else set()
        allowed = allowed | {copy for copy in self.taken_and_shunted if more.get(copy) == 1}
        strangers = copies.keys() - self.stock.owed - self.stock.optional - self.stock.refused - self.mta.bounces()
        unkept = self.stock.optional - copies.keys() - {copy for copies_in in kept.values() for copy in copies_in}
        for what, broken in (
            ("lost", missing - explained),
            ("second copies for recipients never in doubt, or against the policy", more.keys() - allowed),
            ("copies that no recipient was owed", strangers),
        ):
            if broken:
                found.wrong.append(f"{what}: {len(broken)}, such as {min(broken)}")
        if unkept:
            found.wrong.append(f"dropped or sent again, and its file is gone: {len(unkept)}, such as {min(unkept)}")
        for words in ("outcome=internal_error", "illegal_transition"):
            if self.said(words):
                found.wrong.append(f"the log has {words!r}")
        if _TRACEBACK.search(self.log.read_text(errors="replace")):
            found.wrong.append("the log has a traceback")
        left = [path.name for name in ("out", "drainer/backlog") for path in (self.stock.queue_dir / name).glob("*+*")]
        left += [path.name for path in (self.stock.queue_dir / "drainer").glob("*.tmp")]
        left += [path.name for path in self.home.glob("drainer-*")]
        if left:
            found.wrong.append(f"left over: {len(left)}, such as {min(left)}")
        return found

    def _kept(self) -> dict[str, set[Copy]]:
        """The recipients of the files that still exist."""
        found: dict[str, set[Copy]] = {}
        for name in ("drainer/backlog", "drainer/held", "drainer/duplicates", "shunt"):
            found[name] = set()
            for path in (self.stock.queue_dir / name).glob("*+*"):
                found[name].update(copies_of(read_entry(path)))
        return found


async def _released(wish: SelectRequest, service: ControlClient) -> SelectReply:
    return await service.release(wish)


def copies_of(entry: QueueEntry) -> Counter[Copy]:
    message_id = (header_text(entry.message, "message-id") or "").strip()
    return Counter((message_id, address) for address in entry.recipients)


def doubtful(ledger: Path) -> set[Copy]:
    """The recipients in doubt in the ledger of a dead service, also those of an open attempt."""
    if not ledger.exists():
        return set()
    with sqlite3.connect(f"file:{ledger}?mode=ro", uri=True) as reader:
        (has_tables,) = reader.execute("SELECT count(*) FROM sqlite_master WHERE name = 'attempts'").fetchone()
        attempts = unresolved_attempts(reader, FIRST_QUEUE) if has_tables else []
    reader.close()
    return {
        (attempt.message_id, address)
        for attempt in attempts
        if handover_mark(attempt.reverse_path) is None or attempt.state is State.IN_DOUBT
        for address in attempt.recipients
    }


def time_of(name: str) -> float:
    return float(name.partition("+")[0])
