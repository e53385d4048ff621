"""Whatever lies where a file is expected: it is named, and nothing waits for it."""

from __future__ import annotations

import ast
import asyncio
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from drainer.blocking import InTime
from drainer.clock import SystemClock
from drainer.compose.list_settings import ListSettingsStore
from drainer.errors import (
    CustodyRefused,
    DrainerError,
    EntryNotUnderstood,
    ListConfigUnreadable,
    MtaLogUnreadable,
    MtaRefusesLogin,
    SettingsError,
)
from drainer.feed.connect import _tls_context
from drainer.files.regular_file import NotRegular, TooLarge, open_regular, read_regular
from drainer.guards.mailman_processes import configured_queue_dir
from drainer.ledger.sqlite_file import open_ledger_file
from drainer.mta_log.file import read_mta_log, text_lines
from drainer.queuedir.custody import Custody
from drainer.queuedir.read import read_file
from drainer.report.incident.from_ledger import read_account
from drainer.secret_files import secret_in
from drainer.settings.ledger import LedgerSettings
from drainer.settings_file import load_settings
from tests.queuedir.conftest import make_queue_dir

PACKAGE = Path(__file__).parents[2] / "drainer"


def fifo(path: Path) -> str:
    os.mkfifo(path)
    return "FIFO"


def listening(path: Path) -> str:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))
    return "socket"


def directory(path: Path) -> str:
    path.mkdir()
    return "directory"


def device(path: Path) -> str:
    path.symlink_to("/dev/zero")
    return "device"


KINDS = [fifo, listening, directory, device]
_Reader = Callable[[Path], object]


def queue_lock(path: Path) -> None:
    path.rename(path.with_name("moved"))
    queue_dir = make_queue_dir(path.with_name("queue"))
    Custody(queue_dir, clock=SystemClock()).prepare()
    (queue_dir / "drainer" / "lock").unlink()
    path.with_name("moved").rename(queue_dir / "drainer" / "lock")
    Custody(queue_dir, clock=SystemClock()).prepare()


def ledger_lock(path: Path) -> None:
    path.rename(path.with_name("ledger.lock"))
    open_ledger_file(path.with_name("ledger"), 0.0)


READERS: dict[str, tuple[_Reader, type[Exception]]] = {
    "entry": (read_file, EntryNotUnderstood),
    "list": (lambda path: ListSettingsStore(path.parent.parent).get(path.parent.name), ListConfigUnreadable),
    "password": (lambda path: secret_in(path, "mta.password_file"), SettingsError),
    "webhook": (lambda path: secret_in(path, "notify.url_file"), SettingsError),
    "certificates": (_tls_context, MtaRefusesLogin),
    "settings": (load_settings, SettingsError),
    "log": (lambda path: read_mta_log(path, 0.0, 1.0), MtaLogUnreadable),
    "log to import": (lambda path: list(text_lines(path)), MtaLogUnreadable),
    "ledger": (lambda path: open_ledger_file(path, 0.0), DrainerError),
    "ledger's lock": (ledger_lock, DrainerError),
    "ledger of a report": (lambda path: read_account(LedgerSettings(path=path), None), DrainerError),
    "queue's lock": (queue_lock, CustodyRefused),
}


@pytest.mark.parametrize("put", KINDS)
@pytest.mark.parametrize("name", READERS)
def test_what_is_no_regular_file_is_named_and_not_waited_for(
    tmp_path: Path, name: str, put: Callable[[Path], str]
) -> None:
    read, refused = READERS[name]
    path = tmp_path / "choir" / "config.pck"
    path.parent.mkdir()
    kind = put(path)
    if put is device and name in ("entry", "list", "queue's lock", "ledger's lock"):
        kind = "regular file|symbolic link|Too many levels"  # no link is followed where Mailman's user may write
    with pytest.raises(refused, match=kind):
        read(path)


@pytest.mark.parametrize("packed", [".gz", ".xz", ".bz2", ".zst"])
def test_packed_log_is_no_way_round(tmp_path: Path, packed: str) -> None:
    log = tmp_path / f"mail.log{packed}"
    os.mkfifo(log)
    with pytest.raises(MtaLogUnreadable, match="FIFO"):
        list(text_lines(log))


def test_mailmans_own_settings_that_are_a_fifo_say_nothing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "mailman.cfg")
    assert configured_queue_dir(tmp_path / "mailman.cfg") is None


