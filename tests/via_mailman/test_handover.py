"""Entries handed over to Mailman's out/: what becomes of them, by the files Mailman leaves, and after each kind of crash."""

from __future__ import annotations

import os
import pickle
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

import pytest

from drainer.backlog.index import BacklogIndex
from drainer.backlog.signals import Signals
from drainer.backlog.states import EntryState
from drainer.clock import SystemClock
from drainer.duplicates.summary import summarise
from drainer.feed.rate_in_force import RateInForce
from drainer.feed.throttle import Throttle
from drainer.ledger.records import MessageRecord, recipient_key
from drainer.ledger.states import State
from drainer.mta_log.mailman_smtp_log import SmtpLog
from drainer.queuedir.custody import Custody
from drainer.queuedir.entry import Flavour
from drainer.queuedir.filebase import QueueFile, Suffix
from drainer.queuedir.read import read_entry
from drainer.settings import CustodySettings, FeedSettings, MailmanSettings, Settings
from drainer.via_mailman.follow import Follow
from drainer.via_mailman.handover import Handover
from drainer.via_mailman.open_handovers import OpenHandovers
from drainer.via_mailman.queues import MailmanQueues, QueueListing, SmtpLogFile
from drainer.via_mailman.whereabouts import HandoverMark, handover_mark, is_released_list
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
        self.at_mailman = OpenHandovers(ledger, CLOCK, queue_dir, self.log_file.log)
        self.handover = Handover(self.settings, CLOCK, self.custody, ledger, throttle, self.at_mailman)
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

    async def handed_over(self, *owed: str) -> MessageRecord:
        """An entry to all three, handed over for some of them."""
        path = self.custody.backlog / (NAME + ".pck")
        path.write_bytes(entry_file(ANN, BOB, EVE))
        self.index.add_listed([(QueueFile(1700000000.5, NAME, Suffix.WAITING), path.stat().st_size)])
        self.index.set_state(NAME, EntryState.ACTIVE)
        entry = read_entry(path)
        summary = summarise(entry)
        record = MessageRecord(summary.fingerprint.identity, LIST, summary.message_id)
        assert await self.handover.hand_over(entry, record, owed) == ""
        return record

    def out(self, suffix: str = ".pck") -> Path:
        return self.queue_dir / "out" / (NAME + suffix)

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


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    site = Site(tmp_path / "queue", MemoryLedger(CLOCK))
    yield site
    site.close()


async def test_entry_handed_over_is_in_out_for_those_owed_only_and_its_attempt_is_open(site: Site) -> None:
    record = await site.handed_over(ANN, BOB)
    assert set(read_entry(site.out()).recipients) == {ANN, BOB}
    assert await site.followed(record) == {State.ATTEMPTING: {ANN, BOB}}
    assert site.at_mailman.entries == 1
    assert not list(site.custody.backlog.iterdir())


async def test_entry_gone_from_out_was_delivered(site: Site) -> None:
    record = await site.handed_over(ANN, BOB, EVE)
    site.out().unlink()
    assert await site.followed(record) == {State.DELIVERED: {ANN, BOB, EVE}}
    assert site.at_mailman.entries == 0
    assert site.index.state_of(NAME) is None


async def test_refusals_for_good_are_told_by_mailmans_log_and_recorded_as_failed(site: Site) -> None:
    record = await site.handed_over(ANN, BOB)
    stamp = datetime.now().strftime("%b %d %H:%M:%S %Y")
    site.smtp_log.write_text(f"{stamp} (7) <one@example.org> delivery to {BOB} failed with code 550, b'no such user'\n")
    site.out().unlink()
    assert await site.followed(record) == {State.DELIVERED: {ANN}, State.FAILED: {BOB}}


