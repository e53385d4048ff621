"""Checks of files, directories and groups that the settings name, for the user that runs the checks.

In    settings; directories that systemd creates at the start
Out   findings; nothing is created or changed
"""

from __future__ import annotations

import asyncio
import errno
import grp
import os
import re
import socket
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path

from drainer.errors import CustodyRefused, SettingsError, UsageError
from drainer.files.regular_file import open_regular
from drainer.guards.disk import Places, disk_guards
from drainer.guards.mta_spool import mta_spool
from drainer.host_check.finding import Finding
from drainer.queuedir.premises import Premises
from drainer.queuedir.scan import scan_queue
from drainer.secret_files import password_warnings, secret_in
from drainer.settings import Settings
from drainer.start.site import refuse_root_for_others
from drainer.text.quantities import tcp_address
from drainer.text.wording import count

_WEB_URL = re.compile(r"https?://[^\s/]+")


def files(settings: Settings, made: Sequence[str]) -> Iterator[Finding]:
    """Everything in the filesystem except files of Mailman and the MTA. made: as in runs_as.Unit."""
    yield from _queue(settings)
    yield from _ledger(settings, made)
    yield from _free(settings)
    yield from _socket(settings, made)
    yield from _web(settings)
    yield from _secrets(settings)
    yield from _notify(settings)


def _queue(settings: Settings) -> Iterator[Finding]:
    queue_dir, custody = settings.mailman.queue_dir, settings.custody
    try:
        refuse_root_for_others(queue_dir)
        Premises(queue_dir, custody.queues, custody.scope).check()
        waiting = [f"{count(sum(1 for _ in scan_queue(queue_dir / name)))} in {name}" for name in custody.queues]
    except (CustodyRefused, UsageError) as exc:
        yield Finding("error", "mailman.queue_dir", str(exc).removeprefix("queue_dir "))
    except OSError as exc:
        yield Finding("error", "mailman.queue_dir", f"{exc.filename}: {exc.strerror}")
    else:
        yield Finding("ok", "mailman.queue_dir", f"{queue_dir}, entries: {', '.join(waiting)}")


def _ledger(settings: Settings, made: Sequence[str]) -> Iterator[Finding]:
    path, queue_dir = settings.ledger.path, settings.mailman.queue_dir
    if _real(path).is_relative_to(_real(queue_dir)):
        why = f"{path} is inside mailman.queue_dir {queue_dir}, by a link; right would be another place"
        yield Finding("error", "ledger.path", why)
        return
    if why := _why_not_writable(path, made):
        yield Finding("error", "ledger.path", why)
        return
    there = _nearest(path)
    beside = ""
    if queue_dir.exists() and there.stat().st_dev == queue_dir.stat().st_dev:
        beside = "; on the queue's filesystem: when that is full, sending stops (README)"
    yield Finding("ok", "ledger.path", f"{path}{'' if path.exists() else ' will be created'}{beside}")


def _free(settings: Settings) -> Iterator[Finding]:
    guards = settings.guards
    mta, ledger = settings.mta, settings.ledger
    spool = asyncio.run(mta_spool(mta.queue, mta.queue_config, mta.queue_command))
    if spool.why:
        yield Finding("ok", "mta_spool_bytes", f"not visible: {spool.why}")
    places = Places(ledger.path, settings.mailman.queue_dir, ledger.state_dir, spool.directory)
    found = disk_guards(places, guards.min_free_bytes, guards.min_free_inodes)
    for guard in found:
        if guard.reason:
            stops = "; the service would not send until there is more" if guard.verdict == "stop" else ""
            yield Finding("warning", guard.name, guard.reason + stops)
    if not any(guard.reason for guard in found):
        yield Finding("ok", "disk", "bytes and inodes free for queue, ledger and spool are above guards.min_free_*")


def _socket(settings: Settings, made: Sequence[str]) -> Iterator[Finding]:
    path, group = settings.control.socket, settings.control.group
    if not path.parent.is_dir() and str(path.parent) not in made:
        yield Finding(
            "error", "control.socket", f"{path.parent} is not a directory; right would be RuntimeDirectory=drainer"
        )
    elif why := _why_not_writable(path, made):
        yield Finding("error", "control.socket", why)
    else:
        yield Finding("ok", "control.socket", str(path))
    if not group:
        return
    try:
        gid = int(group) if group.isascii() and group.isdigit() else grp.getgrnam(group).gr_gid
    except KeyError:
        yield Finding("error", "control.group", f"there is no group {group!r}; right would be one of `getent group`")
        return
    if os.geteuid() != 0 and gid not in {os.getegid(), *os.getgroups()}:
        why = (
            f"the user that the service runs as is not in group {group}, so it cannot give the socket to that group; "
            f"right would be SupplementaryGroups={group} in the unit"
        )
        yield Finding("error", "control.group", why)
    else:
        yield Finding("ok", "control.group", f"{group} may operate")


