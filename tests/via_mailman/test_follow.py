"""What becomes of entries handed over, by the files Mailman leaves, and after each kind of crash."""

from __future__ import annotations

import os
from datetime import datetime

import pytest

from drainer.backlog.states import EntryState
from drainer.ledger.states import State
from drainer.queuedir.read import read_entry
from drainer.via_mailman.queues import MailmanQueues, QueueListing
from tests.scenarios.running import eventually
from tests.via_mailman.site import ANN, BOB, CLOCK, EVE, NAME, OTHER, Site, entry_file


async def test_entry_gone_from_out_was_delivered(site: Site) -> None:
    record = await site.handed_over(ANN, BOB, EVE)
    site.out().unlink()
    assert await site.followed(record) == {State.DELIVERED: {ANN, BOB, EVE}}
    assert site.at_mailman.entries == 0
    assert site.index.state_of(NAME) is None


async def test_permanent_refusals_in_mailmans_log_are_recorded_as_failed(site: Site) -> None:
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


async def test_bak_of_a_dead_runner_is_in_doubt_for_recipients_the_mta_refused_temporarily(site: Site) -> None:
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


@pytest.mark.parametrize("end", ["", ", 2 failures"], ids=["no end", "failures without names"])
async def test_bak_of_a_dead_runner_whose_log_tells_no_end_is_in_doubt(site: Site, end: str) -> None:
    record = await site.handed_over(ANN, BOB)
    stamp = datetime.now().strftime("%b %d %H:%M:%S %Y")
    line = f"{stamp} (7) <one@example.org> smtp to choir@example.org for 2 recips, completed in 0.1 seconds\n"
    end_line = f"{stamp} (7) <one@example.org> post to choir@example.org from ann@example.org, 90 bytes{end}\n"
    site.smtp_log.write_text(line + (end_line if end else ""))
    site.out().rename(site.out(".bak"))
    assert await site.followed(record) == {State.IN_DOUBT: {ANN, BOB}}


async def test_recipient_that_mailman_gave_up_is_failed_and_not_delivered(site: Site) -> None:
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


async def test_entry_gone_between_two_looks_is_not_sent_again(site: Site) -> None:
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