async def test_bak_of_a_dead_runner_whose_delivery_is_in_mailmans_log_was_delivered(site: Site) -> None:
    record = await site.handed_over(ANN, BOB)
    stamp = datetime.now().strftime("%b %d %H:%M:%S %Y")
    site.smtp_log.write_text(
        f"{stamp} (7) <one@example.org> smtp to choir@example.org for 2 recips, completed in 0.1 seconds\n"
        f"{stamp} (7) <one@example.org> post to choir@example.org from ann@example.org, 90 bytes\n"
    )
    site.out().rename(site.out(".bak"))
    assert await site.followed(record) == {State.DELIVERED: {ANN, BOB}}


async def test_bak_of_a_dead_runner_is_in_doubt_for_whom_the_mta_refused_for_now(site: Site) -> None:
    """Mailman may have put them into retry/ before its runner died, or not."""
    record = await site.handed_over(ANN, BOB, EVE)
    stamp = datetime.now().strftime("%b %d %H:%M:%S %Y")
    site.smtp_log.write_text(
        f"{stamp} (7) <one@example.org> smtp to choir@example.org for 3 recips, completed in 0.1 seconds\n"
        f"{stamp} (7) <one@example.org> post to choir@example.org from ann@example.org, 90 bytes, 2 failures\n"
        f"{stamp} (7) <one@example.org> delivery to {BOB} failed with code 550, b'no such user'\n"
        f"{stamp} (7) <one@example.org> delivery to {EVE} failed with code 451, b'later'\n"
    )
    site.out().rename(site.out(".bak"))
    assert await site.followed(record) == {State.DELIVERED: {ANN}, State.FAILED: {BOB}, State.IN_DOUBT: {EVE}}


@pytest.mark.parametrize("end", ["", ", 2 failures"], ids=["no end", "failures nobody names"])
async def test_bak_of_a_dead_runner_whose_log_tells_no_end_is_in_doubt(site: Site, end: str) -> None:
    record = await site.handed_over(ANN, BOB)
    stamp = datetime.now().strftime("%b %d %H:%M:%S %Y")
    line = f"{stamp} (7) <one@example.org> smtp to choir@example.org for 2 recips, completed in 0.1 seconds\n"
    told = f"{stamp} (7) <one@example.org> post to choir@example.org from ann@example.org, 90 bytes{end}\n"
    site.smtp_log.write_text(line + (told if end else ""))
    site.out().rename(site.out(".bak"))
    assert await site.followed(record) == {State.IN_DOUBT: {ANN, BOB}}


async def test_whom_mailman_gave_up_on_is_failed_and_not_delivered(site: Site) -> None:
    """Its retry period was over: the entry is in no queue any more, and only the log says why."""
    record = await site.handed_over(ANN, BOB)
    stamp = datetime.now().strftime("%b %d %H:%M:%S %Y")
    site.smtp_log.write_text(
        f"{stamp} (7) <one@example.org> smtp to choir@example.org for 2 recips, completed in 0.1 seconds\n"
        f"{stamp} (7) <one@example.org> post to choir@example.org from ann@example.org, 90 bytes, 1 failures\n"
        f"{stamp} (7) <one@example.org> delivery to {BOB} failed with code 444, [Errno 111] Connection refused\n"
        f"{stamp} (7) Discarding message with persistent temporary failures: <one@example.org>\n"
    )
    site.out().unlink()
    assert await site.followed(record) == {State.DELIVERED: {ANN}, State.FAILED: {BOB}}


async def test_claimed_entry_is_left_to_a_living_runner(site: Site) -> None:
    record = await site.handed_over(ANN)
    site.out().rename(site.out(".bak"))
    site.runner_lives = True
    assert await site.followed(record) == {State.ATTEMPTING: {ANN}}
    assert site.out(".bak").exists()


async def test_bak_of_a_dead_runner_is_taken_back_in_doubt(site: Site) -> None:
    record = await site.handed_over(ANN)
    site.out().rename(site.out(".bak"))
    assert await site.followed(record) == {State.IN_DOUBT: {ANN}}
    assert (site.custody.backlog / (NAME + ".pck")).exists()