def _web(settings: Settings) -> Iterator[Finding]:
    if not (listen := settings.web.listen):
        return
    host, port = tcp_address(listen)
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as exc:
        if exc.errno == errno.EADDRINUSE and _answers(settings.control.socket):
            yield Finding("ok", "web.listen", f"{listen}: drainer listens there")
        else:
            yield Finding("error", "web.listen", f"cannot listen on {listen}: {exc.strerror or exc}")
    else:
        yield Finding("ok", "web.listen", listen)


def _secrets(settings: Settings) -> Iterator[Finding]:
    mta = settings.mta
    if mta.tls_ca_file is not None:
        why = unreadable(mta.tls_ca_file) or _why_no_certificates(mta.tls_ca_file)
        yield Finding("error" if why else "ok", "mta.tls_ca_file", why or str(mta.tls_ca_file))
    try:
        warned = [Finding("warning", "mta.password_file", said) for said in password_warnings(mta)]
    except SettingsError as exc:
        yield Finding("error", "mta.password_file", str(exc).removeprefix("mta.password_file "))
    else:
        yield from warned
        if mta.username and mta.password_file is not None and not warned:
            yield Finding("ok", "mta.password_file", str(mta.password_file))


def _why_no_certificates(path: Path) -> str:
    try:
        ssl.create_default_context(cafile=str(path))
    except (OSError, ssl.SSLError) as exc:
        return f"{path} cannot be used: {exc.strerror or exc}; right would be certificates in PEM"
    return ""


def _notify(settings: Settings) -> Iterator[Finding]:
    command, url_file = settings.notify.command, settings.notify.url_file
    if command:
        program = Path(command[0])
        if not program.is_file():
            yield Finding("error", "notify.command", f"there is no program {program}")
        elif not os.access(program, os.X_OK):
            yield Finding(
                "error", "notify.command", f"{program} may not be run by this user; right would be chmod a+rx"
            )
        else:
            yield Finding("ok", "notify.command", str(program))
    if url_file is None:
        return
    try:
        url = secret_in(url_file, "notify.url_file")
    except SettingsError as exc:
        yield Finding("error", "notify.url_file", str(exc).removeprefix("notify.url_file "))
    else:
        # Not the URL itself: it is a secret.
        right = f"its first line is {'the URL of a webhook' if _WEB_URL.match(url) else 'not a URL; right would be https://...'}"
        yield Finding("ok" if _WEB_URL.match(url) else "error", "notify.url_file", f"{url_file}: {right}")


def unreadable(path: Path) -> str:
    """Why a file cannot be read by this user, with what would be right; "" if it can."""
    try:
        if not path.exists():
            return f"there is no {path}"
        with open_regular(path):
            return ""
    except PermissionError:
        return f"{path} may not be read by user {os.geteuid()}; right would be its group in SupplementaryGroups= of the unit"
    except OSError as exc:
        return f"{path} cannot be read: {exc.strerror}"


def _why_not_writable(path: Path, made: Sequence[str]) -> str:
    """Why neither the file nor a new one in its directory can be written; "" if it can."""
    if path.is_dir():
        return f"{path} is a directory; right would be a file"
    if path.is_file() and not os.access(path, os.R_OK | os.W_OK):
        return f"{path} may not be written by user {os.geteuid()}; right would be a file of drainer's user"
    there = _nearest(path.parent)
    if str(path.parent) in made and not path.parent.exists():
        return ""
    if not there.is_dir():
        return f"{there} is not a directory"
    if not os.access(there, os.W_OK | os.X_OK):
        return f"{there} may not be written by user {os.geteuid()}; right would be a directory of drainer's user"
    return ""


def _nearest(path: Path) -> Path:
    """The path, or the nearest directory above it that exists."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2.0)
        try:
            probe.connect(os.fspath(path))
        except OSError:
            return False
    return True
