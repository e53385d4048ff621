"""The composer when its co-processes die, hang, lie or cannot start; and that they change nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import uvloop

from drainer.compose import mailman3, mailman3_coprocess
from drainer.compose.mailman3 import Mailman3Composer
from drainer.compose.wire import ComposedMessage
from drainer.errors import ComposeDeferred, ComposerFailed, ComposerUnavailable, NoSuchList
from drainer.queuedir.entry import QueueEntry
from tests.mailman3.site import MailingList, Site
from tests.scenarios.running import children_named, drainer, eventually, write_settings

PLAIN, DECORATED = (f"{name}.lists.example.org" for name in ("plain", "decorated"))
_FRAMES = Path(mailman3.__file__).with_name("coprocess")


@asynccontextmanager
async def composer_of(
    site: Site, remember_s: float = 60.0, python: Path | None = None
) -> AsyncIterator[Mailman3Composer]:
    composer = Mailman3Composer(python or site.python, site.config, 1, 0, remember_s)
    await composer.start()
    try:
        yield composer
    finally:
        await composer.close()


async def composed(composer: Mailman3Composer, entry: QueueEntry) -> list[ComposedMessage]:
    return [message async for message in composer.compose(entry, entry.recipients)]


def coprocesses() -> list[psutil.Process]:
    return children_named(os.getpid(), "serve.py")


def impostor(directory: Path, genuine: Path, on_request: str, times: int, queue_dir: Path = Path()) -> Path:
    """A Python whose first `times` co-processes greet properly and then do `on_request`; later ones are genuine."""
    directory.mkdir(exist_ok=True)
    script = directory / "impostor.py"
    script.write_text(
        textwrap.dedent(f"""\
        import os, sys, time
        counter = {str(directory / "count")!r}
        count = os.path.getsize(counter) if os.path.exists(counter) else 0
        if count >= {times}:
            os.execv({str(genuine)!r}, [{str(genuine)!r}, *sys.argv[1:]])
        open(counter, "a").write("x")
        sys.path.insert(0, {str(_FRAMES)!r})
        import frames
        def read():
            announced = frames.prefix(sys.stdin.buffer.read(frames.PREFIX_BYTES))
            return frames.fields_and_octets(announced, sys.stdin.buffer.read(announced.rest_length))
        def write(*args):
            sys.stdout.buffer.write(frames.frame(*args))
            sys.stdout.buffer.flush()
        read()
        write(frames.READY, dict(mailman="0", python="0", queue_dir={str(queue_dir)!r}, config=""))
        asked, _ = read()
        """)
        + textwrap.dedent(on_request)
    )
    python = directory / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {script} "$@"\n')
    python.chmod(0o755)
    return python


DIES_IN_THE_MIDDLE = """\
composed = frames.Transaction("x@example.org", asked["recipients"][:1], [], 14, 0, None)
sys.stdout.buffer.write(frames.composed([composed], [b"half an answer"], None))
sys.stdout.buffer.flush()
os.kill(os.getpid(), 9)
"""
WRITES_RUBBISH = 'sys.stdout.write("Traceback: this is what a print() looks like\\n"); sys.stdout.flush(); read()'
HANGS = "time.sleep(600)"
NAMES_A_STRANGER = """\
composed = frames.Transaction("", ["stranger@example.org"], [], 5, 0, None)
sys.stdout.buffer.write(frames.composed([composed], [b"hello"], True))
sys.stdout.buffer.flush()
read()
"""


def test_entry_is_composed_although_every_idle_coprocess_was_killed(
    mailman3_site: Site, entries: dict[str, list[QueueEntry]]
) -> None:
    """As the kernel does when memory runs out; on the service's own event loop, which has found out before it writes."""

    async def composed_after_the_kill() -> list[ComposedMessage]:
        composer = Mailman3Composer(mailman3_site.python, mailman3_site.config, 2, 0, 60.0)
        await composer.start()
        try:
            for victim in coprocesses():
                victim.kill()
            await asyncio.to_thread(eventually, lambda: not coprocesses())
            return await composed(composer, entries[PLAIN][0])
        finally:
            await composer.close()

    assert uvloop.run(composed_after_the_kill())