async def test_recipients_in_retry_stay_attempted_and_the_others_are_delivered(site: Site) -> None:
    record = await site.handed_over(ANN, BOB, EVE)
    (site.queue_dir / "retry" / (OTHER + ".pck")).write_bytes(entry_file(BOB, handled=True, text="Decorated."))
    site.out().unlink()
    expected = {State.DELIVERED: {ANN, EVE}, State.ATTEMPTING: {BOB}}
    assert await site.followed(record) == expected
    assert (site.at_mailman.entries, site.at_mailman.retrying_recipients) == (0, 1)
    restarted = site.restarted()
    await restarted.follow.recover()
    assert await restarted.followed(record) == expected
    (site.queue_dir / "retry" / (OTHER + ".pck")).unlink()
    assert await restarted.followed(record) == {State.DELIVERED: {ANN, BOB, EVE}}
    restarted.close()


async def test_entry_back_in_out_under_another_name_is_ours_again_under_its_own(site: Site) -> None:
    record = await site.handed_over(ANN, BOB)
    (site.queue_dir / "out" / (OTHER + ".pck")).write_bytes(entry_file(ANN, BOB, handled=True))
    site.out().unlink()
    assert await site.followed(record) == {State.DEFERRED: {ANN, BOB}}
    assert set(read_entry(site.custody.path(NAME)).recipients) == {ANN, BOB}
    assert not list((site.queue_dir / "out").iterdir())


@pytest.mark.parametrize(("queue", "name"), [("shunt", OTHER + ".pck"), ("bad", NAME + ".psv")])
async def test_shunted_or_preserved_entry_is_held_with_the_reason(site: Site, queue: str, name: str) -> None:
    record = await site.handed_over(ANN, BOB)
    (site.queue_dir / queue / name).write_bytes(entry_file(ANN, BOB))
    site.out().unlink()
    assert await site.followed(record) == {State.HELD: {ANN, BOB}}
    (hold,) = await site.ledger.holds()
    assert (hold.filebase, hold.reason) == (NAME, "shunted")
    assert f"{queue}/" in hold.detail
    assert [path.name for path in site.custody.held.iterdir()] == [NAME + ".pck"]
    assert site.index.state_of(NAME) is EntryState.HELD


async def test_another_mail_an_older_copy_and_a_resubmission_are_not_taken_for_what_mailman_made(site: Site) -> None:
    record = await site.handed_over(ANN, BOB)
    shunt = site.queue_dir / "shunt"
    (shunt / (OTHER + ".pck")).write_bytes(entry_file(ANN, BOB, subject="two", handled=True))
    older = shunt / ("1600000000.5+" + "c" * 40 + ".pck")
    older.write_bytes(entry_file(ANN, BOB, handled=True))
    os.utime(older, (1.6e9, 1.6e9))
    more = shunt / ("1700000002.5+" + "d" * 40 + ".pck")
    more.write_bytes(entry_file(ANN, BOB, EVE, handled=True))
    (site.queue_dir / "out" / ("1700000003.5+" + "e" * 40 + ".pck")).write_bytes(entry_file(ANN, BOB))
    site.out().unlink()
    assert await site.followed(record) == {State.DELIVERED: {ANN, BOB}}
    assert len(list(shunt.iterdir())) == 3


@pytest.mark.parametrize(
    ("booted_s", "state"),
    [(0.0, State.DEFERRED), (CLOCK.now_s() + 1e6, State.IN_DOUBT)],
    ids=["the_service_alone", "the_machine_too"],
)
async def test_crash_before_the_rename_owes_again_unless_the_machine_went_down(
    site: Site, booted_s: float, state: State
) -> None:
    record = await site.handed_over(ANN, BOB)
    site.out().rename(site.custody.backlog / (NAME + ".pck"))
    restarted = site.restarted(booted_s)
    await restarted.follow.recover()
    assert await restarted.states(record) == {state: {ANN, BOB}}
    restarted.close()


