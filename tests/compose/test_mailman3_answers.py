"""What the composer answers, entry after entry. The tests share its co-processes: a start takes longer than all answers."""

from __future__ import annotations

import os
import pickle
from collections.abc import AsyncIterator
from dataclasses import replace
from email import message_from_bytes
from pathlib import Path

import pytest
import pytest_asyncio

from drainer.compose import mailman3
from drainer.compose.mailman3 import Mailman3Composer
from drainer.errors import ComposerFailed, NoSuchList, SettingsError
from drainer.queuedir.entry import QueueEntry
from tests.compose.test_mailman3_coprocess import PLAIN, composed, composer_of, coprocesses
from tests.mailman3 import sample
from tests.mailman3.site import Site

pytestmark = pytest.mark.asyncio(loop_scope="module")

INDIVIDUAL = "individual.lists.example.org"
MOST_IN_A_SLICE = MOST_RECIPIENTS = 3


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def composer(mailman3_site: Site) -> AsyncIterator[Mailman3Composer]:
    async with composer_of(mailman3_site) as composer:
        yield composer


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def narrow(mailman3_site: Site) -> AsyncIterator[Mailman3Composer]:
    """It remembers nothing, puts few copies into a slice, and few recipients into a transaction."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mailman3, "SLICE_CONTENTS", MOST_IN_A_SLICE)
        patch.setattr(mailman3, "SLICE_COPIES", MOST_IN_A_SLICE)
        composer = Mailman3Composer(mailman3_site.python, mailman3_site.config, 1, MOST_RECIPIENTS, remember_s=0.0)
    await composer.start()
    yield composer
    await composer.close()


async def test_killed_idle_coprocess_is_replaced(
    composer: Mailman3Composer, entries: dict[str, list[QueueEntry]]
) -> None:
    entry = entries[PLAIN][0]
    before = await composed(composer, entry)
    victims = coprocesses()
    for victim in victims:
        victim.kill()
    assert {m.content for m in await composed(composer, entry)} == {m.content for m in before}
    assert victims and not set(victims) & set(coprocesses())


async def test_sigterm_to_the_whole_group_leaves_the_coprocess_working(
    composer: Mailman3Composer, entries: dict[str, list[QueueEntry]]
) -> None:
    before = coprocesses()
    for process in before:
        process.terminate()
    assert await composed(composer, entries[PLAIN][0])
    assert before and coprocesses() == before


async def test_mailman_cfg_of_another_queue_is_refused_with_both_directories(
    composer: Mailman3Composer, mailman3_site: Site, tmp_path: Path
) -> None:
    alias = tmp_path / "alias"
    alias.symlink_to(mailman3_site.out.parent)
    composer.require_queue_dir(alias)
    with pytest.raises(SettingsError) as refused:
        composer.require_queue_dir(tmp_path)
    for path in (tmp_path, mailman3_site.out.parent, mailman3_site.config):
        assert str(path) in str(refused.value)


async def test_entry_of_a_list_that_is_gone_is_no_such_list(
    composer: Mailman3Composer, entries: dict[str, list[QueueEntry]]
) -> None:
    entry = entries[PLAIN][0]
    raw = entry.raw.replace(b"plain.lists.example.org", b"PLAIN.lists.example.org")
    with pytest.raises(NoSuchList, match=r"no list 'PLAIN\.lists\.example\.org'"):
        await composed(composer, replace(entry, raw=raw))
    assert await composed(composer, entry)


async def test_pickle_with_a_name_not_allowed_runs_nothing(
    composer: Mailman3Composer, entries: dict[str, list[QueueEntry]], tmp_path: Path
) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path}/ran",)

    with pytest.raises(ComposerFailed, match=r"posix\.system is not on the allowed list"):
        await composed(composer, replace(entries[PLAIN][0], raw=pickle.dumps(Hostile()) + pickle.dumps({})))
    assert os.listdir(tmp_path) == []  # noqa: PTH208


async def test_recipient_mailman_cannot_write_to_fails_by_name(
    composer: Mailman3Composer, entries: dict[str, list[QueueEntry]]
) -> None:
    """Mailman shunts such an entry: Python's smtplib has no SMTPUTF8 for the message class Mailman uses."""
    with pytest.raises(ComposerFailed, match="utf8"):
        async for _ in composer.compose(entries[PLAIN][0], ["jörg@example.de"]):
            pass


async def test_lists_can_be_asked_for_between_two_entries(
    composer: Mailman3Composer, entries: dict[str, list[QueueEntry]]
) -> None:
    before = await composed(composer, entries[PLAIN][0])
    processes = coprocesses()
    listed = {(one.list_id, one.address) for one in await composer.lists()}
    assert listed == {(one.name.replace("@", "."), one.name) for one in sample.LISTS}
    after = await composed(composer, entries[PLAIN][0])
    assert [m.content for m in after] == [m.content for m in before]
    assert coprocesses() == processes


async def test_no_recipient_gets_a_copy_written_for_another(
    composer: Mailman3Composer, narrow: Mailman3Composer, entries: dict[str, list[QueueEntry]]
) -> None:
    """The footer of this list holds $user_email. With what is remembered, and with nothing remembered."""
    entry = entries[INDIVIDUAL][0]
    for asked in (composer, composer, narrow, narrow):
        for message in await composed(asked, entry):
            (recipient,) = message.owed_for
            body = message_from_bytes(message.content).get_payload(decode=True)
            named = {address for address in entry.recipients if f"for {address} ".encode() in body}
            assert named == {recipient}


@pytest.mark.parametrize("list_id", ["verp.lists.example.org", INDIVIDUAL, "full.lists.example.org"])
async def test_copies_of_members_and_of_others_are_those_that_mailman_writes_anew_for_each(
    composer: Mailman3Composer, narrow: Mailman3Composer, entries: dict[str, list[QueueEntry]], list_id: str
) -> None:
    """Equal copies are made once where answers are remembered, and Mailman writes to a stranger in another way."""
    entry = entries[list_id][0]
    first, *others = entry.recipients
    recipients = ["stranger@example.org", first, "another@example.net", *others, "last@example.com"]
    copies = [
        {message.owed_for: (message.envelope, message.content) async for message in asked.compose(entry, recipients)}
        for asked in (composer, narrow)
    ]
    assert len(copies[0]) == len(recipients)
    assert copies[0] == copies[1]


async def test_personal_copies_come_in_slices_that_cover_every_recipient_once(
    narrow: Mailman3Composer, entries: dict[str, list[QueueEntry]]
) -> None:
    entry = entries[INDIVIDUAL][0]
    messages = await composed(narrow, entry)
    assert sorted(a for m in messages for a in m.owed_for) == sorted(entry.recipients)
    assert len(entry.recipients) > 2 * MOST_IN_A_SLICE


async def test_max_recipients_of_ours_takes_the_place_of_mailmans(
    narrow: Mailman3Composer, entries: dict[str, list[QueueEntry]]
) -> None:
    messages = await composed(narrow, entries[PLAIN][0])
    assert max(len(message.envelope.recipients) for message in messages) == MOST_RECIPIENTS
