"""The real service and its co-processes: they work side by side, and what becomes of entries when they cannot work."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from drainer.compose.mailman3 import Mailman3Composer
from drainer.queuedir.entry import QueueEntry
from tests.compose.test_mailman3_coprocess import DIES_IN_THE_MIDDLE, HANGS, PLAIN, composed, composer_of, impostor
from tests.mailman3.site import Site
from tests.scenarios.running import (
    Service,
    children_named,
    drainer,
    eventually,
    running_service,
    running_sink,
    site_settings,
    status,
)
from tests.scenarios.test_mailman3_into_postfix import owed_by

STOPPED = "0/s"


async def test_a_hanging_coprocess_leaves_the_other_to_the_next_entry(
    mailman3_site: Site, entries: dict[str, list[QueueEntry]], tmp_path: Path
) -> None:
    python = impostor(tmp_path, mailman3_site.python, HANGS, times=1)
    composer = Mailman3Composer(python, mailman3_site.config, 2, 0, 60.0)
    await composer.start()
    try:
        both = [asyncio.create_task(composed(composer, entry)) for entry in entries[PLAIN][:2]]
        done, hanging = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        assert all(task.result() for task in done)
        assert len(hanging) == 1
        for task in hanging:
            task.cancel()
        await asyncio.wait(hanging)
    finally:
        await composer.close()


async def test_a_transaction_still_being_sent_keeps_no_coprocess_from_the_next_entry(
    mailman3_site: Site, entries: dict[str, list[QueueEntry]]
) -> None:
    first, second = entries[PLAIN][:2]
    async with composer_of(mailman3_site) as composer:
        sending = composer.compose(first, first.recipients)
        assert (await anext(sending)).content
        assert await composed(composer, second)
        await sending.aclose()


def stocked(site: Site, list_id: str, most: int) -> int:
    """Put so many entries of a list into out/. Returns how many recipients they have."""
    site.restore_entries()
    kept = [name for name, raw in site.entries.items() if list_id.encode() in raw][:most]
    for path in site.out.iterdir():
        if path.name not in kept:
            path.unlink()
    site.entries = {name: site.entries[name] for name in kept}
    return owed_by(site).total()


def settings_of(site: Site, home: Path, port: int, python: Path | None = None, **feed: object) -> Path:
    mailman = {"flavour": "mailman3", "queue_dir": site.var / "queue", "config": site.config}
    return site_settings(
        home, port, {**mailman, "python": python or site.python, "coprocesses": 1}, feed={"adaptive": False, **feed}
    )


def kill_coprocesses(service: Service) -> None:
    found = children_named(service.process.pid, "serve.py")
    assert found
    for child in found:
        child.kill()


def test_entries_are_held_with_the_reason_where_every_coprocess_dies_and_the_service_stays_up(
    mailman3_copy: Site, tmp_path: Path
) -> None:
    site = mailman3_copy
    stocked(site, PLAIN, 2)
    python = impostor(tmp_path / "impostor", site.python, DIES_IN_THE_MIDDLE, 1_000_000, site.var / "queue")
    with running_sink(tmp_path / "sink") as sink:
        settings = settings_of(site, tmp_path, sink.port, python)
        with running_service(settings, tmp_path / "drainer.log") as service:
            eventually(lambda: status(settings)["backlog"]["held_entries"] == 2, service.log_text)
            shown = drainer("entries", "--state", "held", "--json", "--config", settings).stdout
            assert service.terminate() == 0
        assert sink.taken() == []
    assert "composer_failed" in shown
    assert "two co-processes broke on it" in shown
    assert len(list((site.var / "queue" / "drainer" / "held").iterdir())) == 2


def test_mailman_losing_its_database_blames_no_entry_and_the_drain_ends_once_it_is_back(
    mailman3_copy: Site, tmp_path: Path
) -> None:
    site = mailman3_copy
    owed = stocked(site, PLAIN, 1)
    database = site.var / "data" / "mailman.db"
    away = database.with_name("elsewhere.db")
    with running_sink(tmp_path / "sink") as sink:
        settings = settings_of(site, tmp_path, sink.port, messages=STOPPED)
        with running_service(settings, tmp_path / "drainer.log") as service:
            database.rename(away)
            kill_coprocesses(service)
            assert drainer("rate", "--messages", "unlimited", "--config", settings).returncode == 0
            eventually(lambda: f"there is no database at {database}" in service.log_text(), service.log_text)
            eventually(lambda: f"there is no database at {database}" in status(settings)["reason"], service.log_text)
            assert status(settings)["backlog"]["held_entries"] == 0
            away.rename(database)
            eventually(lambda: status(settings)["done"]["delivered_recipients"] == owed, service.log_text)
            assert service.terminate() == 0
        assert sink.deliveries() == owed_by(site)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("[mailman\n", "File contains no section headers"), ("[mailman]\nlayout: nowhere\n", "paths.nowhere")],
    ids=["garbled", "unknown layout"],
)
def test_service_that_cannot_start_mailman_says_why_and_what_to_try_and_touches_nothing(
    mailman3_copy: Site, tmp_path: Path, text: str, reason: str
) -> None:
    site = mailman3_copy
    stocked(site, PLAIN, 1)
    before = site.all_files()
    site.config.write_text(text)
    done = drainer("run", "--config", settings_of(site, tmp_path, 1))
    assert done.returncode == 1
    assert reason in done.stderr
    assert f"try by hand: MAILMAN_CONFIG_FILE={site.config} {site.python} -m mailman.bin.mailman info" in done.stderr
    assert "Traceback" not in done.stderr
    kept = {path: what for path, what in site.all_files().items() if f"{site.out.parent}/drainer" not in path}
    assert kept == before