def test_file_of_more_than_is_read_is_refused_with_both_sizes(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(TooLarge, match="1099511627776 bytes, more than the 1000"):
        read_regular(tmp_path / "sparse", 1000)


def test_link_is_followed_only_where_that_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"x")
    (tmp_path / "link").symlink_to("real")
    with open_regular(tmp_path / "link") as file:
        assert file.read() == read_regular(tmp_path / "link", 9) == b"x"
    with pytest.raises(NotRegular, match="symbolic link"):
        open_regular(tmp_path / "link", follow=False)


@pytest.mark.parametrize("name", ["drainer", "drainer/held", "drainer/backlog", "drainer/duplicates"])
@pytest.mark.parametrize("other", ["link", "file"])
def test_custody_directory_that_is_a_link_or_no_directory_is_refused(tmp_path: Path, name: str, other: str) -> None:
    """A link may lead into a directory that somebody else can write, or into Mailman's own."""
    queue_dir = make_queue_dir(tmp_path / "queue")
    ours = queue_dir / name
    ours.parent.mkdir(exist_ok=True)
    (tmp_path / "elsewhere").mkdir()
    if other == "link":
        ours.symlink_to(tmp_path / "elsewhere")
    else:
        ours.touch()
    with pytest.raises(CustodyRefused, match="symbolic link" if other == "link" else "no directory"):
        Custody(queue_dir, clock=SystemClock()).prepare()
    assert not list((tmp_path / "elsewhere").iterdir())


OPENED_OTHERWISE = {
    "files/regular_file": "here it is done",
    "files/fsync": "directories only (O_DIRECTORY), to sync them",
    "queuedir/premises": "the lock, looked at by kind_of; what we make ourselves, with O_EXCL",
    "queuedir/moves": "what we write ourselves, with O_NONBLOCK",
    "queuedir/loan": "a directory only (O_DIRECTORY), to lock it",
    "ledger/sqlite_file": "the lock and a new ledger (O_EXCL), looked at by kind_of; migrations of the package",
    "report/notify": "a file in memory (memfd_create)",
    "compose/coprocess/serve": "its own pipes, /dev/null",
    "compose/coprocess/readonly": "Mailman's database, found to be a regular file before Mailman itself opens it",
    "compose/mailman3_coprocess": "its own pipe from the co-process",
    "control/web": "files of the package",
    "cli/report": "page.css of the package; the report itself, with O_EXCL",
    "cli/check_measures": "/proc/1/cmdline",
    "start/build_in_use": "files of the package",
    "without_service/reason": "/proc/locks",
    "host_check/as_user": "its own pipe to the child that looks",
    "guards/machine": "/proc/pressure",
    "guards/mailman_processes": "/proc/PID/cmdline",
    "destinations/command": "its own pipe from the command",
    "files/access": "of /proc/self: cgroup, mountinfo, status",
    "demo/sink_state": "the tour's own files", "demo/tour": "the tour's own files",
}  # fmt: skip


def test_every_file_is_opened_in_one_place_or_is_listed_with_its_reason() -> None:
    found: dict[str, list[str]] = {}
    for file in PACKAGE.rglob("*.py"):
        module = file.relative_to(PACKAGE).with_suffix("").as_posix()
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and _opens(node):
                found.setdefault(module, []).append(f"line {node.lineno}: {ast.unparse(node)[:60]}")
    assert {name: calls for name, calls in found.items() if name not in OPENED_OTHERWISE} == {}
    assert not set(OPENED_OTHERWISE) - set(found), "nothing is opened there any more"


def _opens(call: ast.Call) -> bool:
    named = ast.unparse(call.func)
    if named in ("open", "io.open", "os.open", "os.fdopen", "gzip.open", "lzma.open", "bz2.open"):
        return True
    if not isinstance(call.func, ast.Attribute):
        return False
    if call.func.attr in ("read_text", "read_bytes"):
        return True
    given = [*call.args, *(keyword.value for keyword in call.keywords)]
    return call.func.attr == "open" and any(
        isinstance(value, ast.Constant) and isinstance(value.value, str) and set(value.value) <= set("rwxabt+-utf8sig")
        for value in given
    )


async def test_question_that_hangs_costs_one_thread_and_not_the_end_of_the_process() -> None:
    asking, hung = InTime[int](0.01), threading.Event()
    before = threading.active_count()
    for _ in range(50):
        with pytest.raises(TimeoutError):
            await asking.ask("choir", lambda: hung.wait() or 1)
    assert threading.active_count() == before + 1
    assert all(thread.daemon for thread in threading.enumerate() if thread.name == "asks choir")
    asking.limit_s = 60.0
    later = asyncio.create_task(asking.ask("choir", lambda: 2))
    assert await asking.ask("band", lambda: 3) == 3
    hung.set()
    assert await later is True, "who asks again waits for the answer that is on its way"
    assert await asking.ask("choir", lambda: 4) == 4
