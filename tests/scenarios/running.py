"""The real service and the real sink as processes, for scenarios from end to end.

`Drain` is one site: a queue directory, a settings file, a sink, and as many runs of the service as the story needs.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil

from tests.command_line import PROGRAM, Ran, run_forked, run_here
from tests.forked import Forked
from tests.runners_here import looked_for

READY_WITHIN_S = 60.0
DONE_WITHIN_S = 120.0


@dataclass(slots=True)
class SinkProcess:
    """`python -m drainer.demo.sink`, with its capture file and its mail log; forked, see tests/forked.py."""

    process: Forked
    port: int
    capture: Path
    log: Path

    def taken(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.capture.read_text().splitlines()]

    def deliveries(self) -> Counter[tuple[str, str]]:
        """(Message-ID, recipient) -> how often the sink took it."""
        return Counter((taken["message_id"], recipient) for taken in self.taken() for recipient in taken["recipients"])

    def kill_between_mails(self) -> None:
        stop_between_mails(self.process, self.capture, self.log)
        self.process.kill()


def stop_between_mails(sink: Forked | subprocess.Popen[str], capture: Path, log: Path) -> None:
    """SIGSTOP while its capture and its log name the same mails: it writes to one after the other, and a mail that is in one
    of them only when it is killed is one that nobody can know of."""
    while True:
        sink.send_signal(signal.SIGSTOP)
        while psutil.Process(sink.pid).status() != psutil.STATUS_STOPPED:
            time.sleep(0.001)
        if capture.read_bytes().count(b"\n") == log.read_bytes().count(b": removed\n"):
            return
        sink.send_signal(signal.SIGCONT)


@contextmanager
def running_sink(directory: Path, *options: str) -> Iterator[SinkProcess]:
    directory.mkdir(exist_ok=True)
    capture, log = directory / "capture.jsonl", directory / "mail.log"
    capture.touch()
    words = ["drainer.demo.sink", "--port", "0", "--capture", str(capture), "--log", str(log), *options]
    reading, writing = os.pipe()
    with os.fdopen(reading) as says:
        with os.fdopen(writing) as output, (directory / "errors.log").open("ab") as errors:
            process = Forked(words, output, errors, os.environ)
        port = int(says.readline().rpartition(":")[2])
        try:
            yield SinkProcess(process, port, capture, log)
        finally:
            process.terminate()
            process.wait(READY_WITHIN_S)


class Service:
    """One run of `drainer run`; NOTIFY_SOCKET, a real one, has said that it is ready.

    under     a command in front of it, that ends up as the service
    executed  it is started as an operator does, not forked from a process that has imported it: see tests/forked.py
    """

    def __init__(
        self, settings: Path, log: Path, *options: str, under: Sequence[str] = (), executed: bool = False
    ) -> None:
        self.settings = settings
        self.log = log
        with looked_for(), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            address = log.parent / f"notify-{os.getpid()}-{len(list(log.parent.glob('notify-*')))}"
            notify.bind(str(address))
            notify.settimeout(0.5)
            with log.open("ab") as output:
                self.process = started(
                    [*under, *PROGRAM, "run", "--config", str(settings), *options],
                    output,
                    {**os.environ, "NOTIFY_SOCKET": str(address)},
                    executed,
                )
            self.notified: list[str] = []
            deadline_s = time.monotonic() + READY_WITHIN_S
            while not any("READY=1" in said for said in self.notified):
                try:
                    self.notified.append(notify.recv(65536).decode())
                except TimeoutError:
                    if self.process.poll() is not None or time.monotonic() > deadline_s:
                        self.kill()
                        raise AssertionError(f"not ready; its log says:\n{self.log_text()}") from None

    def log_text(self) -> str:
        return self.log.read_text(errors="replace")

    def web_port(self) -> int:
        """As the log says: the setting was port 0. Its lines are some milliseconds late."""
        eventually(lambda: "event=web " in self.log_text(), self.log_text)
        (port,) = re.findall(r"event=web address=127\.0\.0\.1 port=([0-9]+)\n", self.log_text())
        return int(port)

    def wait(self) -> int:
        try:
            return self.process.wait(DONE_WITHIN_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running; its log ends:\n{self.log_text()[-4000:]}") from None

    def kill(self) -> None:
        """kill -9, as the kernel's out-of-memory killer or an impatient operator does."""
        self.process.kill()
        self.process.wait()

    def terminate(self) -> int:
        self.process.terminate()
        return self.wait()


