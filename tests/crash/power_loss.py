"""Power lost at every moment of a recorded drain: what is on the disk, and whether it keeps the promises.

`record` runs one real service through a scenario that renames, rewrites, settles, defers, suppresses, holds, drops and
hands back. `Cuts` goes through the recording and stops before and after every sync and every send that matters.
`judge` looks at what a disk may contain then. For each:

  nothing lost      every recipient that an entry owed is in a complete file of it, or settled in the ledger
  no second copy    a recipient whose content was begun has an attempt in the ledger, and an entry that was fed is not in
                    out/ again
  reported is kept  deliveries, pauses and drops that the log or the control socket reported are still there
"""

from __future__ import annotations

import asyncio
import dataclasses
import fnmatch
import hashlib
import os
import re
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from drainer.backlog.selection import Selectors
from drainer.control.client import ControlClient
from drainer.control.messages.entries import SelectRequest
from drainer.control.messages.pauses_and_rates import PauseRequest, ResumeRequest
from drainer.demo.misbehaviour import Rule
from drainer.demo.sink import SinkOptions, SinkThread
from drainer.duplicates.summary import summarise
from drainer.errors import EntryError
from drainer.ledger.generation import KEPT_AS, stamp_in_line, stamp_in_value
from drainer.ledger.records import History, OperatorState, recipient_key
from drainer.ledger.sqlite import SqliteLedger
from drainer.ledger.states import SETTLED, State
from drainer.queuedir.filebase import mailman_filebase
from drainer.queuedir.read import read_entry
from drainer.report.snapshot import Snapshot
from tests.crash.model_disk import Disk, Found, Kept, moments
from tests.crash.recorded import Call, read_trace, strace_command
from tests.scenarios.troubled import Outbreak, given, outbreak

BROKEN = f"1700000000.5+{'ab' * 20}.pck"
REPORTED = re.compile(rb"outcome=delivered filebase=(\S+).*? recipient(s?)=(\S+)")
DEFERRED, REFUSED = "ada0.harbour@*", "bela1.night-sky@*"
"""Recipients that the sink never accepts, so that the envelope alone shows the recipients of the content."""

NOT_MODELLED = ("-shm", "/drainer-", ".lock", ".log", ".sock")
"""Rebuilt at every start: SQLite's shared memory, the index, the lock; and files that are not needed after a power
failure."""

_ATTEMPTED = (State.ATTEMPTING, State.IN_DOUBT, State.HELD, State.DELIVERED)
_TAKEN_OR_REFUSED = (*_ATTEMPTED, State.DEFERRED, State.FAILED)


@dataclass(frozen=True, slots=True)
class Original:
    """An entry as it lay in out/ before the service began. identity (): it cannot be read."""

    content: bytes
    identity: tuple[bytes, ...] = ()
    list_id: str = ""
    message_id: str = ""
    recipients: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class Recording:
    """One service's life, and what was there before it."""

    site: Outbreak
    ledger: Path
    capture: Path
    port: int
    before: dict[str, bytes]
    originals: dict[str, Original]
    calls: Sequence[Call]

    def identity(self, list_name: str, message_id: str) -> tuple[bytes, ...]:
        return next(o.identity for o in self.originals.values() if (o.list_id, o.message_id) == (list_name, message_id))


