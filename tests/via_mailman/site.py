"""A queue directory of Mailman's, and one run of the handover on it."""

from __future__ import annotations

import pickle
from pathlib import Path

from drainer.backlog.index import BacklogIndex
from drainer.backlog.signals import Signals
from drainer.backlog.states import EntryState
from drainer.clock import SystemClock
from drainer.duplicates.summary import summarise
from drainer.feed.lane_queue import LaneQueue
from drainer.feed.rate_in_force import RateInForce
from drainer.feed.throttle import Throttle
from drainer.ledger.records import MessageRecord, recipient_key
from drainer.ledger.states import State
from drainer.queuedir.custody import Custody
from drainer.queuedir.filebase import QueueFile, Suffix
from drainer.queuedir.read import read_entry
from drainer.settings import Settings
from drainer.settings.feed import FeedSettings
from drainer.settings.mailman import CustodySettings, MailmanSettings
from drainer.via_mailman.follow import Follow
from drainer.via_mailman.handover import Handover
from drainer.via_mailman.open_handovers import OpenHandovers
from drainer.via_mailman.queues import QueueListing, SmtpLogFile
from tests.ledger.memory import MemoryLedger
from tests.scenarios.running import eventually

ANN, BOB, EVE = "ann@example.org", "bob@example.org", "eve@example.net"
NAME = "1700000000.5+" + "a" * 40
OTHER = "1700000001.5+" + "b" * 40
LIST = "choir.example.org"
CLOCK = SystemClock()


def entry_file(*recipients: str, subject: str = "one", handled: bool = False, text: str = "The text.") -> bytes:
    """As Mailman 3 writes a plain-text entry. `handled`: by its outgoing runner."""
    mail = f"From: poster@example.org\nSubject: {subject}\nMessage-ID: <{subject}@example.org>\nDate: today\n\n{text}\n"
    return pickle.dumps(mail, 0) + pickle.dumps(
        {"listid": LIST, "recipients": set(recipients), "_parsemsg": True, "version": 3}
        | ({"verp": False} if handled else {}),
        0,
    )


class Site:
    """A queue directory, and one run of the handover on it; `restarted` gives the next."""

    def __init__(self, queue_dir: Path, ledger: MemoryLedger, booted_s: float = 0.0) -> None:
        for queue in ("out", "retry", "shunt", "bad"):
            (queue_dir / queue).mkdir(parents=True, exist_ok=True)
        self.queue_dir = queue_dir
        self.ledger = ledger
        self.smtp_log = queue_dir.parent / "smtp.log"
        self.settings = Settings(
            mailman=MailmanSettings(queue_dir=queue_dir, smtp_log=self.smtp_log),
            custody=CustodySettings(poll=0.01, bak_age=0.0),
            feed=FeedSettings(via="mailman", window=1, messages=None),
        )
        self.custody = Custody(queue_dir, clock=CLOCK)
        self.custody.prepare()
        self.index = BacklogIndex(Path(":memory:"))
        throttle = Throttle(None, None)
        rate = RateInForce(self.settings.feed, throttle, CLOCK)
        self.runner_lives = False
        self.log_file = SmtpLogFile(self.smtp_log)
        window = LaneQueue(self.settings.feed.window, throttle.lanes)
        self.at_mailman = OpenHandovers(ledger, CLOCK, queue_dir, self.log_file.log, window)
        self.handover = Handover(CLOCK, self.custody, ledger, throttle, self.at_mailman)
        self.follow = Follow(
            self.settings, CLOCK, self.custody, ledger, self.index, rate, Signals(), self.at_mailman, self.log_file,
            lambda: self.runner_lives, lambda: booted_s,
        )  # fmt: skip

    def restarted(self, booted_s: float = 0.0) -> Site:
        self.close()
        return Site(self.queue_dir, self.ledger, booted_s)

    def close(self) -> None:
        self.custody.close()
        self.index.close()

    async def handed_over(self, *owed: str, name: str = NAME, is_fresh: bool = False) -> MessageRecord:
        """An entry to all three, handed over for some of them."""
        path = self.custody.backlog / (name + ".pck")
        path.write_bytes(entry_file(ANN, BOB, EVE))
        self.index.add_listed([(QueueFile(1700000000.5, name, Suffix.WAITING), path.stat().st_size)])
        self.index.set_state(name, EntryState.ACTIVE)
        entry = read_entry(path)
        summary = summarise(entry)
        record = MessageRecord(summary.fingerprint.identity, LIST, summary.message_id)
        assert await self.handover.hand_over(entry, record, owed, is_fresh=is_fresh) == ""
        return record

    def out(self, suffix: str = ".pck", name: str = NAME) -> Path:
        return self.queue_dir / "out" / (name + suffix)

    async def followed(self, record: MessageRecord) -> dict[State, set[str]]:
        """One look at the queues, once they are quiet, and what the ledger says then."""
        looks: list[QueueListing] = []

        def looked() -> bool:
            look = self.follow._queues.look(self.at_mailman.since_s, self.at_mailman.names)
            if look is not None:
                looks.append(look)
            return look is not None

        eventually(looked)
        self.log_file.read()
        for handover in self.at_mailman.all:
            await self.follow._see_to(handover, looks[0])
        return await self.states(record)

    async def states(self, record: MessageRecord) -> dict[State, set[str]]:
        named = {recipient_key(address): address for address in (ANN, BOB, EVE)}
        found: dict[State, set[str]] = {}
        for part in (await self.ledger.history(record.identity)).coverage:
            found.setdefault(part.state, set()).update(named[key] for key in part.recipients)
        return found