def drainer(*arguments: str | Path) -> Ran:
    """One command of the command line: `run` in a process, forked as the service is, the others within this one."""
    return (run_forked if arguments[0] == "run" else run_here)(*arguments)


def status(settings: Path) -> dict[str, Any]:
    """What the running service says, as `drainer status --json` prints it: a poll that loads no settings."""
    control = tomllib.loads(settings.read_text())["control"]["socket"]
    found: dict[str, Any] = json.loads(answer(Path(control), "/status")[1])
    return found


def answer(control: Path, path: str) -> tuple[str, bytes]:
    """Head and body, asked on the socket as `curl --unix-socket` would: a poll that costs no process.

    Raises  OSError if nothing answers
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as service:
        service.settimeout(READY_WITHIN_S)
        service.connect(str(control))
        service.sendall(f"GET {path} HTTP/1.1\r\nHost: drainer\r\nConnection: close\r\n\r\n".encode())
        with service.makefile("rb") as said:
            head, _, body = said.read().partition(b"\r\n\r\n")
    if not head:
        raise ConnectionResetError(f"{control}: ended without an answer")
    assert head.startswith(b"HTTP/1.1 200 "), (head, body)
    return head.decode(), body


def started(
    command: Sequence[str], output: IO[bytes], environment: Mapping[str, str], executed: bool = False
) -> subprocess.Popen[bytes] | Forked:
    """A process; what runs one of our modules is forked, unless it has to be `executed`."""
    if tuple(command[:2]) == PROGRAM[:2] and not executed:
        return Forked(command[2:], output, output, environment)
    return subprocess.Popen(command, stdout=output, stderr=output, env=dict(environment))


@contextmanager
def running_service(
    settings: Path, log: Path, *options: str, under: Sequence[str] = (), executed: bool = False
) -> Iterator[Service]:
    service = Service(settings, log, *options, under=under, executed=executed)
    try:
        yield service
    finally:
        if service.process.poll() is None:
            service.kill()


def write_settings(path: Path, sections: dict[str, dict[str, Any]]) -> Path:
    """A settings file with these sections; JSON's scalars and arrays are TOML's too."""
    lines: list[str] = []
    for section, values in sections.items():
        lines.append(f"[{section}]")
        lines += [f"{key} = {_toml(value)}" for key, value in values.items()]
    path.write_text("\n".join(lines) + "\n")
    return path


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_toml(element)}" for key, element in value.items()) + " }"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(str(value) if isinstance(value, Path) else value)


def site_settings(home: Path, port: int, mailman: dict[str, Any], **sections: dict[str, Any]) -> Path:
    """Settings with everything of the service's own in `home`; `sections` come on top."""
    own: dict[str, dict[str, Any]] = {
        "mailman": mailman,
        "custody": {"poll": "100ms"},
        "mta": {"host": "127.0.0.1", "port": port},
        "feed": {"messages": "unlimited", "adaptive": False},
        "ledger": {"path": home / "ledger.sqlite"},
        "control": {"socket": home / "control.sock"},
    }
    for name, values in sections.items():
        own[name] = {**own.get(name, {}), **values}
    return write_settings(home / "drainer.toml", own)


def children_named(parent: int, words: str) -> list[psutil.Process]:
    """Children of a process whose command line has these words. One that ends meanwhile is none."""
    found = []
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(parent).children():
            with suppress(psutil.NoSuchProcess):  # a zombie too
                if words in " ".join(child.cmdline()):
                    found.append(child)
    return found


def eventually(
    condition: Callable[[], bool], otherwise: Callable[[], str] = lambda: "", within_s: float = 120.0
) -> None:
    """Wait until `condition` holds; fail with what `otherwise` says if it does not in time."""
    deadline_s = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline_s:
            raise AssertionError(f"it did not come about in {within_s:g} s\n{otherwise()[-6000:]}")
        time.sleep(0.05)
