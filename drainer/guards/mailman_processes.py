"""Mailman's own processes: which of them live, and whether one delivers from the queue we drain.

In    the machine's processes (psutil), queue_dir, and Mailman's configuration file if it is known
Out   MailmanProcesses: those of this site, and those whose site is unknown

The site of a process:
  3    its `-C FILE`, which Mailman's master always gives to its runners. If our file is known, the two are compared;
       otherwise the queue_dir that FILE configures
  2.1  has no such argument: the directory of its program and its open files show the site
A process whose site is unknown counts as ours. Then a `.bak` is left alone, which is always safe.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from pathlib import Path
from string import Template
from typing import Literal

import psutil

from drainer.files.regular_file import read_regular
from drainer.guards.mailman import Runner
from drainer.guards.verdict import Guard

_QUEUE_OF_RUNNER2 = {
    "ArchRunner": "archive", "BounceRunner": "bounces", "CommandRunner": "commands", "IncomingRunner": "in",
    "NewsRunner": "news", "OutgoingRunner": "out", "RetryRunner": "retry", "VirginRunner": "virgin",
}  # fmt: skip
_RUNNERS3 = frozenset(
    {"archive", "bounces", "command", "digest", "in", "lmtp", "out", "pipeline", "rest", "retry", "task", "virgin"}
)
_EVERY_QUEUE = "All"
_Role = Literal["runner", "master"]
_Flavour = Literal["mailman2", "mailman3"]
_PROGRAMS: dict[str, tuple[_Role, _Flavour]] = {
    "runner": ("runner", "mailman3"), "master": ("master", "mailman3"),
    "qrunner": ("runner", "mailman2"), "mailmanctl": ("master", "mailman2"),
}  # fmt: skip
_PROGRAM_NAMES = tuple(name.encode() for name in _PROGRAMS)
_MOST_COMMAND_BYTES = 2**17
"""No single argument is longer on Linux (execve(2), MAX_ARG_STRLEN)."""


@dataclass(frozen=True, slots=True)
class MailmanProcess:
    """A runner, or the master that starts runners again when they die.

    name     Mailman's name of the runner ("out", "OutgoingRunner"); of a master, the name of its program
    queue    the queue it works, "All" for the one runner of 2.1 that works every queue, "" for a master
    is_ours  True: its site is known to be ours; False: its site is unknown
    """

    pid: int
    role: _Role
    flavour: _Flavour
    name: str
    queue: str
    config: str
    program: str
    is_ours: bool = False


@dataclass(frozen=True, slots=True)
class MailmanProcesses:
    """Mailman's processes of our site, and those whose site is unknown."""

    processes: tuple[MailmanProcess, ...]

    @property
    def master_lives(self) -> bool:
        return any(process.role == "master" for process in self.processes)

    def delivering(self, flavour: str) -> list[Runner]:
        """Outgoing runners that take entries from a queue of this flavour.

        A runner of the other flavour counts only if its site is known to be ours: two Mailmans on one host are common, two
        on one queue are not.
        """
        return [
            Runner(name=process.name, pid=process.pid)
            for process in self.processes
            if process.role == "runner"
            and process.queue in ("out", _EVERY_QUEUE)
            and (process.is_ours or process.flavour == flavour)
        ]

    @property
    def runners(self) -> list[Runner]:
        return [Runner(name=process.name, pid=process.pid) for process in self.processes if process.role == "runner"]

    @property
    def missing(self) -> tuple[str, ...]:
        """Runners that a started Mailman has and this one has not; empty while no master lives."""
        found: set[str] = set()
        for flavour in sorted({process.flavour for process in self.processes if process.role == "master"}):
            names = {process.name for process in self.processes if process.flavour == flavour}
            if _EVERY_QUEUE not in names:
                found |= (_RUNNERS3 if flavour == "mailman3" else set(_QUEUE_OF_RUNNER2)) - names
        return tuple(sorted(found))

    def runner_lives(self, queue: str) -> bool:
        """Whether a runner works this queue, one whose site is unknown included."""
        return any(process.queue in (queue, _EVERY_QUEUE) for process in self.processes if process.role == "runner")

    @property
    def why_nothing_is_delivered(self) -> str:
        """Why entries handed over to Mailman stay in out/; "" while its outgoing runner lives."""
        if self.runner_lives("out"):
            return ""
        return "no outgoing runner of Mailman runs, and what was released waits for one: start Mailman"

    def guard(self, delivers_for_us: bool = False, competition: str = "") -> Guard:
        """The guard "mailman", which always says go.

        To stop would leave every later duplicate to the competing runner. Entries handed over while no runner lives only
        wait, and a runner that we may not see must not stop the drain.

        delivers_for_us  entries are handed over to Mailman, so its outgoing runner is wanted
        competition      which runner takes entries from our queue, and how to stop it; "" for none
        """
        if delivers_for_us:
            return Guard(name="mailman", verdict="go", reason=self.why_nothing_is_delivered, value=len(self.processes))
        missing = f"runners missing: {', '.join(self.missing)}" if self.missing else ""
        return Guard(name="mailman", verdict="go", reason=competition or missing, value=len(self.processes))


