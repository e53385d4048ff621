"""A sample outage with the truth about it, for stories in which something breaks.

`Outbreak` is one site: the queue, a settings file, the service's log as fields, its status through the real control
socket, and the comparison of what was owed with what a sink wrote down.
"""

from __future__ import annotations

import json
import re
import smtplib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drainer.demo.sample_queue import Outage, write_outage
from drainer.report.snapshot import Snapshot
from tests.scenarios.running import Service, answer, running_service, site_settings

WITHIN_S = 180.0
"""Deadline of every condition waited for: far more than any needs, so that a slow machine fails nothing."""

Given = tuple[str, str, str]
"""List, Message-ID, recipient."""

_FIELD = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|\S*)')


@dataclass(slots=True)
class Outbreak:
    """One site, and as many runs of the service as the story needs."""

    home: Path
    outage: Outage
    settings: Path

    @property
    def log(self) -> Path:
        return self.home / "drainer.log"

    def run(self, *options: str, under: Sequence[str] = (), executed: bool = False) -> AbstractContextManager[Service]:
        return running_service(self.settings, self.log, *options, under=under, executed=executed)

    def drain(self) -> None:
        """A run to the end."""
        with self.run("--until-empty") as service:
            assert service.wait() == 0, service.log_text()[-4000:]

    def owed(self) -> Counter[Given]:
        return Counter(
            (list_name, message_id, recipient)
            for (list_name, message_id), recipients in self.outage.owed.items()
            for recipient in recipients
        )

    def files(self, *directories: str) -> list[Path]:
        """Files of entries in these directories of the queue ("out", "drainer/backlog", ...)."""
        queue_dir = self.outage.queue_dir
        return sorted(path for name in directories for path in (queue_dir / name).glob("*+*"))

    def status(self) -> Snapshot | None:
        """The service's own word; None while it does not listen."""
        try:
            _, said = answer(self.home / "control.sock", "/status")
        except (FileNotFoundError, ConnectionError):
            return None
        return Snapshot.model_validate_json(said)

    def status_when(self, what: str, true_of: Callable[[Snapshot], bool]) -> Snapshot:
        """The first status this is true of."""
        deadline_s = time.monotonic() + WITHIN_S
        while True:
            snapshot = self.status()
            if snapshot is not None and true_of(snapshot):
                return snapshot
            assert time.monotonic() < deadline_s, f"not within {WITHIN_S} s: {what}\n{snapshot}\n{self._end_of_log()}"
            time.sleep(0.05)

    def lines(self) -> list[dict[str, str]]:
        """Every log line's fields, of all runs."""
        return [
            {name: _plain(value) for name, value in _FIELD.findall(line)} for line in self.log.read_text().splitlines()
        ]

    def outcomes(self, outcome: str) -> list[dict[str, str]]:
        return [fields for fields in self.lines() if fields.get("outcome") == outcome]

    def in_doubt(self) -> set[tuple[str, str]]:
        """(Message-ID, recipient) of every copy that a run reported as in doubt."""
        return {
            (fields["message_id"], recipient)
            for fields in self.outcomes("in_doubt")
            for recipient in (fields.get("recipients") or fields["recipient"]).split(",")
        }

    def until(self, what: str, is_so: Callable[[], object]) -> None:
        """Wait for it."""
        deadline_s = time.monotonic() + WITHIN_S
        while not is_so():
            assert time.monotonic() < deadline_s, f"not within {WITHIN_S} s: {what}\n{self._end_of_log()}"
            time.sleep(0.03)

    def _end_of_log(self) -> str:
        return self.log.read_text()[-4000:] if self.log.exists() else ""


def outbreak(home: Path, port: int, mails: int, members_each: int = 12, **sections: dict[str, Any]) -> Outbreak:
    """A site with `mails` original mails, their resubmissions, and settings that send to `port`."""
    home.mkdir(exist_ok=True)
    outage = write_outage(home, mails, members_each, start_s=time.time() - 100_000)
    mailman = {"flavour": "mailman2", "queue_dir": outage.queue_dir, "lists_dir": outage.lists_dir}
    return Outbreak(home, outage, site_settings(home, port, mailman, **sections))


def given(capture: Path) -> Counter[Given]:
    """How often the sink got each mail; DSNs, which have no reverse-path, are left out."""
    counted: Counter[Given] = Counter()
    for line in capture.read_text().splitlines():
        taken = json.loads(line)
        if not taken["reverse_path"]:
            continue
        list_name = taken["reverse_path"].rpartition("-bounces@")[0]
        counted.update((list_name, taken["message_id"], recipient) for recipient in taken["recipients"])
    return counted


def once(story: str, owed: Counter[Given], found: Counter[Given]) -> None:
    """No recipient missing, none twice, and none that was not owed the mail."""
    assert (owed - found, found - owed) == (Counter(), Counter()), f"{story}: (missing, too many)"


def every_session_read(port: int) -> None:
    """Return once the sink has seen to the end all that reached it before: its event loop reads what is ready in turn."""
    for _ in range(2):
        with smtplib.SMTP("127.0.0.1", port) as client:
            client.noop()


def _plain(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
