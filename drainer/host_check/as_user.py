"""Runs checks as the user that the service runs as: root starts a child process that becomes that user.

In    settings; drainer.service, if it is installed; the user database
Out   the user that the checks ran as, and their findings
"""

from __future__ import annotations

import grp
import json
import os
import pwd
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass
from pathlib import Path

from drainer.errors import SettingsError
from drainer.files.regular_file import read_regular
from drainer.host_check.finding import Finding
from drainer.host_check.runs_as import Unit, unit_of

UNIT = "drainer.service"
UNIT_DIRECTORIES = tuple(
    map(
        Path, ("/usr/lib/systemd/system", "/usr/local/lib/systemd/system", "/run/systemd/system", "/etc/systemd/system")
    )
)
"""The unit in the last directory counts, and the drop-ins in all. Source  systemd.unit(5), "Unit File Load Path"."""


@dataclass(frozen=True, slots=True)
class RunsAs:
    """why: how this is known."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    name: str
    why: str


def installed_unit(directories: Sequence[Path] = UNIT_DIRECTORIES) -> Unit:
    """The unit on this host; an empty Unit if there is none."""
    units = [directory / UNIT for directory in directories if (directory / UNIT).is_file()]
    drop_ins = sorted(
        (path for directory in directories for path in (directory / f"{UNIT}.d").glob("*.conf")),
        key=lambda path: path.name,
    )
    texts = []
    for path in (*units[-1:], *drop_ins):
        with suppress(OSError):
            texts.append(read_regular(path, _MOST_UNIT_BYTES).decode("utf-8", "replace"))
    return unit_of(texts)


_MOST_UNIT_BYTES = 2**20


def runs_as(unit: Unit, queue_dir: Path) -> RunsAs:
    """The user that the service runs as, as far as it can be known. Raises SettingsError if user or group do not exist."""
    if os.geteuid() != 0:
        return _me()
    if unit.user:
        return _user(unit.user, unit, f"User= of {UNIT}")
    with suppress(OSError):
        owner = queue_dir.stat()
        with suppress(KeyError):
            return _user(pwd.getpwuid(owner.st_uid).pw_name, Unit(), f"owner of {queue_dir}")
        return RunsAs(owner.st_uid, owner.st_gid, (owner.st_gid,), f"#{owner.st_uid}", f"owner of {queue_dir}")
    return _me()


def somebody_else(user: RunsAs, unit: Unit, queue_dir: Path) -> Iterator[Finding]:
    """A warning if the caller is neither root nor the service's user: it may have other permissions."""
    if os.geteuid() == 0:
        return
    name, why = unit.user, f"User= of {UNIT}"
    if not name:
        with suppress(OSError, KeyError):
            name, why = pwd.getpwuid(queue_dir.stat().st_uid).pw_name, f"owner of {queue_dir}"
    if name and name not in (user.name, str(user.uid)):
        said = (
            f"you are {user.name}, and the service runs as {name} ({why}); right would be to check as root or as {name}"
        )
        yield Finding("warning", "user", said)


def looked(user: RunsAs, look: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """The findings of `look`, called as that user. Only root can become another user."""
    if user.uid == os.geteuid():
        return list(look())
    reading, writing = os.pipe()
    sys.stdout.flush()
    if not (pid := os.fork()):
        _look_and_leave(user, look, reading, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        said = answer.read()
    _, status = os.waitpid(pid, 0)
    if status:
        return [Finding("error", f"user {user.name}", "the checks as this user did not end; the error is above")]
    return [Finding(*one) for one in json.loads(said)]


def _look_and_leave(user: RunsAs, look: Callable[[], Iterable[Finding]], reading: int, writing: int) -> None:
    """Runs in the child process, and does not return."""
    status = 1
    try:
        os.close(reading)
        os.setgroups(user.groups)
        os.setgid(user.gid)
        os.setuid(user.uid)
        found = json.dumps([astuple(one) for one in _readable(user, look)])
        with os.fdopen(writing, "wb") as answer:
            answer.write(found.encode())
        status = 0
    except BaseException:  # noqa: BLE001 - the child reports every error
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


def _readable(user: RunsAs, look: Callable[[], Iterable[Finding]]) -> list[Finding]:
    try:
        return list(look())
    except ImportError as exc:
        # Modules that root has loaded are there; this user must be able to read the others.
        why = f"may not read drainer's own files ({exc}); right would be a directory open to that user, such as /opt/drainer"
        return [Finding("error", f"user {user.name}", why)]


def _me() -> RunsAs:
    uid = os.geteuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = f"#{uid}"
    return RunsAs(uid, os.getegid(), tuple(os.getgroups()), name, "the caller")


def _user(name: str, unit: Unit, why: str) -> RunsAs:
    try:
        found = pwd.getpwuid(int(name)) if name.isdecimal() else pwd.getpwnam(name)
    except KeyError:
        raise SettingsError(
            f"{why}: there is no user {name!r} here; right would be the user that Mailman runs as"
        ) from None
    gid = _gid(unit.group) if unit.group else found.pw_gid
    groups = {*os.getgrouplist(found.pw_name, gid), *map(_gid, unit.supplementary)}
    return RunsAs(found.pw_uid, gid, tuple(sorted(groups)), found.pw_name, why)


def _gid(name: str) -> int:
    try:
        return int(name) if name.isdecimal() else grp.getgrnam(name).gr_gid
    except KeyError:
        raise SettingsError(f"{UNIT}: there is no group {name!r} here; right would be one of `getent group`") from None