class _Site(Enum):
    OURS = auto()
    ANOTHER = auto()
    UNKNOWN = auto()


def mailman_processes(queue_dir: Path, config: Path | None = None) -> MailmanProcesses:
    """Mailman's processes of this site, and those whose site is unknown. A process that ends meanwhile is left out.

    config  Mailman 3's mailman.cfg, if known
    """
    found = []
    for pid in _pids_of_python():
        try:
            process = psutil.Process(pid)
            seen = parse_command(pid, process.cmdline())
            if seen and (site := _site_of(seen, process, queue_dir, config)) is not _Site.ANOTHER:
                found.append(replace(seen, is_ours=site is _Site.OURS))
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return MailmanProcesses(tuple(found))


def _pids_of_python() -> Iterator[int]:
    """Of processes whose command names python and a program of Mailman's, one system call or two for each process. psutil
    makes dozens, and an idle service looks every few seconds."""
    for pid in psutil.pids():
        try:
            descriptor = os.open(f"{psutil.PROCFS_PATH}/{pid}/cmdline", os.O_RDONLY | os.O_CLOEXEC)
            try:
                command = os.read(descriptor, _MOST_COMMAND_BYTES)
            finally:
                os.close(descriptor)
        except OSError:
            continue  # it has ended, or is hidden from us
        if b"python" in command and any(name in command for name in _PROGRAM_NAMES):
            yield pid


def parse_command(pid: int, command: Sequence[str]) -> MailmanProcess | None:
    """The process behind a command line; None if it is not Mailman's. (Postfix has a `master` too, but not in python.)

    Source  mailman/bin/master.py (python runner -C FILE --runner=NAME:SLICE:COUNT); 2.1 bin/mailmanctl
            (python qrunner --runner=CLASS:SLICE:COUNT -s)
    """
    if not command or "python" not in Path(command[0]).name:
        return None
    at = next((at for at, argument in enumerate(command) if at and not argument.startswith("-")), 0)
    program = command[at]
    if not at or Path(program).name not in _PROGRAMS:
        return None
    role, flavour = _PROGRAMS[Path(program).name]
    options = command[at + 1 :]
    config = _option(options, "-C", "--config") or ""
    if role == "master":
        return MailmanProcess(pid, role, flavour, Path(program).name, "", config, program)
    spec = _option(options, "-r", "--runner")
    if spec is None:
        return None
    name = spec.split(":")[0]
    queue = name if flavour == "mailman3" or name == _EVERY_QUEUE else _QUEUE_OF_RUNNER2.get(name, "")
    return MailmanProcess(pid, role, flavour, name, queue, config, program)