async def test_what_was_gone_while_nobody_looked_is_not_sent_again(site: Site) -> None:
    record = await site.handed_over(ANN)
    site.out().unlink()
    restarted = site.restarted()
    await restarted.follow.recover()
    assert await restarted.followed(record) == {State.DELIVERED: {ANN}}
    restarted.close()


async def test_entry_handed_over_is_known_to_intake_after_a_restart_and_under_another_name(site: Site) -> None:
    await site.handed_over(ANN)
    (site.queue_dir / "out" / (OTHER + ".pck")).write_bytes(entry_file(ANN, handled=True))
    stranger = site.queue_dir / "out" / ("1700000002.5+" + "d" * 40 + ".pck")
    stranger.write_bytes(entry_file(ANN, subject="two"))
    restarted = site.restarted()
    await restarted.follow.recover()
    found: list[QueueListing] = []

    def looked() -> bool:
        look = MailmanQueues(site.queue_dir, CLOCK).look(0.0, ())
        found.extend([look] if look else [])
        return bool(look)

    eventually(looked)
    assert await restarted.follow.ours("out", list(found[0].files["out"].values())) == {NAME, OTHER}
    restarted.close()


async def test_queues_that_change_meanwhile_are_not_believed(tmp_path: Path) -> None:
    for queue in ("out", "retry"):
        (tmp_path / queue).mkdir()

    class Moving(MailmanQueues):
        def _list(self, queue: str, changed_ns: int) -> dict[str, object]:  # type: ignore[override]
            (tmp_path / "retry" / queue).touch()
            return {}

    os.utime(tmp_path / "out", (1.6e9, 1.6e9))
    os.utime(tmp_path / "retry", (1.6e9, 1.6e9))
    assert Moving(tmp_path, CLOCK).look(0.0, ()) is None


def test_mark_survives_the_ledger_and_no_reverse_path_is_taken_for_one() -> None:
    mark = HandoverMark(NAME, "0123456789abcdef", (b"\x01" * 16, b"\x02" * 16))
    assert handover_mark(mark.text()) == mark
    for reverse_path in ("", "choir-bounces@example.org", "mailman:x@example.org", "mailman::zz:y"):
        assert handover_mark(reverse_path) is None


def test_release_lists_name_lists_as_people_do() -> None:
    assert is_released_list("choir.example.org", Flavour.MAILMAN3, ("choir@example.org",))
    assert is_released_list("choir.example.org", Flavour.MAILMAN3, ("choir.example.org",))
    assert is_released_list("choir", Flavour.MAILMAN2, ("Choir@example.org",))
    assert not is_released_list("choir2", Flavour.MAILMAN2, ("choir@example.org",))


def test_mailmans_log_tells_refusals_for_good_and_completed_deliveries_of_wanted_messages_only() -> None:
    told = SmtpLog()
    told.wanted.add("<one@example.org>")
    told.feed(
        [
            "Nov 22 07:00:00 2026 (77) <one@example.org> smtp to choir@example.org for 3 recips, completed in 0.1 seconds\n",
            "Nov 22 07:00:00 2026 (77) <one@example.org> post to choir@example.org from a@b.org, 9 bytes, 2 failures\n",
            "Nov 22 07:00:00 2026 (77) <one@example.org> delivery to ann@example.org failed with code 550, b'no'\n",
            "Nov 22 07:00:00 2026 (77) <one@example.org> delivery to bob@example.org failed with code 451, b'later'\n",
            "Nov 22 07:00:00 2026 (77) <two@example.org> delivery to eve@example.net failed with code 550, b'no'\n",
            "rubbish\n",
        ]
    )
    assert [refusal.recipient for refusal in told.refusals("<one@example.org>", 0.0)] == [ANN]
    assert told.refusals("<two@example.org>", 0.0) == []
    assert told.delivery("<one@example.org>", LIST, 3, 0.0)
    assert not told.delivery("<one@example.org>", LIST, 2, 0.0)
    assert not told.delivery("<one@example.org>", LIST, 3, 4e9)