async def test_developer_mode_settles_the_real_recipients(
    mailman3_copy: Site, entries: dict[str, list[QueueEntry]]
) -> None:
    with mailman3_copy.config.open("a") as config:
        config.write("[devmode]\nenabled: yes\nrecipient: developer@example.org\n")
    entry = entries[PLAIN][0]
    async with composer_of(mailman3_copy) as composer:
        messages = await composed(composer, entry)
    assert {a for m in messages for a in m.envelope.recipients} == {"developer@example.org"}
    assert sorted(a for m in messages for a in m.owed_for) == sorted(entry.recipients)


async def test_number_of_posts_that_decides_about_verp_is_never_cached(
    mailman3_copy: Site, entries: dict[str, list[QueueEntry]]
) -> None:
    entry = entries[PLAIN][0]
    async with composer_of(mailman3_copy, 3600.0) as composer:
        in_bulk = await composed(composer, entry)
        with sqlite3.connect(mailman3_copy.var / "data" / "mailman.db") as connection:
            connection.execute("UPDATE mailinglist SET post_id = 9 WHERE list_id = ?", (PLAIN,))
        connection.close()
        one_by_one = await composed(composer, entry)
    assert len(in_bulk) < len(one_by_one) == len(entry.recipients)
    assert all("+" in message.envelope.reverse_path for message in one_by_one)


async def test_coprocess_dying_within_an_answer_hands_on_nothing_of_it(
    mailman3_site: Site, entries: dict[str, list[QueueEntry]], tmp_path: Path
) -> None:
    entry = entries[PLAIN][0]
    python = impostor(tmp_path, mailman3_site.python, DIES_IN_THE_MIDDLE, times=1)
    async with composer_of(mailman3_site, python=python) as composer:
        messages = await composed(composer, entry)
    assert sorted(a for m in messages for a in m.owed_for) == sorted(entry.recipients)
    assert all(message.content != b"half an answer" for message in messages)