def record(home: Path, mails: int) -> Recording:
    """Run the story under strace. The ledger's directory and its parent do not exist yet."""
    capture, trace = home / "capture.jsonl", home / "trace"
    home.mkdir(exist_ok=True)
    assert not any(ignored in str(home) for ignored in NOT_MODELLED), home
    capture.touch()
    rules = (
        Rule.parse(f"rcpt 450 4.2.0 later recipient={DEFERRED}"), Rule.parse(f"rcpt 550 5.1.1 nobody recipient={REFUSED}"),
        Rule.parse("dot take-and-hang-up every=7"), Rule.parse("dot 451 4.3.0 later every=11"),
    )  # fmt: skip
    with SinkThread(SinkOptions(capture=capture), *rules) as sink:
        site = outbreak(
            home, sink.port, mails, members_each=4, mta={"sessions": 2},
            ledger={"path": home / "var" / "lib" / "ledger.sqlite", "in_doubt": "hold"},
        )  # fmt: skip
        (site.outage.queue_dir / "out" / BROKEN).write_bytes(b"no pickle")
        before = {f"{home}/": b"", **_tree(site.outage.queue_dir)}
        with site.run(under=strace_command(trace)) as service:
            site.until("some are delivered", lambda: sink.taken_recipients > sum(site.owed().values()) // 5)
            asyncio.run(_operated(site, capture))
            site.status_when("all that can be done is done", _nothing_is_waiting)
            assert service.terminate() == 0, service.log_text()[-4000:]
            calls = read_trace(trace, service.process.pid)
        originals = {filebase: _original(filebase, content) for _, filebase, content in _entries(before)}
        return Recording(site, home / "var" / "lib" / "ledger.sqlite", capture, sink.port, before, originals, calls)


async def _operated(site: Outbreak, capture: Path) -> None:
    """An operator in the middle: pauses, holds, releases, drops, hands one back untouched and one part-delivered."""
    async with ControlClient(site.home / "control.sock") as service:
        await service.pause(PauseRequest(reason="power is going"))
        listed = (await service.entries(Selectors(state="waiting"), 100)).entries
        repeated = {entry.of for entry in listed}
        begun = {message_id for _, message_id, _ in given(capture)}
        alone = [entry for entry in listed if entry.duplicate == "none" and entry.entry not in repeated]
        waiting = [entry.entry for entry in reversed(alone) if entry.message_id not in begun]
        partly = [entry.entry for entry in (await service.entries(Selectors(state="deferred"), 100)).entries]
        assert len(waiting) >= 4 and partly, (waiting, partly)
        for act, entry in [
            (service.hold, waiting[0]), (service.hold, waiting[1]), (service.release, waiting[0]),
            (service.drop, waiting[2]), (service.handback, waiting[3]), (service.handback, partly[0]),
        ]:  # fmt: skip
            done = await act(SelectRequest(selectors=Selectors(entry=entry), yes=True))
            assert done.changed == 1, done
        await service.resume(ResumeRequest())


def _nothing_is_waiting(said: Snapshot) -> bool:
    backlog = said.backlog
    later = backlog.deferred_recipients + backlog.in_doubt_recipients
    return said.state != "paused" and not backlog.unread_entries and backlog.recipients <= later


@dataclass(slots=True)
class Known:
    """What was reported up to a moment, and must therefore be true.

    begun       (list, Message-ID) -> recipients for which sending the content was begun, with the moment of the last time
    delivered   filebase -> recipients the log called delivered
    counted     recipients delivered by the control socket's word
    paused      reported as done, and no end of it requested
    """

    begun: dict[tuple[str, str], dict[bytes, int]] = field(default_factory=lambda: defaultdict(dict))
    delivered: Counter[str] = field(default_factory=Counter)
    counted: int = 0
    paused: bool = False


@dataclass(frozen=True, slots=True)
class Cut:
    """A moment: the disk as it may be, what is known by then, and why this moment was chosen."""

    number: int
    why: str
    disk: Disk
    known: Known


class Cuts:
    """Goes through a recording once; the Cut handed out is good until the next."""

    def __init__(self, recording: Recording, *, whole_renames: bool) -> None:
        self._recording = recording
        self._disk = Disk(recording.before, NOT_MODELLED, whole_renames=whole_renames)
        self._known = Known()
        self._sessions: dict[str, _Session] = defaultdict(_Session)

    def __iter__(self) -> Iterator[Cut]:
        """Before and after each sync that kept something, and at each message to a peer or the log."""
        for moment, has_ended, call in moments(self._recording.calls):
            is_sync = call.name in ("fsync", "fdatasync")
            if is_sync and has_ended:
                yield self._cut(moment, f"before {call.name} of {call.descriptor()}")
                if self._disk.is_synced_by(call):
                    yield self._cut(moment, f"after {call.name} of {call.descriptor()}")
            elif not is_sync and not has_ended:
                if self._disk.may_have_begun(call):
                    yield self._cut(moment, f"{call.name} {_concerned(call)}")
                elif reported := self._reported(call):
                    yield self._cut(moment, reported)

    def _cut(self, moment: int, why: str) -> Cut:
        return Cut(moment, why, self._disk, self._known)

    def _reported(self, call: Call) -> str:
        """What a send or a line of the log reports; "" if it does not matter."""
        if call.name not in ("write", "writev", "sendto", "sendmsg"):
            return ""
        peer, data = call.descriptor(), b"".join(call.texts())
        if peer == str(self._recording.site.log):
            return self._reported_in_the_log(data)
        if peer.endswith(f":{self._recording.port}]"):
            begun = self._sessions[peer].sent(data)
            for list_name, message_id, recipients in begun:
                for recipient in recipients:
                    self._known.begun[list_name, message_id][recipient] = call.began
            return "content begun" if begun else ""
        if found := re.search(rb'"delivered_recipients": ?(\d+)', data):
            self._known.counted = max(self._known.counted, int(found[1]))
            return "status reported"
        return ""

    def _reported_in_the_log(self, data: bytes) -> str:
        reported = ""
        for filebase, several, value in REPORTED.findall(data):
            self._known.delivered[filebase.decode()] += int(value) if several else 1
            reported = "delivery reported"
        for action in re.findall(rb"action=(\w+) .*result=done", data):
            # The recording shows when a resume was done, not when it was requested; the hand-back is shortly before.
            self._known.paused = action != b"handback" and (self._known.paused or action == b"pause")
            reported = "decision reported"
        return reported


class _Session:
    """What one SMTP session has sent so far."""

    def __init__(self) -> None:
        self._rest = b""
        self._in_content = False
        self._list_name = ""
        self._message_id = ""
        self._recipients: list[bytes] = []

    def sent(self, data: bytes) -> list[tuple[str, str, list[bytes]]]:
        """List, Message-ID and recipients of every content whose Message-ID came with this."""
        begun = []
        *lines, self._rest = (self._rest + data).split(b"\r\n")
        for line in lines:
            if self._in_content:
                if line == b".":
                    self._in_content = False
                elif not self._message_id and line.lower().startswith(b"message-id: "):
                    self._message_id = line[12:].decode()
                    if self._list_name:  # a bounce of our own otherwise, which no entry in out/ owes anybody
                        begun.append((self._list_name, self._message_id, self._recipients))
            elif line.startswith(b"MAIL FROM:"):
                found = re.match(rb"MAIL FROM:<(.*?)-bounces@", line)
                self._list_name, self._recipients = found[1].decode() if found else "", []
            elif found := re.match(rb"RCPT TO:<(.*?)>", line):
                address = found[1].decode()
                if not any(fnmatch.fnmatchcase(address, refused) for refused in (DEFERRED, REFUSED)):
                    self._recipients.append(recipient_key(address))
            elif line == b"DATA":
                self._in_content, self._message_id = True, ""
        return begun


@dataclass(frozen=True, slots=True)
class _Ledger:
    """What a service started after the cut would read there."""

    history: dict[tuple[bytes, ...], History]
    operator: OperatorState
    delivered: int


class Judge:
    """Holds images of the disk against what is known; keeps what it has read of equal ledgers and files."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._ledgers: dict[tuple[tuple[int, int] | None, ...], _Ledger] = {}
        self._rewritten: dict[bytes, frozenset[bytes] | None] = {}
        taken = given(recording.capture)
        self._taken = {(name, message_id, recipient_key(address)) for name, message_id, address in taken}
        self._last_begun: dict[tuple[str, str, bytes], int] = {}
        for cut in Cuts(recording, whole_renames=True):
            for (name, message_id), keys in cut.known.begun.items() if cut.why == "content begun" else ():
                self._last_begun.update({(name, message_id, key): moment for key, moment in keys.items()})
        self.images = 0

    @property
    def ledgers(self) -> int:
        """How many different ledgers were opened."""
        return len(self._ledgers)

    async def judge(self, cut: Cut, kept: Kept) -> list[str]:
        """What is wrong with the disk after this cut: nothing."""
        self.images += 1
        found = cut.disk.found(kept)
        ledger = await self._ledger(found)
        wrong = [
            *self._lost(found, ledger),
            *self._unknown_attempts(cut.known, ledger),
            *self._given_back_to_mailman(cut, found),
            *self._forgotten(cut.known, ledger),
            *self._strange(cut.known, found),
        ]
        return [f"cut {cut.number} ({cut.why}), {kept.name}: {what}" for what in wrong]

    async def restarted(self, cut: Cut, kept: Kept, home: Path) -> list[str]:
        """What goes wrong when a real service is started on what is found after this cut: nothing.

        home  a directory for it, not there yet
        """
        given_before = {
            (name, message_id, key)
            for (name, message_id), keys in cut.known.begun.items()
            for key, moment in keys.items()
            if self._is_taken_then(name, message_id, key, moment)
        }
        files, capture = cut.disk.found(kept), home / "capture.jsonl"
        await asyncio.to_thread(_run_on, self._recording, files, home, capture)
        after = given(capture)
        twice = [
            f"{message_id} for {name} went to {address} again"
            for (name, message_id, address), number in after.items()
            if name and (number > 1 or (name, message_id, recipient_key(address)) in given_before)
        ]
        left = Found(
            {_moved(path, home, self._recording.site.home): read for path, read in _tree(home).items()}, frozenset()
        )
        wrong = [*twice, *self._lost(left, await self._ledger(left))]
        return [f"restarted after cut {cut.number} ({cut.why}), {kept.name}: {what}" for what in wrong]

    def _is_taken_then(self, name: str, message_id: str, key: bytes, moment: int) -> bool:
        """Whether the sink owned it as the end of what was begun at this moment, and not of a later try."""
        now = (name, message_id, key)
        return self._last_begun[now] == moment and now in self._taken

    def _lost(self, found: Found, ledger: _Ledger) -> Iterator[str]:
        named: dict[str, set[bytes]] = defaultdict(set)
        for path, filebase, content in _entries(found.files):
            recipients = self._read(filebase, content)
            if recipients is None:
                yield f"{path} is half an entry"
            named[filebase] |= recipients or set()
        for filebase, original in self._recording.originals.items():
            if not original.identity:
                if filebase not in named:
                    yield f"{filebase} is lost, unreadable as it was"
                continue
            settled = ledger.history[original.identity].with_state(*SETTLED)
            if lost := original.recipients - named[filebase] - settled:
                yield f"{filebase}: {len(lost)} recipients are lost"

    def _read(self, filebase: str, content: bytes) -> frozenset[bytes] | None:
        """The recipients a file names; None: it is no whole entry."""
        original = self._recording.originals[filebase]
        if content == original.content:
            return original.recipients
        digest = hashlib.sha256(content).digest()
        if digest not in self._rewritten:
            self._rewritten[digest] = _original(filebase, content).recipients or None
        return self._rewritten[digest]

    def _unknown_attempts(self, known: Known, ledger: _Ledger) -> Iterator[str]:
        for (list_name, message_id), keys in known.begun.items():
            history = ledger.history[self._recording.identity(list_name, message_id)]
            for key, moment in keys.items():
                is_taken = self._is_taken_then(list_name, message_id, key, moment)
                if key not in history.with_state(*(_ATTEMPTED if is_taken else _TAKEN_OR_REFUSED)):
                    states = [str(part.state) for part in history.coverage if key in part.recipients]
                    yield f"content of {message_id} for {list_name} was begun, and the ledger says {states}"

    def _given_back_to_mailman(self, cut: Cut, found: Found) -> Iterator[str]:
        out = f"{self._recording.site.outage.queue_dir}/out/"
        for path, filebase, content in _entries(found.files):
            original = self._recording.originals[filebase]
            begun = cut.known.begun.get((original.list_id, original.message_id), {})
            if path.startswith(out) and begun.keys() & (self._read(filebase, content) or ()):
                yield f"{path} is Mailman's again, and names recipients whose content was begun"

    def _forgotten(self, known: Known, ledger: _Ledger) -> Iterator[str]:
        delivered: Counter[str] = Counter()
        for history in ledger.history.values():
            for part in history.coverage:
                delivered[part.filebase] += len(part.recipients) if part.state is State.DELIVERED else 0
        if forgotten := known.delivered - delivered:
            yield f"reported as delivered, and forgotten: {forgotten}"
        if ledger.delivered < known.counted:
            yield f"status said {known.counted} were delivered, the ledger {ledger.delivered}"
        if known.paused and "" not in {pause.list_id for pause in ledger.operator.pauses}:
            yield "the operator's pause is forgotten"

    def _strange(self, known: Known, found: Found) -> Iterator[str]:
        lock = f"{self._recording.site.outage.queue_dir}/drainer/lock"
        if known.begun and stamp_in_line(found.files.get(lock, b"").decode().partition("\n")[2]) is None:
            yield "content was begun, and the queue does not know its ledger: an old one would be taken for it"

    async def _ledger(self, found: Found) -> _Ledger:
        parts = {suffix: found.files.get(f"{self._recording.ledger}{suffix}") for suffix in ("", "-wal", "-journal")}
        equal = tuple(part if part is None else (len(part), hash(part)) for part in parts.values())
        if equal not in self._ledgers:
            with tempfile.TemporaryDirectory(prefix="power-", dir=_memory()) as directory:
                _write(Path(directory, "ledger.sqlite"), parts)
                self._ledgers[equal] = await self._read_ledger(Path(directory, "ledger.sqlite"))
        return self._ledgers[equal]

    async def _read_ledger(self, path: Path) -> _Ledger:
        ledger = SqliteLedger(path)
        await ledger.open()
        try:
            return _Ledger(
                {
                    original.identity: await ledger.history(original.identity)
                    for original in self._recording.originals.values()
                    if original.identity
                },
                await ledger.operator_state(),
                (await ledger.totals()).get("delivered_recipients"),
            )
        finally:
            await ledger.close()


def _run_on(recording: Recording, found: Found, home: Path, capture: Path) -> None:
    """A service on a copy of what was found, until nothing waits any more."""
    for directory in sorted(found.directories):
        Path(_moved(directory, recording.site.home, home)).mkdir(parents=True, exist_ok=True)
    for path, content in found.files.items():
        Path(_moved(path, recording.site.home, home)).write_bytes(content)
    shutil.copytree(recording.site.outage.lists_dir, home / "lists")
    ledger, queue_dir = Path(_moved(str(recording.ledger), recording.site.home, home)), (home / "qfiles").resolve()
    if ledger.exists():
        asyncio.run(_follow(SqliteLedger(ledger), queue_dir))
    capture.touch()
    with SinkThread(SinkOptions(capture=capture)) as sink:
        settings = home / "drainer.toml"
        text = recording.site.settings.read_text().replace(str(recording.site.home), str(home))
        settings.write_text(text.replace(f"port = {recording.port}", f"port = {sink.port}"))
        outage = dataclasses.replace(recording.site.outage, queue_dir=home / "qfiles", lists_dir=home / "lists")
        site = Outbreak(home, outage, settings)
        with site.run() as service:
            asyncio.run(_resumed(site))
            site.status_when("all that can be done is done", _nothing_is_waiting)
            assert service.terminate() == 0, service.log_text()[-4000:]


async def _follow(ledger: SqliteLedger, queue_dir: Path) -> None:
    """The ledger takes the queue's new place for its own: a power failure moves nothing."""
    await ledger.open()
    if mark := stamp_in_value(await ledger.kept(KEPT_AS)):
        await ledger.keep({KEPT_AS: dataclasses.replace(mark, queue_dir=str(queue_dir)).value()})
    await ledger.close()


async def _resumed(site: Outbreak) -> None:
    async with ControlClient(site.home / "control.sock") as service:
        await service.resume(ResumeRequest())


def _moved(path: str, before: Path, after: Path) -> str:
    return f"{after}{path.removeprefix(str(before))}"


def _write(path: Path, parts: dict[str, bytes | None]) -> None:
    for suffix, part in parts.items():
        if part is not None:
            path.with_name(path.name + suffix).write_bytes(part)


def _memory() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _concerned(call: Call) -> str:
    return " to ".join(os.fsdecode(text) for text in call.texts()) if "rename" in call.name else call.descriptor()


def _tree(directory: Path) -> dict[str, bytes]:
    found = {f"{directory}/": b""}
    for path in sorted(directory.rglob("*")):
        if path.is_dir():
            found[f"{path}/"] = b""
        elif path.is_file():
            found[str(path)] = path.read_bytes()
    return found


def _entries(files: dict[str, bytes]) -> Iterator[tuple[str, str, bytes]]:
    """Path, Mailman's filebase and content of what a runner, or a person looking for a lost mail, takes for entries."""
    for path, content in files.items():
        if "+" in path and path.endswith((".pck", ".bak", ".psv")):
            yield path, mailman_filebase(path.rpartition("/")[2][:-4]), content


def _original(filebase: str, content: bytes) -> Original:
    with tempfile.TemporaryDirectory(prefix="power-", dir=_memory()) as directory:
        copy = Path(directory, f"{filebase}.pck")
        copy.write_bytes(content)
        try:
            entry = read_entry(copy)
        except EntryError:
            return Original(content)
    summary = summarise(entry)
    keys = frozenset(map(recipient_key, entry.recipients))
    return Original(content, summary.fingerprint.identity, summary.list_id, summary.message_id, keys)
