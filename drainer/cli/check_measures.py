"""What `drainer check` measures: queues, filesystems, Mailman's processes; and the service, if it answers.

In    the queue directory and the settings
Out   Measures; a measure that this user may not take has the reason in place of a value
Not here  how much is too much (report/check.py)
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drainer.errors import DrainerError, ServiceNotRunning
from drainer.files.regular_file import read_regular
from drainer.guards.disk import free_space
from drainer.guards.mailman_processes import mailman_processes
from drainer.queuedir.scan import CUSTODY_DIRECTORY, QueueCounts, queue_counts
from drainer.report.check import Measure, QueueSeen, seen_now
from drainer.report.words import held_back, held_back_text, state_in_a_sentence, status_line
from drainer.settings import Settings
from drainer.text.wording import count, duration, shown, size

if TYPE_CHECKING:
    from drainer.guards.verdict import Guard
    from drainer.report.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Service:
    """What the service says.

    snapshot               None: it does not run, or `silent` says why there is no answer
    leaves_out_to_mailman  its settings need Mailman's outgoing runner beside it
    is_hidden              it may be running, but this user may not ask it
    """

    snapshot: Snapshot | None = None
    leaves_out_to_mailman: bool = False
    silent: str = ""
    is_hidden: bool = False


def measured(
    queue_dir: Path, settings: Settings, state_file: Path | None, within_s: float
) -> tuple[list[Measure], str]:
    """Every measure, and the state in one line."""
    now_s = time.time()
    service = _service(settings, queue_dir, within_s)
    queues, measures = _queues(queue_dir, now_s)
    measures += _custody(queue_dir, service, now_s)
    measures += _runners(queue_dir, settings, service)
    measures += _filesystem("queue", queue_dir)
    if os.path.isdir(settings.ledger.path.parent):  # noqa: PTH112 - False, not an error, where this user may not look
        measures += _filesystem("ledger", settings.ledger.path.parent)
    if settings.ledger.state_dir is not None and os.path.isdir(settings.ledger.state_dir):  # noqa: PTH112 - likewise
        measures += _filesystem("state", settings.ledger.state_dir)
    out = next((queue for queue in queues if queue.name == "out"), None)
    if state_file is not None and out is not None:
        measures.append(_standstill(out, state_file, queue_dir, now_s))
    headline = "out " + _counted(out, now_s) if out else "no queue out"
    if service.snapshot is not None:
        measures += _drain(service.snapshot)
        headline = f"drainer {status_line(service.snapshot)}; {headline}"
    return measures, headline


def _queues(queue_dir: Path, now_s: float) -> tuple[list[QueueCounts], list[Measure]]:
    """Mailman's own queues. Raises DrainerError if there is no queue directory."""
    try:
        found, unread = _listed(queue_dir)
    except PermissionError as exc:
        why = f"{queue_dir}: {exc.strerror}; run the check as Mailman's user (sudo -u list) or one of its group"
        return [], [Measure("out.entries", None, why)]
    except OSError as exc:
        raise DrainerError(f"{queue_dir}: {exc.strerror}; name Mailman's queue directory with --queue-dir") from exc
    measures = []
    for queue in found:
        said = f"{queue.name} {_counted(queue, now_s)}"
        measures.append(Measure(f"{queue.name}.entries", queue.entries, said))
        age_s = _age_s(queue, now_s)
        oldest = f"{queue.name} is empty" if queue.oldest_s is None else f"{queue.name} oldest {duration(age_s)}"
        measures.append(Measure(f"{queue.name}.age", age_s, oldest))
    measures += [Measure(f"{name}.entries", None, f"{queue_dir / name} cannot be listed") for name in unread]
    if "out" not in {*unread, *(queue.name for queue in found)}:
        measures.append(Measure("out.entries", None, f"{queue_dir} holds no out/: is it Mailman's queue directory?"))
    return found, measures


def _listed(directory: Path) -> tuple[list[QueueCounts], list[str]]:
    """The queues of a directory, and the names of those this user may not list. Raises OSError if it cannot be listed."""
    found = queue_counts(directory)
    names = {entry.name for entry in os.scandir(directory) if entry.is_dir() and not entry.name.startswith(".")}
    return found, sorted(names - {queue.name for queue in found} - {CUSTODY_DIRECTORY})


def _age_s(queue: QueueCounts, now_s: float) -> float:
    """Of its oldest entry; 0 if there is none."""
    return 0.0 if queue.oldest_s is None else max(0.0, now_s - queue.oldest_s)


def _counted(queue: QueueCounts, now_s: float) -> str:
    oldest = "" if queue.oldest_s is None else f", oldest {duration(now_s - queue.oldest_s)}"
    return f"{count(queue.entries, 'entry', 'entries')}{oldest}"