@pytest.mark.parametrize(
    ("on_request", "reason"),
    [(DIES_IN_THE_MIDDLE, "ended"), (WRITES_RUBBISH, "not a frame but b'Trace"), (HANGS, "did not answer within")],
    ids=["dies", "rubbish", "hangs"],
)
async def test_entry_that_breaks_two_coprocesses_fails_by_name_and_the_next_is_composed(
    mailman3_site: Site,
    entries: dict[str, list[QueueEntry]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    on_request: str,
    reason: str,
) -> None:
    python = impostor(tmp_path, mailman3_site.python, on_request, times=2)
    async with composer_of(mailman3_site, python=python) as composer:
        if on_request is HANGS:
            monkeypatch.setattr(mailman3_coprocess, "ANSWER_TIMEOUT_S", 0.3)
        with pytest.raises(ComposerFailed, match=reason):
            await composed(composer, entries[PLAIN][0])
        monkeypatch.undo()
        assert await composed(composer, entries[PLAIN][1])


async def test_entries_that_wait_behind_one_that_breaks_its_coprocess_are_not_blamed(
    mailman3_site: Site, entries: dict[str, list[QueueEntry]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    python = impostor(tmp_path, mailman3_site.python, DIES_IN_THE_MIDDLE, times=1)
    asked = [*entries[PLAIN][:2], entries[DECORATED][0]]
    async with composer_of(mailman3_site, python=python) as composer:
        found = await asyncio.gather(*(composed(composer, entry) for entry in asked))
        assert len(coprocesses()) == 1
    for entry, messages in zip(asked, found, strict=True):
        assert sorted(a for m in messages for a in m.owed_for) == sorted(entry.recipients)
    (warning,) = [record.getMessage() for record in caplog.records if "coprocess_broken" in record.getMessage()]
    assert asked[0].filebase in warning


async def test_next_copies_are_asked_for_while_the_first_ones_are_sent(
    mailman3_site: Site, entries: dict[str, list[QueueEntry]], tmp_path: Path
) -> None:
    marker = tmp_path / "asked again"
    on_request = f"""\
composed = frames.Transaction("x@example.org", asked["recipients"][:1], [], 5, 0, None)
sys.stdout.buffer.write(frames.composed([composed], [b"hello"], False))
sys.stdout.buffer.flush()
read()
open({str(marker)!r}, "w")
read()
"""
    python = impostor(tmp_path / "impostor", mailman3_site.python, on_request, times=1)
    entry = entries[PLAIN][0]
    async with (
        composer_of(mailman3_site, python=python) as composer,
        contextlib.aclosing(composer.compose(entry, entry.recipients)) as messages,
    ):
        assert (await anext(messages)).content == b"hello"
        await asyncio.to_thread(eventually, marker.exists)


async def test_answer_for_a_recipient_not_asked_for_is_refused(
    mailman3_site: Site, entries: dict[str, list[QueueEntry]], tmp_path: Path
) -> None:
    python = impostor(tmp_path, mailman3_site.python, NAMES_A_STRANGER, times=1)
    async with composer_of(mailman3_site, python=python) as composer:
        with pytest.raises(ComposerFailed, match="not asked for"):
            await composed(composer, entries[PLAIN][0])


async def test_missing_python_is_named_with_the_command_to_try(mailman3_site: Site) -> None:
    composer = Mailman3Composer(Path("/nonexistent/python"), mailman3_site.config, 2, 0, 60.0)
    with pytest.raises(
        ComposerUnavailable, match=r"/nonexistent/python: No such file(.|\n)*try by hand: MAILMAN_CONFIG"
    ):
        await composer.start()
    assert not coprocesses()


async def test_python_without_mailman_is_named(mailman3_site: Site) -> None:
    composer = Mailman3Composer(Path(sys.executable), mailman3_site.config, 2, 0, 60.0)
    with pytest.raises(ComposerUnavailable, match="No module named 'mailman'"):
        await composer.start()
    assert not coprocesses()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "No such file or directory: '.*mailman.cfg'"),
        ("[mailman\nlayout: here\n", "mailman.cfg"),
        ("[mailman]\nlayout: nowhere\n", "No path configuration found: paths.nowhere"),
    ],
    ids=["missing", "garbled", "unknown layout"],
)
async def test_mailman_cfg_that_cannot_be_used_is_named_with_the_command_to_try(
    mailman3_site: Site, tmp_path: Path, text: str | None, reason: str
) -> None:
    config = tmp_path / "mailman.cfg"
    if text is not None:
        config.write_text(text)
    composer = Mailman3Composer(mailman3_site.python, config, 1, 0, 60.0)
    with pytest.raises(ComposerUnavailable, match=rf"{reason}(.|\n)*try by hand: MAILMAN_CONFIG_FILE={config}"):
        await composer.start()
    assert not coprocesses()


async def test_config_without_its_database_is_named(mailman3_site: Site, tmp_path: Path) -> None:
    config = tmp_path / "mailman.cfg"
    config.write_text(f"[mailman]\nlayout: here\n[paths.here]\nvar_dir: {tmp_path}/elsewhere\n")
    composer = Mailman3Composer(mailman3_site.python, config, 1, 0, 60.0)
    with pytest.raises(ComposerUnavailable, match=r"there is no database at .*elsewhere/data/mailman\.db"):
        await composer.start()
    assert not (tmp_path / "elsewhere").exists()


def test_service_does_not_start_with_the_mailman_cfg_of_another_queue(mailman3_site: Site, tmp_path: Path) -> None:
    queue_dir = tmp_path / "qfiles"
    for name in ("in", "out", "bad", "shunt", "retry", "virgin"):
        (queue_dir / name).mkdir(parents=True)
    settings = write_settings(
        tmp_path / "drainer.toml",
        {
            "mailman": {
                "flavour": "mailman3",
                "queue_dir": str(queue_dir),
                "python": str(mailman3_site.python),
                "config": str(mailman3_site.config),
            },
            "ledger": {"path": str(tmp_path / "ledger.sqlite")},
            "control": {"socket": str(tmp_path / "socket")},
        },
    )
    done = drainer("run", "--config", settings)
    assert done.returncode == 2, done.stderr
    assert f"has its queues in {mailman3_site.out.parent}" in done.stderr
    assert "Traceback" not in done.stderr