_MOST_CONFIG_BYTES = 2**20


def configured_queue_dir(config: Path) -> Path | None:
    """The queue_dir that a mailman.cfg configures; None if the file cannot be read or has none.

    Source  mailman/config/schema.cfg, [mailman] layout and [paths.*]; layouts of Mailman's own are in its mailman.cfg
    """
    parser = configparser.ConfigParser(
        strict=False, interpolation=None, allow_no_value=True, inline_comment_prefixes=("#",)
    )
    try:
        parser.read_string(read_regular(config, _MOST_CONFIG_BYTES).decode("utf-8", "replace"))
    except (OSError, configparser.Error):
        return None
    layout = parser.get("mailman", "layout", fallback="") or ""
    paths = dict(parser[f"paths.{layout}"]) if f"paths.{layout}" in parser else {}
    if layout == "fhs":
        paths = {"queue_dir": "/var/spool/mailman", **paths}
    values = {"cfg_file": str(config)}
    if var_dir := paths.get("var_dir"):
        values["var_dir"] = Template(var_dir).safe_substitute(values)
    queue_dir = Template(paths.get("queue_dir") or "$var_dir/queue").safe_substitute(values)
    if not queue_dir.startswith("/") or "$" in queue_dir:
        return None
    return Path(queue_dir)


def _site_of(seen: MailmanProcess, process: psutil.Process, queue_dir: Path, config: Path | None) -> _Site:
    if seen.config:
        theirs = Path(seen.config)
        if not theirs.is_absolute():
            theirs = Path(process.cwd()) / theirs
        if config is not None and _same(theirs, config):
            return _Site.OURS
        configured = configured_queue_dir(theirs)
        if configured is not None:
            return _Site.OURS if _same(configured, queue_dir) else _Site.ANOTHER
        if config is not None:
            return _Site.ANOTHER
    return _site_by_files(seen, process, queue_dir)


def _site_by_files(seen: MailmanProcess, process: psutil.Process, queue_dir: Path) -> _Site:
    """In 2.1 the queue is VAR_PREFIX/qfiles, the programs lie in VAR_PREFIX/bin as a rule, the logs in VAR_PREFIX/logs."""
    site = queue_dir.resolve().parent
    try:
        opened = [Path(file.path) for file in process.open_files()]
        program = Path(process.cwd()) / seen.program
    except psutil.AccessDenied:
        return _Site.UNKNOWN
    if program.is_relative_to(site) or any(path.resolve().is_relative_to(site) for path in (*opened, program)):
        return _Site.OURS
    # A runner keeps a file in VAR_PREFIX/logs open; the queue is VAR_PREFIX/qfiles unless mm_cfg.py moves it.
    others = (path.parent.with_name("qfiles") for path in opened if path.parent.name == "logs")
    is_anothers = any(queue.is_dir() and not _same(queue, queue_dir) for queue in others)
    return _Site.ANOTHER if is_anothers and _leaves_queues_in_place(program) else _Site.UNKNOWN


def _leaves_queues_in_place(program: Path) -> bool:
    """Whether the mm_cfg.py of this PREFIX/bin/qrunner can be read and moves no queue."""
    try:
        config = read_regular(program.parent.with_name("Mailman") / "mm_cfg.py", _MOST_CONFIG_BYTES)
    except OSError:
        return False
    return not any(name in config for name in (b"QUEUE_DIR", b"VAR_PREFIX"))


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return one == other


def _option(arguments: Iterable[str], short: str, long: str) -> str | None:
    """The value of an option given as `-Cx`, `-C x`, `--config=x` or `--config x`."""
    rest = iter(arguments)
    for argument in rest:
        if argument in (short, long):
            return next(rest, None)
        if argument.startswith(long + "="):
            return argument[len(long) + 1 :]
        if argument.startswith(short) and not argument.startswith("--"):
            return argument[len(short) :]
    return None
