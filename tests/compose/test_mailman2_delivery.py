"""Which transactions an entry of Mailman 2.1 becomes: who is covered, by which reverse-path, how lazily."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import shutil
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from drainer.clock import StoppedClock
from drainer.compose import Composer
from drainer.compose.list_settings import LOOKED_AT_EVERY_S
from drainer.compose.mailman2 import bulk_decoration, compose_transactions
from drainer.compose.mailman2_composer import Mailman2Composer
from drainer.compose.mailman2_envelope import wire_address, wire_addresses
from drainer.compose.mailman2_site import SiteSettings, site_settings
from drainer.compose.wire import ComposedMessage
from drainer.errors import ComposerFailed, NoSuchList, SettingsError
from drainer.feed.pick import deliver_after_s
from drainer.queuedir.entry import QueueEntry
from tests.compose import mailman2_samples as samples


def _composer(max_recipients: int = 0) -> Mailman2Composer:
    values = json.loads((samples.SAMPLES / "site.json").read_text())["settings"]
    return Mailman2Composer(samples.SAMPLES / "lists", values, max_recipients)


def _with_recipients(entry: QueueEntry, recipients: list[str], **metadata: object) -> QueueEntry:
    changed = {**entry.metadata, "recips": recipients, **metadata}
    return dataclasses.replace(entry, recipients=tuple(recipients), metadata=changed)


async def test_composer_yields_what_the_pure_part_composes() -> None:
    composer: Composer = _composer()
    await composer.start()
    for case in ("ascii_plain", "verp_personalized_pers2", "big_utf8"):
        entry = samples.entry_of(case)
        assert [message async for message in composer.compose(entry, entry.recipients)] == samples.composed(entry)
    await composer.close()


async def test_entry_of_a_missing_list_is_refused_by_the_composer() -> None:
    entry = samples.entry_of("missing_list")
    with pytest.raises(NoSuchList):
        async for _ in _composer().compose(entry, entry.recipients):
            pass


async def test_a_list_that_was_removed_is_missed_at_the_next_look(tmp_path: Path) -> None:
    lists_dir = tmp_path / "lists"
    shutil.copytree(samples.SAMPLES / "lists", lists_dir)
    clock = StoppedClock()
    composer, entry = Mailman2Composer(lists_dir, {}, clock=clock), samples.entry_of("ascii_plain")

    async def composed() -> list[ComposedMessage]:
        return [message async for message in composer.compose(entry, entry.recipients)]

    before = await composed()
    shutil.rmtree(lists_dir)
    assert await composed() == before
    clock.advance(LOOKED_AT_EVERY_S)
    with pytest.raises(NoSuchList):
        await composed()


async def test_composer_does_not_start_without_a_lists_directory(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="lists_dir"):
        await Mailman2Composer(tmp_path / "none", {}).start()


async def test_other_work_goes_on_while_thousands_of_copies_are_composed() -> None:
    recipients = [f"member{number}@example.org" for number in range(5000)]
    entry = _with_recipients(samples.entry_of("ascii_pers1"), recipients)
    turns_of_others = 0

    async def other() -> None:
        nonlocal turns_of_others
        while True:
            turns_of_others += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    copies = 0
    async for _ in _composer().compose(entry, recipients):
        copies += 1
    task.cancel()
    assert copies == len(recipients)
    assert turns_of_others > 10


def test_copies_are_composed_one_at_a_time() -> None:
    recipients = [f"member{number}@example.org" for number in range(4000)]
    entry = _with_recipients(samples.entry_of("verp_interval1_nofooter"), recipients)
    messages = compose_transactions(entry, samples.lists().get(entry.list_id), samples.site(), recipients)
    next(messages)
    tracemalloc.start()
    sent_bytes = sum(len(message.content) for message in messages)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < sent_bytes / 20


def test_bulk_content_is_one_object_for_all_chunks() -> None:
    messages = samples.composed_case("big_ascii")
    assert len(messages) == 4
    assert {id(message.content) for message in messages} == {id(messages[0].content)}


@pytest.mark.parametrize("case", ["big_ascii", "undelivered_big"])
def test_own_ceiling_bounds_every_transaction_and_loses_no_recipient(case: str) -> None:
    entry = samples.entry_of(case)
    messages = samples.composed(entry, max_recipients=50)
    assert max(len(message.owed_for) for message in messages) == 50
    covered = [recipient for message in messages for recipient in message.owed_for]
    assert sorted(covered) == sorted(entry.recipients)


@pytest.mark.parametrize("case", ["ascii_plain", "undelivered_bulk", "verp_interval1_plain", "ascii_pers2"])
def test_only_the_recipients_still_owed_are_covered(case: str) -> None:
    entry = samples.entry_of(case)
    owed = entry.recipients[::2]
    settings = samples.lists().get(entry.list_id)
    messages = list(compose_transactions(entry, settings, samples.site(), owed))
    assert sorted(one for message in messages for one in message.owed_for) == sorted(owed)
    assert {message.content for message in messages} <= {message.content for message in samples.composed(entry)}


def test_recipient_that_verp_cannot_encode_is_covered_by_no_message() -> None:
    entry = samples.entry_of("odd_recips_verp")
    covered = {one for message in samples.composed(entry) for one in message.owed_for}
    assert set(entry.recipients) - covered == {"unqualified", "@home.test"}


def test_odd_recipient_is_owed_under_the_name_the_entry_has() -> None:
    (message,) = samples.composed_case("odd_recips")
    sent_as = dict(zip(message.owed_for, message.envelope.recipients, strict=True))
    assert sent_as["Name <in.angles@home.test>"] == "in.angles@home.test"
    assert sent_as["plain@home.test (comment)"] == "plain@home.test"
    assert sent_as['"quoted local"@home.test'] == '"quoted local"@home.test'


@given(st.lists(st.emails() | st.text(st.sampled_from("ab@.\n <>"), max_size=9), min_size=1, max_size=4).map(tuple))
def test_many_addresses_are_written_as_each_of_them(addresses: tuple[str, ...]) -> None:
    try:
        each = tuple(map(wire_address, addresses))
    except ComposerFailed:
        with pytest.raises(ComposerFailed):
            wire_addresses(addresses)
    else:
        assert wire_addresses(addresses) == each


@example(("a@b.org\nc@d.org",))
@given(st.tuples(st.text(st.sampled_from("ab@.\n"), max_size=12)))
def test_no_line_end_is_in_an_address_on_the_wire(addresses: tuple[str, ...]) -> None:
    with contextlib.suppress(ComposerFailed):
        assert "\n" not in wire_addresses(addresses)[0]


def test_address_with_a_line_end_never_becomes_a_command() -> None:
    entry = _with_recipients(samples.entry_of("ascii_plain"), ["a@home.test>\r\nRCPT TO:<b@home.test"])
    with pytest.raises(ComposerFailed):
        samples.composed(entry)


def test_verp_leaves_the_null_reverse_path_alone() -> None:
    entry = samples.entry_of("envsender_given_verp")
    entry = _with_recipients(entry, ["a@home.test"], envsender="")
    (message,) = samples.composed(entry)
    assert message.envelope.reverse_path == ""


def test_site_settings_change_verp_chunks_and_address_field() -> None:
    site = site_settings(
        {"VERP_FORMAT": "%(bounces)s--%(mailbox)s-%(host)s", "SMTP_MAX_RCPTS": 2, "RCPT_BASE64_HEADER_NAME": "X-To"}
    )
    entry = samples.entry_of("verp_interval1_nofooter")
    messages = list(compose_transactions(entry, samples.lists().get(entry.list_id), site, ["Ann@Home.test"]))
    assert [message.envelope.reverse_path for message in messages] == [
        "tidepool-bounces--ann-home.test@lists.example.org"
    ]
    assert b"\r\nX-To: QW5uQEhvbWUudGVzdA==\r\nErrors-To:" in messages[0].content
    bulk = samples.entry_of("big_ascii")
    chunks = list(compose_transactions(bulk, samples.lists().get(bulk.list_id), site, bulk.recipients))
    assert max(len(message.owed_for) for message in chunks) == 2


@pytest.mark.parametrize(
    "values",
    [
        {"VERP_FORMAT": "%(nobody)s"},
        {"SMTP_MAX_RCPTS": "many"},
        {"SMTP_MAX_RCPTS": True},
        {"CGIEXT": 5},
        {"PYTHON": "3.11"},
    ],
)
def test_impossible_site_setting_is_refused_by_name(values: dict[str, str | int | float | bool]) -> None:
    with pytest.raises(SettingsError, match=next(iter(values))):
        site_settings(values)


def test_mailmans_own_values_are_the_defaults() -> None:
    genuine = json.loads((samples.SAMPLES / "site.json").read_text())
    assert site_settings(genuine["settings"]) == SiteSettings()
    assert SiteSettings().language_charsets == genuine["language_charsets"]


def test_due_time_is_the_one_mailman_wrote() -> None:
    entry = samples.entry_of("deliver_after_far")
    assert (
        deliver_after_s(entry.metadata)
        == samples.labels()[samples.file_of("deliver_after_far")]["metadata"]["deliver_after"]
    )
    assert deliver_after_s(samples.entry_of("ascii_plain").metadata) == 0.0


def test_bulk_decoration_is_what_a_retried_message_has_in_its_body() -> None:
    entry = samples.entry_of("retry_bulk")
    header, footer = bulk_decoration(samples.lists().get(entry.list_id), samples.site(), entry)
    payload = entry.message.attribute("_payload")
    assert isinstance(payload, str)
    assert payload.startswith(header)
    assert payload.endswith(footer)
    assert len(header) > 10
    assert len(footer) > 10


@pytest.mark.parametrize("case", ["digest_plain_plain", "welcome_plain", "probe_plain", "ascii_nofooter"])
def test_digests_notices_and_lists_without_any_have_no_bulk_decoration(case: str) -> None:
    entry = samples.entry_of(case)
    assert bulk_decoration(samples.lists().get(entry.list_id), samples.site(), entry) == ("", "")
