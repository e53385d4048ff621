"""Mailman as it was found: its runners, its queues, and whether its outgoing runner works beside us.

Out   Mailman, a part of the snapshot
Pure  values only; looking is mailman_processes.py's
"""

from __future__ import annotations

from drainer.text.clean_model import CleanModel


class QueueCount(CleanModel):
    name: str
    entries: int
    oldest_age_s: float | None = None


class SkippedFiles(CleanModel):
    """Files of one directory that are no queue entries, and that drainer leaves where they are. name, reason: of one."""

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
"""In a line; guards/beside_runner.py has it whole."""

_DELIVERING = frozenset({"out", "OutgoingRunner", "All"})
"""Mailman's runners that deliver, as 3 and 2.1 name them."""


class Mailman(CleanModel):
    """Mailman on this host. A runner that is wanted (`runner_wanted_by`) does not compete.

    released_entries         in out/ for Mailman's runner to deliver (feed.via, mailman.release_lists)
    retrying_recipients      of released entries that Mailman itself tries again
    missing_runners          those a started Mailman would have and this one has not; none while its master does not run
    runner_wanted_by         the setting by which an outgoing runner may run beside us
    taken_by_runner_entries  those it was seen to take out of out/ since we started; it may have taken more
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
        """Which runner of Mailman's works beside us, and the way out; "" for none."""
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
        """`competition` that no setting asks for."""
        return "" if self.runner_wanted_by else self.competition