def _custody(queue_dir: Path, service: Service, now_s: float) -> Iterator[Measure]:
    """What drainer holds: as the service says, else as its directories show."""
    snapshot = service.snapshot
    if snapshot is not None:
        backlog = snapshot.backlog
        yield Measure("backlog.entries", backlog.entries, f"backlog {count(backlog.entries, 'entry', 'entries')}")
        yield Measure(
            "backlog.age", backlog.oldest_age_s or 0.0, f"backlog oldest {duration(backlog.oldest_age_s or 0.0)}"
        )
        yield Measure("backlog.orphaned", 0, "drainer runs")
        yield _held(backlog.held_entries)
        return
    custody, tells = queue_dir / CUSTODY_DIRECTORY, service.silent or "drainer does not run"
    try:
        found, unread = _listed(custody)
    except FileNotFoundError:
        found, unread = [], []
    except OSError as exc:
        found, unread = [], [exc.strerror or str(exc)]
    if unread:
        for name in ("backlog.entries", "backlog.orphaned", "held.entries"):
            yield Measure(name, None, f"{custody} cannot be listed ({', '.join(unread)}), and {tells}")
    else:
        held = {queue.name: queue for queue in found}
        waiting = held.get("backlog", QueueCounts("backlog", 0, None))
        age_s = _age_s(waiting, now_s)
        yield Measure("backlog.entries", waiting.entries, f"backlog {_counted(waiting, now_s)}")
        yield Measure("backlog.age", age_s, f"backlog oldest {duration(age_s)}")
        yield _held(held["held"].entries if "held" in held else 0)
        yield _orphaned(waiting.entries, service)
    if service.silent:
        yield Measure("service.silent", None if service.is_hidden else 1, service.silent)


def _orphaned(entries: int, service: Service) -> Measure:
    if not entries:
        return Measure("backlog.orphaned", 0, "nothing waits in drainer's backlog")
    if service.is_hidden:
        return Measure("backlog.orphaned", None, f"whether drainer delivers its backlog: {service.silent}")
    waits = count(entries, "entry waits", "entries wait")
    if service.silent:
        # It may hang or only be slow. A monitor asks again before it calls a person.
        return Measure("backlog.orphaned", entries, f"drainer does not answer and {waits} in its backlog")
    return Measure("backlog.orphaned", entries, f"drainer is not running and {waits} in its backlog")


def _held(entries: int) -> Measure:
    return Measure("held.entries", entries, f"{count(entries, 'entry', 'entries')} held for a person")


def _drain(snapshot: Snapshot) -> Iterator[Measure]:
    backlog, eta = snapshot.backlog, snapshot.eta
    reason = f"drainer {state_in_a_sentence(snapshot.state)}" + (f": {snapshot.reason}" if snapshot.reason else "")
    stopped = snapshot.state == "stopped_by_guard" or (snapshot.state == "mta_down" and backlog.entries > 0)
    held = held_back(snapshot.domains)
    stalled = eta.state == "stalled" and not held
    said = "drainer delivers nothing (stalled)" if stalled and not stopped else reason
    yield Measure("drain.stopped", stopped or stalled, said)
    paused = snapshot.state == "paused" and backlog.entries > 0
    of_domains = f"drainer has {held_back_text(held)}" if held else reason
    yield Measure("drain.paused", paused or bool(held), reason if paused else of_domains)
    slowing = [guard for guard in snapshot.guards if guard.verdict == "slow" and not _is_on_its_way(guard)]
    names = ", ".join(f"{guard.name} ({guard.reason})" for guard in slowing)
    slowed = f"drainer is slowed by {names}" if slowing else "no guard slows drainer"
    yield Measure("drain.slowed", len(slowing) if backlog.entries else 0, slowed)
    yield Measure("drain.growing", eta.state == "growing", f"forecast {eta.state}")
    doubtful = backlog.in_doubt_recipients
    yield Measure("doubt.recipients", doubtful, f"{count(doubtful, 'recipient')} in doubt")
    if eta.seconds is not None:
        yield Measure("drain.eta", eta.seconds, f"about {duration(eta.seconds)} left")


def _is_on_its_way(guard: Guard) -> bool:
    """Whether it says slow in every drain, as the MTA's queue does between its marks."""
    return guard.name == "mta_queue" and guard.value is not None


def _runners(queue_dir: Path, settings: Settings, service: Service) -> Iterator[Measure]:
    found = mailman_processes(queue_dir, settings.mailman.config)
    master_lives, missing, out_lives = found.master_lives, found.missing, found.runner_lives("out")
    if not found.processes and _others_are_hidden():
        if service.snapshot is None:
            for name in ("mailman.stopped", "runners.missing", "outgoing.missing"):
                yield Measure(name, None, "this user may not see other users' processes (hidepid)")
            return
        mailman = service.snapshot.mailman
        master_lives, missing = mailman.master_running, tuple(mailman.missing_runners)
        out_lives = mailman.outgoing_runner_competes
    yield Measure("mailman.stopped", not master_lives, f"Mailman's master {'runs' if master_lives else 'does not run'}")
    missing = tuple(name for name in missing if name not in ("out", "OutgoingRunner"))
    named = (
        f"Mailman's runners missing: {', '.join(missing)}" if missing else "no runner is missing of a Mailman that runs"
    )
    yield Measure("runners.missing", len(missing), named)
    yield from _outgoing(out_lives, service)


