"""How well drainer finds what an MTA bears: 1,500 entries into MTAs that misbehave, each kind with its aim.

In    entries as Mailman 2.1 writes them; `drainer run --until-empty`, no limits set; a sink in a process of its own
Out   a table: messages/s accepted, part of what the MTA could take, the aim, refused, sessions and reply time at the end

    python -m tests.bench.bearing [KIND...]

Counted is what the sink saw, from its first message to the one that makes 98 % of all: the last few wait for their next
attempt. `after start` leaves out the first 20 %. The aim of an open MTA is for the whole drain, that of the others for the
time after the start. Where one domain is bad, the mail of the others counts.

What an MTA without a limit of its own could take is what the same drain gives into a sink without faults, with
feed.adaptive = false and as many sessions as it has room for: the mean of two, one before and one after, since no two
seconds of a machine are alike.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from drainer.control.client import ControlClient
from drainer.demo.misbehaviour import Behaviour, Rule, Script, SinkStep
from drainer.demo.sample_queue import write_plain
from drainer.demo.sink import Sink, SinkOptions
from drainer.errors import DrainerError
from drainer.report.snapshot import Snapshot
from tests.scenarios.running import site_settings

ENTRIES = 1500
SESSIONS = 20
COUNTED_SHARE = 0.98
START_SHARE = 0.2
LONGEST_S = 130.0
DOMAINS = ("a.example", "b.example", "c.example", "bad.example")


@dataclass(frozen=True, slots=True)
class Kind:
    """An MTA.

    rules       of the sink (demo/misbehaviour.py)
    could_per_s what it takes at most; None: it is measured
    least       the aim: part of that
    refused     the aim: most that may be refused, of all tried; None: refusals are not our doing
    slower      the aim: most that a reply may take at the end, in unloaded ones; None: not measured
    settings    sections of drainer's settings
    entries     how many
    bad_domain  bad.example is refused: only mail to others counts
    also        a Script made at the first step, for what no rule says
    """

    rules: tuple[str, ...] = ()
    could_per_s: float | None = None
    least: float = 0.6
    refused: float | None = None
    slower: float | None = None
    session_limit: int = 0
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    entries: int = ENTRIES
    recipients: int = 1
    bad_domain: bool = False
    also: Callable[[], Script] | None = None


class _Since:
    """A Script by the time since its first step: (from second, script or None) in order."""

    def __init__(self, *parts: tuple[float, Script | None]) -> None:
        self._parts = parts
        self._first_s: float | None = None

    def __call__(self, step: SinkStep) -> Behaviour | None:
        self._first_s = step.at_s if self._first_s is None else self._first_s
        now = [script for from_s, script in self._parts if step.at_s - self._first_s >= from_s]
        return now[-1](step) if now and now[-1] is not None else None


class _Filling:
    """Script: a queue that takes 100/s out again, and that makes each reply slower by 1 ms for each message in it."""

    def __init__(self) -> None:
        self._length, self._at_s = 0.0, 0.0

    def __call__(self, step: SinkStep) -> Behaviour | None:
        if step.stage != "dot":
            return None
        self._length = max(0.0, self._length - 100 * (step.at_s - self._at_s)) + 1
        self._at_s = step.at_s
        return Behaviour(delay_s=0.02 + 0.001 * self._length)


class _Tarpit:
    """Script: bad.example is unknown for now, and a session with more than ten such errors since its last mail gets each
    reply a second late, as Postfix has it (smtpd_soft_error_limit, smtpd_error_sleep_time)."""

    def __init__(self) -> None:
        self._errors: dict[int, int] = {}

    def __call__(self, step: SinkStep) -> Behaviour | None:
        late_s = 1.0 if self._errors.get(step.session, 0) > 10 else 0.0
        if step.stage == "rcpt" and step.recipient.endswith("bad.example"):
            self._errors[step.session] = self._errors.get(step.session, 0) + 1
            return Behaviour(b"450 4.1.8 no such domain for now\r\n", delay_s=late_s)
        if step.stage == "dot":
            self._errors[step.session] = 0
        return Behaviour(delay_s=late_s) if late_s else None


_FLAKY = ("mail 421 4.3.2 try again chance=0.03", "content hang-up chance=0.015")
_BUCKET = "rcpt 451 4.7.1 too much mail rate=60"
_FOUR_DOMAINS = {"feed": {"max_recipients": 1}}

KINDS: dict[str, Kind] = {
    "open": Kind(),
    "flaky": Kind(_FLAKY, least=0.5),
    "bucket": Kind((_BUCKET,), 60.0, 0.85, refused=0.1),
    "sessions": Kind(session_limit=8, least=0.8),
    "workers": Kind(("dot delay=0.1 workers=4",), 40.0, 0.85, slower=2.0),
    "mixed": Kind((*_FLAKY, _BUCKET), 60.0, 0.75, refused=0.15),
    "changing": Kind(
        could_per_s=66.0,  # 60/s for ten seconds, 15/s for ten, then 120/s
        least=0.6,
        refused=0.15,
        entries=2000,
        also=lambda: _Since(
            (0.0, Rule.parse(_BUCKET)),
            (10.0, Rule.parse(_BUCKET.replace("60", "15"))),
            (20.0, Rule.parse(_BUCKET.replace("60", "120"))),
        ),
    ),
    "ban": Kind(
        ("rcpt 451 4.7.1 too much mail rate=200",),
        least=0.1,
        also=lambda: _Since((2.0, Rule.parse("mail 421 4.7.0 banned")), (12.0, None)),
    ),
    "greylisting": Kind(
        least=0.1, also=lambda: _Since((0.0, Rule.parse("rcpt 450 4.2.0 greylisted")), (6.0, None))
    ),
    "one-bad-domain": Kind(
        ("rcpt 450 4.2.1 later recipient=*@bad.example first=600",), least=0.5, settings=_FOUR_DOMAINS,
        entries=ENTRIES // 4, recipients=4, bad_domain=True,
    ),
    "filling": Kind(could_per_s=100.0, least=0.8, also=_Filling),
    "remote": Kind(
        tuple(f"{stage} delay=0.08" for stage in ("connect", "ehlo", "mail", "rcpt", "data", "dot")), 50.0, 0.8, slower=1.3
    ),
    "tarpit": Kind(least=0.4, settings=_FOUR_DOMAINS, entries=ENTRIES // 4, recipients=4, bad_domain=True, also=_Tarpit),
}  # fmt: skip


class _CountingSink(Sink):
    """Counts replies that refuse, and how long each reply to a final dot was held up by a rule."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        scripts: list[Script] = [Rule.parse(rule) for rule in kind.rules]
        if kind.also is not None:
            scripts.append(kind.also())
        super().__init__(SinkOptions(session_limit=kind.session_limit, keep_taken=False), *scripts)
        self.refused = 0
        self.delays_s: list[float] = []
        self.at_s: list[float] = []

    def behaviour(self, step: SinkStep) -> Behaviour | None:
        behaviour = super().behaviour(step)
        if behaviour is not None and behaviour.reply is not None and step.stage != "connect":
            self.refused += 1
        if step.stage == "dot":
            self.delays_s.append(behaviour.delay_s if behaviour is not None else 0.0)
        return behaviour

    def take(self, taken: Any) -> None:
        super().take(taken)
        if not (self._kind.bad_domain and taken.recipients[0].endswith("bad.example")):
            self.at_s.append(time.monotonic())


