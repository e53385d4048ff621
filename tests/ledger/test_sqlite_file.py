"""The ledger's file: its owner, what it refuses, what survives an upgrade."""

# ruff: noqa: ASYNC221, ASYNC240 - nothing else runs in these tests' event loops

from __future__ import annotations

import os
import re
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from drainer.errors import LedgerUnusable
from drainer.ledger.columns import CODES, DSN_CODES
from drainer.ledger.records import MessageRecord, NewAttempt
from drainer.ledger.sqlite import SqliteLedger
from drainer.ledger.sqlite_file import APPLICATION_ID, Migration, migrate, migrations, open_ledger_file, require_pragma
from drainer.ledger.states import SETTLED, State

ATTEMPT = NewAttempt("1700000000.5+" + "1" * 40, MessageRecord((b"a" * 16,), "list", "<1@x>"), "b@x", ("ann@x",), 1.7e9)


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """A ledger with one delivery in it, closed."""
    path = tmp_path / "ledger.sqlite"
    ledger = SqliteLedger(path)
    await ledger.open()
    await ledger.close_attempt(await ledger.open_attempt(ATTEMPT), State.DELIVERED, "250", 1.7e9)
    await ledger.close()
    return path


def execute(path: Path, statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return connection.execute(statement).fetchall()


def test_both_connections_run_with_the_settings_durability_rests_on(path: Path) -> None:
    file = open_ledger_file(path, 0.0)
    assert file.writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert file.writer.execute("PRAGMA synchronous").fetchone() == (2,)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        file.reader.execute("DELETE FROM deliveries")
    file.close()


def test_setting_that_does_not_take_ends_the_start() -> None:
    with (
        closing(sqlite3.connect(":memory:")) as connection,
        pytest.raises(LedgerUnusable, match="journal_mode is 'memory'"),
    ):
        require_pragma(connection, "journal_mode", "WAL", "wal")


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o277])
async def test_no_other_user_can_read_it_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        ledger = SqliteLedger(tmp_path / "ledger.sqlite")
        await ledger.open()
        await ledger.open_attempt(ATTEMPT)
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
        await ledger.close()
    finally:
        os.umask(before)
    assert {"ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm", "ledger.sqlite.lock"} == modes.keys()
    assert all(mode & 0o077 == 0 for mode in modes.values())
    assert modes["ledger.sqlite"] == modes["ledger.sqlite-wal"] == 0o600


async def test_closing_leaves_no_log_behind(path: Path) -> None:
    assert {file.name for file in path.parent.iterdir()} == {"ledger.sqlite", "ledger.sqlite.lock"}


async def test_newer_version_is_refused_and_left_alone(path: Path) -> None:
    execute(path, "PRAGMA user_version = 99")
    content = path.read_bytes()
    with pytest.raises(LedgerUnusable, match="newer drainer"):
        await SqliteLedger(path).open()
    assert path.read_bytes() == content


async def test_foreign_sqlite_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "mailman.db"
    execute(path, "CREATE TABLE address (email)")
    content = path.read_bytes()
    with pytest.raises(LedgerUnusable, match="not a drainer ledger"):
        await SqliteLedger(path).open()
    assert path.read_bytes() == content


@pytest.mark.parametrize("content", [b"not a database at all, but text", b"\0" * 8192], ids=["text", "zeroes"])
async def test_file_of_another_kind_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(content)
    with pytest.raises(LedgerUnusable):
        await SqliteLedger(path).open()
    assert path.read_bytes() == content


@pytest.mark.parametrize("damage", ["truncated", "overwritten"])
async def test_damaged_file_is_refused(path: Path, damage: str) -> None:
    content = path.read_bytes()
    broken = content[: len(content) // 2] if damage == "truncated" else content[:4096] + os.urandom(len(content) - 4096)
    path.write_bytes(broken)
    with pytest.raises(LedgerUnusable, match="damaged"):
        await SqliteLedger(path).open()


async def test_start_killed_between_creating_and_filling_the_file_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.touch()
    ledger = SqliteLedger(path)
    await ledger.open()
    await ledger.close()
    assert execute(path, "PRAGMA application_id") == [(APPLICATION_ID,)]


async def test_second_drainer_is_refused_and_the_first_goes_on(path: Path) -> None:
    first = SqliteLedger(path)
    await first.open()
    with pytest.raises(LedgerUnusable, match="in use by another drainer"):
        await SqliteLedger(path).open()
    script = (
        "import asyncio, sys; from pathlib import Path; from drainer.ledger.sqlite import SqliteLedger\n"
        "asyncio.run(SqliteLedger(Path(sys.argv[1])).open())"
    )
    other = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False)
    assert other.returncode != 0
    assert "in use by another drainer" in other.stderr
    await first.count({"transactions": 1})
    await first.close()
    await first.open()
    assert (await first.totals()).get("transactions") == 2
    await first.close()