async def test_schema_of_another_mailman_is_refused_not_upgraded(mailman3_copy: Site) -> None:
    database = mailman3_copy.var / "data" / "mailman.db"
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '33bc0099223'")
    connection.close()
    before = database.read_bytes()
    composer = Mailman3Composer(mailman3_copy.python, mailman3_copy.config, 1, 0, 60.0)
    with pytest.raises(
        ComposerUnavailable, match=r"it says: the database has schema 33bc0099223(.|\n)*mailman\.python"
    ):
        await composer.start()
    assert database.read_bytes() == before


async def test_template_that_cannot_be_fetched_defers_the_entry(
    mailman3_copy: Site, entries: dict[str, list[QueueEntry]]
) -> None:
    mailman3_copy.set_template(
        "plain@lists.example.org", "list:member:regular:footer", "file:///nonexistent/footer.txt"
    )
    async with composer_of(mailman3_copy) as composer:
        with pytest.raises(ComposeDeferred, match="/nonexistent/footer"):
            await composed(composer, entries[PLAIN][0])
        assert await composed(composer, entries[DECORATED][0])


async def test_changed_footer_is_used_once_the_cache_has_expired(
    mailman3_copy: Site, entries: dict[str, list[QueueEntry]], tmp_path: Path
) -> None:
    footer = tmp_path / "footer.txt"
    footer.write_text("the new footer\n")
    async with composer_of(mailman3_copy, 0.01) as brief, composer_of(mailman3_copy, 3600.0) as lasting:
        before = [(await composed(composer, entries[PLAIN][0]))[0].content for composer in (brief, lasting)]
        mailman3_copy.set_template("plain@lists.example.org", "list:member:regular:footer", footer.as_uri())
        after = [(await composed(composer, entries[PLAIN][0]))[0].content for composer in (brief, lasting)]
    assert before[0] == before[1] == after[1]
    assert b"the new footer" in after[0]


async def test_list_made_while_running_is_found_at_once(
    mailman3_copy: Site, entries: dict[str, list[QueueEntry]]
) -> None:
    entry = entries[PLAIN][0]
    raw = entry.raw.replace(b"plain.lists.example.org", b"fresh.lists.example.org")
    async with composer_of(mailman3_copy, 3600.0) as composer:
        with pytest.raises(NoSuchList):
            await composed(composer, replace(entry, raw=raw))
        mailman3_copy.populate([MailingList("fresh@lists.example.org", [])])
        assert await composed(composer, replace(entry, raw=raw))


async def test_composing_changes_nothing_on_the_site(mailman3_copy: Site, entries: dict[str, list[QueueEntry]]) -> None:
    """Even for a list without archiver rows, to which Mailman's own look-up would add some."""
    with sqlite3.connect(mailman3_copy.var / "data" / "mailman.db") as connection:
        connection.execute("DELETE FROM listarchiver")
    connection.close()
    mailman3_copy.restore_entries()
    before = mailman3_copy.all_files()
    for remember_s in (0.0, 60.0):
        async with composer_of(mailman3_copy, remember_s) as composer:
            for of_list in entries.values():
                assert await composed(composer, of_list[0])
    assert mailman3_copy.all_files() == before


def test_coprocess_does_not_outlive_a_killed_parent(mailman3_site: Site) -> None:
    program = textwrap.dedent(f"""\
        import asyncio, pathlib, psutil
        from drainer.compose.mailman3 import Mailman3Composer
        async def main():
            composer = Mailman3Composer(pathlib.Path({str(mailman3_site.python)!r}),
                                        pathlib.Path({str(mailman3_site.config)!r}), 2, 0, 60.0)
            await composer.start()
            print(*(child.pid for child in psutil.Process().children()), flush=True)
            await asyncio.sleep(600)
        asyncio.run(main())
        """)
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    children = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert len(children) == 2
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive
