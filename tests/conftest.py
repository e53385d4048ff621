"""The genuine Mailman 3 that tests share; a test that changes it takes a copy.

It is built once for a run, by the worker that asks first; the others wait for it.
"""

from __future__ import annotations

import asyncio
import fcntl
import gc
import importlib
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from drainer.pickles.restricted import load_pair
from drainer.queuedir.entry import QueueEntry, entry_from_pickles
from tests.mailman3 import sample
from tests.mailman3.capture import Captured, capturing
from tests.mailman3.site import Site, mailman_python

_TESTS = Path(__file__).parent

LONGEST_FIRST = (
    "wire/",
    "packaged/",
    "scenarios/test_via_mailman",
    "bench/",
    "torture/",
    "crash/",
    "compose/test_mailman3_",
    "scenarios/test_hostile_scale",
    "scenarios/test_july_2014",
    "scenarios/test_mailman3_outage",
    "scenarios/",
    "demo/",
    "cli/",
    "report/",
    "control/",
)
"""Directories and files below tests/ that start processes, and what is left is short (pytest --durations=50 shows it)."""


def pytest_configure() -> None:
    """Processes that tests start keep what they compile, as those of an installed drainer do. Else each of the thousand
    compiles the whole of it again, for two thirds of its processor time.

    They also hear Ctrl-C. A shell that starts the suite in the background has it ignored, and every child inherits that.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Workers share the compiling of the tests: each begins with another part of the files, and finds the rest compiled.

    Else all of them compile all files at the same time, which took 11 s of processor time each.
    """
    gc.disable()
    worker = getattr(session.config, "workerinput", None)
    if worker is None or session.config.args != session.config.getini("testpaths"):
        return
    files = sorted(_TESTS.rglob("test_*.py"))
    first = len(files) * int(worker["workerid"].removeprefix("gw")) // worker["workercount"]
    for file in (*files[first:], *files[:first]):
        importlib.import_module(".".join(file.relative_to(_TESTS.parent).with_suffix("").parts))


def pytest_collection_finish() -> None:
    """What stays until the end of the run, modules and 4,000 tests, is looked through by no collection of garbage: those
    during and after the collecting of tests took a twentieth of a worker's processor time."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest come first: begun last, one of them would keep the run from ending when all else has."""
    items.sort(key=lambda item: _turn(item.path.relative_to(_TESTS).as_posix()))


def _turn(file: str) -> int:
    return next((turn for turn, name in enumerate(LONGEST_FIRST) if file.startswith(name)), len(LONGEST_FIRST))


def built_once(factory: pytest.TempPathFactory, name: str, build: Callable[[Path], None]) -> Path:
    """A directory that one worker of this run builds and all of them read; one left half built is built anew."""
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    directory, built = root / name, root / f"{name}.built"
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not built.exists():
            shutil.rmtree(directory, ignore_errors=True)
            build(directory)
            built.touch()
    return directory


@pytest.fixture(scope="session")
def mailman3_site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    python = mailman_python()

    def build(directory: Path) -> None:
        Site(directory, python, sample.MTA_SETTINGS).populate(
            sample.LISTS, sample.POSTS, sample.NOTICES, sample.POST_IDS
        )

    return Site.found(built_once(tmp_path_factory, "mailman3-site", build), python)


@pytest.fixture
def mailman3_copy(mailman3_site: Site, tmp_path: Path) -> Site:
    return mailman3_site.copy_to(tmp_path / "site")


@pytest.fixture(scope="session")
def mailman3_deliveries(mailman3_site: Site, tmp_path_factory: pytest.TempPathFactory) -> list[Captured]:
    """What Mailman's own outgoing runner delivered of the site's entries, on a copy of the site."""
    site = mailman3_site.copy_to(tmp_path_factory.mktemp("delivered"))
    site.restore_entries()

    async def delivered() -> list[Captured]:
        async with capturing() as capture:
            await asyncio.to_thread(site.run_outgoing_once, capture.port)
        return capture.captured

    captured = asyncio.run(delivered())
    assert not list(site.out.iterdir())
    return captured


@pytest.fixture
def entries(mailman3_site: Site) -> dict[str, list[QueueEntry]]:
    """The site's entries by list-id, posts before notices and other mail to few, oldest first."""
    found: dict[str, list[QueueEntry]] = {}
    for name, raw in mailman3_site.entries.items():
        entry = entry_from_pickles(name[:-4], raw, load_pair(raw))
        found.setdefault(entry.list_id, []).append(entry)
    return {list_id: sorted(of_list, key=lambda item: -len(item.recipients)) for list_id, of_list in found.items()}
