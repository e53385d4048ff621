"""Mailman on this host: its runners, its queues, and whether its outgoing runner works beside us.

Out   Mailman, a part of the snapshot
Pure  values only; mailman_processes.py looks at the processes
"""

from __future__ import annotations

from drainer.text.clean_model import CleanModel


class QueueCount(CleanModel):
    name: str
    entries: int
    oldest_age_s: float | None = None


class SkippedFiles(CleanModel):
    """Files of one directory that are no queue entries; drainer leaves them there. name, reason: of one of them."""

    directory: str
    files: int
    name: str
    reason: str


class Runner(CleanModel):
    name: str
    pid: int


HOW_TO_STOP_RUNNER = {
    "mailman3": "Stop it: [runner.out] start: no in mailman.cfg, then stop and start Mailman",
    "mailman2": "Stop it: QRUNNERS without OutgoingRunner in mm_cfg.py, then mailmanctl stop and start",
}
"""In one line; beside_runner.py has the full text."""

_DELIVERING = frozenset({"out", "OutgoingRunner", "All"})
"""Names of the runners that deliver, in Mailman 3 and 2.1."""


class Mailman(CleanModel):
    """Mailman on this host. A runner that a setting wants (`runner_wanted_by`) does not compete.

    released_entries         handed over: in out/ for Mailman's runner to deliver (feed.via, mailman.release_lists)
    retrying_recipients      recipients of handed-over entries that Mailman itself tries again
    missing_runners          runners that a started Mailman has and this one has not; none while its master does not run
    runner_wanted_by         the setting that allows an outgoing runner beside us
    taken_by_runner_entries  entries that the runner was seen to take from out/ since we started; it may have taken more
    """

    flavour: str = ""
    queue_dir: str = ""
    runners: list[Runner] = []
    queues: list[QueueCount] = []
    outgoing_runner_competes: bool = False
    released_entries: int = 0
    retrying_recipients: int = 0
    master_running: bool = False
    missing_runners: list[str] = []
    runner_wanted_by: str = ""
    taken_by_runner_entries: int = 0
    skipped: list[SkippedFiles] = []

    @property
    def competition(self) -> str:
        """Which runner of Mailman works beside us, and how to stop it; "" for none."""
        if not self.outgoing_runner_competes:
            return ""
        found = [f"{one.name} (pid {one.pid})" for one in self.runners if one.name in _DELIVERING]
        taken = self.taken_by_runner_entries
        seen = f"; it was seen to take {taken:,} {'entry' if taken == 1 else 'entries'}" if taken else ""
        return (
            f"{', '.join(found) or 'its outgoing runner'} takes entries from the same queue, past our rate limit and our "
            f"check for duplicates: recipients may get second copies{seen}. {HOW_TO_STOP_RUNNER.get(self.flavour, '')}"
        ).rstrip()

    @property
    def intruder(self) -> str:
        """`competition`, unless a setting wants the runner."""
        return "" if self.runner_wanted_by else self.competition