def _outgoing(lives: bool, service: Service) -> Iterator[Measure]:
    """Whether out/ is delivered, and whether by two at once. lives: Mailman's outgoing runner."""
    drains = service.snapshot is not None and not service.leaves_out_to_mailman
    if service.silent and not lives:
        yield Measure("outgoing.missing", None, f"Mailman's outgoing runner does not run; drainer: {service.silent}")
    else:
        missing = not lives and not drains
        yield Measure(
            "outgoing.missing", missing, "no outgoing runner: out/ is not delivered" if missing else "out/ is delivered"
        )
    said = "Mailman's outgoing runner works beside drainer, past its rate limit and its check for duplicates"
    yield Measure("runners.competing", lives and drains, said if lives and drains else "no competing runner")


def _others_are_hidden() -> bool:
    try:
        Path("/proc/1/cmdline").read_bytes()
    except OSError:
        return True
    return False


def _filesystem(name: str, path: Path) -> Iterator[Measure]:
    try:
        free = free_space(path)
    except OSError as exc:
        yield Measure(f"{name}.bytes", None, f"filesystem of {path}: {exc.strerror}")
        return
    share = 100 * free.bytes / free.of_bytes if free.of_bytes else 100.0
    yield Measure(f"{name}.bytes", share, f"{share:.1f} % of bytes free for the {name} ({size(free.bytes)})")
    if free.inodes is not None:
        share = 100 * free.inodes / free.of_inodes
        yield Measure(f"{name}.inodes", share, f"{share:.1f} % of inodes free for the {name} ({count(free.inodes)})")


_MOST_STATE_BYTES = 2**20


def _standstill(out: QueueCounts, state_file: Path, queue_dir: Path, now_s: float) -> Measure:
    """For how long nothing has left out/, as far as this file remembers."""
    known: dict[str, Any] = {}
    try:
        known = json.loads(read_regular(state_file, _MOST_STATE_BYTES))
        before = QueueSeen(**known[str(queue_dir)])
    except (OSError, ValueError, TypeError, KeyError):
        # The first check, another queue, or a file of another program: there is nothing to compare with.
        known, before = known if isinstance(known, dict) else {}, None
    seen = seen_now(out.entries, out.oldest_s, now_s, before)
    try:
        _replace(state_file, json.dumps({**known, str(queue_dir): asdict(seen)}))
    except OSError as exc:
        return Measure("out.standstill", None, f"{state_file} cannot be written: {exc.strerror}")
    stands_s = now_s - seen.since_s
    said = f"nothing has left out for {duration(stands_s)}" if stands_s else "out moves"
    return Measure("out.standstill", stands_s, said)


def _replace(file: Path, text: str) -> None:
    """Whole or not at all: two checks may run at once."""
    with tempfile.NamedTemporaryFile("w", dir=file.parent, prefix=f".{file.name}.", delete=False) as beside:
        try:
            beside.write(text)
            beside.flush()
            Path(beside.name).replace(file)
        except OSError:
            Path(beside.name).unlink()
            raise


def _service(settings: Settings, queue_dir: Path, within_s: float) -> Service:
    """Ask the service, if it may be asked and is the one of this queue."""
    socket = settings.control.socket
    try:
        socket.stat()
    except PermissionError:
        return Service(silent=f"{socket} is not for this user to see", is_hidden=True)
    except OSError:
        return Service()
    if not os.access(socket, os.W_OK):
        return Service(silent=f"{socket} is not for this user to ask; its group may", is_hidden=True)
    from drainer.control.client import ControlClient

    async def ask() -> tuple[Snapshot, dict[str, Any]]:
        async with ControlClient(socket, within_s) as client:
            return await client.status(), await client.config()

    try:
        snapshot, config = asyncio.run(ask())
    except ServiceNotRunning:
        return Service()
    except DrainerError as exc:
        # A question changes nothing, so it does not matter what the service still does with it.
        return Service(silent=shown(str(exc)).partition(";")[0])
    theirs = Path(snapshot.mailman.queue_dir)
    if theirs != queue_dir and not (theirs.exists() and theirs.samefile(queue_dir)):
        return Service()
    via, scope = config["feed"]["via"], config["custody"]["scope"]
    return Service(snapshot, leaves_out_to_mailman=via == "mailman" or scope == "backlog")
