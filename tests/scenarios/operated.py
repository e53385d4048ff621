"""A sample outage, a sink and the service between them, as an operator has them: through `drainer ...` alone."""

from __future__ import annotations

import json
import socket
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drainer.demo.sample_queue import Outage, write_outage
from drainer.ledger.records import JournalLine
from tests.command_line import run_process
from tests.scenarios.running import (
    Service,
    SinkProcess,
    answer,
    drainer,
    running_service,
    running_sink,
    site_settings,
)

SOON_S = 60.0


@dataclass(slots=True)
class Site:
    """One site; `run` starts the service on it, as often as the story needs."""

    home: Path
    outage: Outage
    sink: SinkProcess
    settings: Path

    @property
    def log(self) -> Path:
        return self.home / "drainer.log"

    @property
    def out(self) -> Path:
        return self.outage.queue_dir / "out"

    @property
    def custody(self) -> Path:
        return self.outage.queue_dir / "drainer"

    def run(self, *options: str) -> AbstractContextManager[Service]:
        return running_service(self.settings, self.log, *options)

    def drain(self) -> None:
        """To the end, with a run of its own."""
        with self.run("--until-empty") as service:
            assert service.wait() == 0, service.log_text()[-4000:]

    def says(self, *arguments: str | Path) -> str:
        """What a command that succeeds prints."""
        done = drainer(*arguments, "--config", self.settings)
        assert (done.returncode, done.stderr) == (0, ""), (arguments, done.stdout, done.stderr)
        return done.stdout

    def say_at_once(self, *commands: Sequence[str]) -> list[str]:
        """What several commands print that run at the same time, each as a process."""
        with ThreadPoolExecutor(len(commands)) as pool:
            ended = list(pool.map(lambda words: run_process(*words, "--config", self.settings), commands))
        assert [(done.returncode, done.stderr) for done in ended] == [(0, "")] * len(ended), ended
        return [done.stdout for done in ended]

    def refuses(self, exit_status: int, *arguments: str | Path) -> str:
        """What a command that fails says: text for a person, on standard error only."""
        done = drainer(*arguments, "--config", self.settings)
        assert (done.returncode, done.stdout) == (exit_status, ""), (arguments, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done.stderr.strip()

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.answer("/status")[1])
        return found

    def answer(self, path: str) -> tuple[str, bytes]:
        """Head and body of what the service says at this path of its socket."""
        return answer(self.home / "control.sock", path)

    def post(self, path: str, **body: object) -> tuple[int, dict[str, Any]]:
        """Status and JSON of what `curl --unix-socket` would have from a request that changes something."""
        octets = json.dumps(body).encode()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as service:
            service.settimeout(SOON_S)
            service.connect(str(self.home / "control.sock"))
            head = (
                f"POST {path} HTTP/1.1\r\nHost: drainer\r\nConnection: close\r\nContent-Length: {len(octets)}\r\n\r\n"
            )
            service.sendall(head.encode() + octets)
            with service.makefile("rb") as answer:
                said, _, answered = answer.read().partition(b"\r\n\r\n")
        found: dict[str, Any] = json.loads(answered)
        return int(said.split()[1]), found

    def does(self, path: str, **body: object) -> dict[str, Any]:
        """What a request that is carried out answers."""
        status, found = self.post(path, **body)
        assert status == 200, (path, body, found)
        return found

    def status_when(self, right: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first status of which `right` is true."""
        found: dict[str, Any] = {}

        def is_right() -> bool:
            found.update(self.status())
            return right(found)

        when(is_right, lambda: found)
        return found

    def paused_at_rest(self) -> dict[str, Any]:
        """The status once it is paused and what was under way then has come to its end."""

        def is_at_rest() -> bool:
            return not json.loads(self.says("entries", "--state", "active", "--json"))["total"]

        self.status_when(lambda said: said["state"] == "paused")
        when(is_at_rest, self.status)
        return self.status()

    def surveyed(self, entries: int = 0) -> dict[str, Any]:
        """The status once that many entries, or all that were written, have been taken and read."""
        entries = entries or self.outage.entries
        return self.status_when(
            lambda said: (
                said["state"] not in ("starting", "scanning")
                and said["backlog"]["entries"] + said["backlog"]["held_entries"] >= entries
                and not said["backlog"]["unread_entries"]
            )
        )

    def journal(self) -> list[JournalLine]:
        """Everything operators decided, oldest first."""
        with sqlite3.connect(self.home / "ledger.sqlite") as ledger:
            lines = ledger.execute("SELECT at, by, action, detail FROM journal ORDER BY id").fetchall()
        ledger.close()
        return [JournalLine(at, _text(by), _text(action), _text(detail)) for at, by, action, detail in lines]

    def owed(self, *, but_list: str = "", resends_too: bool = False) -> Counter[tuple[str, str]]:
        """(Message-ID, recipient) of every copy owed, each once.

        resends_too  with duplicates.resend = "deliver"
        """
        owed = {key: set(recipients) for key, recipients in self.outage.owed.items()}
        if resends_too:
            owed |= {held: owed[original] for held, original in self.resent().items()}
        return Counter(
            (message_id, recipient)
            for (list_name, message_id), recipients in owed.items()
            if list_name != but_list
            for recipient in recipients
        )

    def resent(self) -> dict[tuple[str, str], tuple[str, str]]:
        """(list, Message-ID) of each mail a person sent again -> of its original, which has the same recipients."""
        found = {}
        for list_name, message_id in self.outage.held:
            serial = message_id.partition(".")[2].partition("@")[0]
            (original,) = (key for key in self.outage.owed if key[0] == list_name and key[1].startswith(f"<{serial}."))
            found[list_name, message_id] = original
        return found


def when(right: Callable[[], bool], otherwise: Callable[[], object]) -> None:
    """Return once it is right."""
    deadline = time.monotonic() + SOON_S
    while not right():
        assert time.monotonic() < deadline, otherwise()
        time.sleep(0.05)


@contextmanager
def site(
    home: Path, mails: int = 20, *sink_options: str, members_each: int = 12, **sections: dict[str, Any]
) -> Iterator[Site]:
    """A site with a sample outage of that many original mails; sections go into its settings."""
    home.mkdir(exist_ok=True)
    outage = write_outage(home, mails, members_each)
    with running_sink(home / "sink", *sink_options) as sink:
        mailman = {"flavour": "mailman2", "queue_dir": outage.queue_dir, "lists_dir": outage.lists_dir}
        yield Site(home, outage, sink, site_settings(home, sink.port, mailman, **sections))


def _text(stored: object) -> str:
    return stored.decode() if isinstance(stored, bytes) else str(stored)