async def _serve(name: str, *, is_plain: bool) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    kind = replace(KINDS[name], rules=(), also=None, session_limit=0) if is_plain else KINDS[name]
    async with _CountingSink(kind) as sink:
        print(sink.port, flush=True)
        await stop.wait()
        print(
            json.dumps({
                "at_s": sink.at_s, "refused": sink.refused, "most_sessions": sink.most_sessions,
                "delays_s": sink.delays_s,
            }),
            flush=True,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Borne:
    """What the sink counted, and what the service said of itself, oldest first."""

    per_s: float
    after_start_per_s: float
    accepted: int
    refused: int
    seen: tuple[Snapshot, ...]

    @property
    def refused_share(self) -> float:
        return self.refused / max(1, self.accepted + self.refused)

    @property
    def at_the_end(self) -> Snapshot | None:
        busy = [one for one in self.seen if one.state == "draining" and one.backlog.entries > SESSIONS]
        return busy[-1] if busy else None

    @property
    def slower(self) -> float | None:
        """Time from final dot to reply in the second half, in unloaded ones."""
        half = [one.mta for one in self.seen[len(self.seen) // 2 :]]
        ratios = [mta.final_dot_s / mta.unloaded_s for mta in half if mta.final_dot_s and mta.unloaded_s]
        return median(ratios) if ratios else None


def drained(home: Path, name: str, *, is_plain: bool = False, entries: int = 0) -> Borne:
    """One drain into a sink of this kind.

    is_plain  without its faults, as fast as drainer can
    entries   how many; 0: as the kind has it
    """
    kind = replace(KINDS[name], entries=entries or KINDS[name].entries)
    outage = write_plain(
        home / "site", kind.entries, kind.recipients, start_s=time.time() - 10 * 86_400, domains=DOMAINS
    )
    mailman = {"flavour": "mailman2", "queue_dir": outage.queue_dir, "lists_dir": outage.lists_dir}
    sections: dict[str, dict[str, Any]] = {section: dict(values) for section, values in kind.settings.items()}
    feed = {"adaptive": not is_plain, "retry_first": "3s", "retry_longest": "10s", **sections.pop("feed", {})}
    own = home / "drainer"
    own.mkdir()
    with subprocess.Popen(
        [sys.executable, "-m", "tests.bench.bearing", "--plain-sink" if is_plain else "--sink", name],
        stdout=subprocess.PIPE,
        text=True,
    ) as sink:
        try:
            assert sink.stdout is not None
            port = int(sink.stdout.readline())
            sessions = (kind.session_limit if is_plain else 0) or SESSIONS
            settings = site_settings(own, port, mailman, mta={"sessions": sessions}, feed=feed, **sections)
            seen = _fed(own, settings)
        finally:
            sink.terminate()
        counted = json.loads(sink.stdout.readline())
    at_s = counted["at_s"]
    owed = kind.entries * (kind.recipients - kind.bad_domain if "max_recipients" in feed else 1)
    enough = at_s[: int(COUNTED_SHARE * owed)]
    after_start = enough[int(START_SHARE * owed) :]
    return Borne(_per_s(enough), _per_s(after_start), len(at_s), counted["refused"], tuple(seen))


def _per_s(at_s: list[float]) -> float:
    return (len(at_s) - 1) / (at_s[-1] - at_s[0]) if len(at_s) > 1 else 0.0


def _fed(own: Path, settings: Path) -> list[Snapshot]:
    """A run of the service, and what it said of itself."""
    with (own / "drainer.log").open("wb") as log:
        service = subprocess.Popen(
            [sys.executable, "-m", "drainer", "run", "--until-empty", "--config", str(settings)], stdout=log, stderr=log
        )
    try:
        return asyncio.run(_watched(service, own / "control.sock"))
    finally:
        if service.poll() is None:
            service.send_signal(signal.SIGTERM)
        service.wait()


async def _watched(service: subprocess.Popen[Any], socket: Path) -> list[Snapshot]:
    seen: list[Snapshot] = []
    deadline_s = time.monotonic() + LONGEST_S
    while service.poll() is None and time.monotonic() < deadline_s:
        try:
            async with ControlClient(socket) as client:
                seen.append(await client.status())
        except DrainerError:
            pass
        if seen and os.environ.get("BEARING_VERBOSE"):
            one = seen[-1]
            print(
                f"   {one.backlog.entries:5} {one.rate.messages_per_s or 0:6.1f}/s sessions {one.mta.sessions}/"
                f"{one.mta.sessions_allowed} {one.mta.state} dot {one.mta.final_dot_s} {one.mta.unloaded_s} "
                f"| {one.rate.binding} | {one.mta.sessions_why}",
                flush=True,
            )
        await asyncio.sleep(0.5)
    return seen


def main(names: Sequence[str] = ()) -> None:
    """Measure and print."""
    names = list(names or KINDS)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    load = os.getloadavg()[0]
    print(
        f"What an MTA bears: {ENTRIES:,} entries, {SESSIONS} sessions at most, no limit set; load average {load:.2f}.\n"
    )
    home = Path(tempfile.mkdtemp(prefix="drainer-bearing-"))
    try:
        print(
            f"{'MTA':16} {'accepted/s':>10} {'could/s':>8} {'part':>6} {'after start':>11} {'aim':>6} {'refused':>8} "
            f"{'aim':>5} {'sessions':>8} {'reply x':>8} {'aim':>5}"
        )
        for name in names:
            kind, could_per_s = KINDS[name], KINDS[name].could_per_s
            before = None if could_per_s else drained(home / "before", name, is_plain=True)
            borne = drained(home / name, name)
            if could_per_s is None and before is not None:
                could_per_s = (before.per_s + drained(home / "after", name, is_plain=True).per_s) / 2
            print(_row(name, kind, borne, could_per_s or math.inf), flush=True)
            for directory in home.iterdir():
                shutil.rmtree(directory)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _row(name: str, kind: Kind, borne: Borne, could_per_s: float) -> str:
    end = borne.at_the_end
    sessions = "" if end is None else f"{end.mta.sessions_allowed}"
    slower = "" if borne.slower is None else f"{borne.slower:.1f}"
    most_refused = "" if kind.refused is None else f"{100 * kind.refused:.0f}%"
    parts = f"{borne.per_s / could_per_s:6.2f} {borne.after_start_per_s / could_per_s:11.2f} {kind.least:6.2f}"
    return (
        f"{name:16} {borne.per_s:10.1f} {could_per_s:8.0f} {parts} {100 * borne.refused_share:7.1f}% {most_refused:>5} "
        f"{sessions:>8} {slower:>8} {'' if kind.slower is None else kind.slower:>5}"
    )


if __name__ == "__main__":
    if sys.argv[1:2] in (["--sink"], ["--plain-sink"]):
        asyncio.run(_serve(sys.argv[2], is_plain=sys.argv[1] == "--plain-sink"))
    else:
        main(sys.argv[1:])