def test_migrations_are_numbered_without_a_gap() -> None:
    assert [step.number for step in migrations()] == list(range(1, len(migrations()) + 1))


async def test_migration_keeps_what_is_there_and_runs_once(path: Path) -> None:
    later = Migration(migrations()[-1].number + 1, ("CREATE TABLE later (id INTEGER PRIMARY KEY)",))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        assert migrate(connection, [*migrations(), later], path) == 1
        assert migrate(connection, [*migrations(), later], path) == 0
        assert connection.execute("SELECT count(*) FROM deliveries").fetchone() == (1,)
        assert connection.execute("PRAGMA user_version").fetchone() == (later.number,)


async def test_migration_that_fails_changes_nothing(path: Path) -> None:
    before = execute(path, "SELECT name FROM sqlite_master ORDER BY name")
    broken = Migration(migrations()[-1].number + 1, ("CREATE TABLE later (id)", "INSERT INTO nowhere VALUES (1)"))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection, pytest.raises(sqlite3.OperationalError):
        migrate(connection, [*migrations(), broken], path)
    assert execute(path, "SELECT name FROM sqlite_master ORDER BY name") == before
    ledger = SqliteLedger(path)
    await ledger.open()
    await ledger.close()


def test_states_in_sql_are_those_of_the_table(path: Path) -> None:
    assert dict(execute(path, "SELECT name, code FROM states")) == {state.value: code for state, code in CODES.items()}
    assert set(CODES) == set(State) - {State.PENDING}
    allowed = {}
    for table in ("deliveries", "waiting", "attempts", "dsns"):
        ((schema,),) = execute(path, f"SELECT sql FROM sqlite_master WHERE name = '{table}'")
        match = re.search(r"CHECK \(state IN \(([0-9, ]+)\)\)", str(schema))
        assert match, f"{table} does not check its states"
        allowed[table] = {int(code) for code in match[1].split(",")}
    assert allowed == {
        "deliveries": {CODES[state] for state in SETTLED},
        "waiting": {CODES[State.DEFERRED], CODES[State.HELD]},
        "attempts": {CODES[State.ATTEMPTING], CODES[State.IN_DOUBT]},
        "dsns": set(DSN_CODES.values()),
    }


async def test_file_deleted_while_in_use_is_written_anew_with_all_it_held(path: Path) -> None:
    ledger = SqliteLedger(path)
    await ledger.open()
    await ledger.keep({"before": b"1"})
    for file in list(path.parent.glob(f"{path.name}*")):
        file.unlink()
    await ledger.keep({"after": b"2"})
    assert not ledger.is_in_place
    await ledger.close()
    assert sorted(file.name for file in path.parent.glob(f"{path.name}*")) == [path.name]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    await ledger.open()
    assert [await ledger.kept(name) for name in ("before", "after")] == [b"1", b"2"]
    await ledger.close()


async def test_file_put_in_its_place_while_in_use_is_not_overwritten_and_the_other_one_is_named(path: Path) -> None:
    ledger = SqliteLedger(path)
    await ledger.open()
    await ledger.keep({"mine": b"1"})
    other = path.with_name("other")
    other.write_bytes(b"somebody else's")
    other.rename(path)
    with pytest.raises(LedgerUnusable, match=r"was replaced while in use: what was written down since is in .*saved-"):
        await ledger.close()
    assert path.read_bytes() == b"somebody else's"
    (saved,) = path.parent.glob(f"{path.name}.saved-*")
    saved.rename(path)
    await ledger.open()
    assert await ledger.kept("mine") == b"1"
    await ledger.close()
