"""The control socket's file: whether its path is free, and a socket that listens under it.

In    the path, the group that may operate
Out   a listening socket, mode 0660
Raises  RequestRefused when another service answers there; SettingsError when the path cannot be listened on;
        NoRoomForSocket when its filesystem is full
"""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import socket
import stat
from pathlib import Path

from drainer.errors import NoRoomForSocket, RequestRefused, SettingsError
from drainer.files.access import and_advice, membership_advice

SOCKET_MODE = 0o660
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EIO}
_LIVE_CHECK_S = 2.0


def refuse_unless_free(path: Path) -> None:
    """Raises RequestRefused when a service answers on `path`, SettingsError when something else is there."""
    try:
        there = path.lstat()
    except FileNotFoundError:
        return
    except OSError as exc:
        raise _cannot_listen(path, exc) from exc
    if not stat.S_ISSOCK(there.st_mode):
        raise SettingsError(f"control.socket = {str(path)!r}: there is a file that is no socket; move it away first")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_LIVE_CHECK_S)
        try:
            probe.connect(os.fspath(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return
        except OSError as exc:
            # It may be alive (no permission, a full accept queue): replacing it could hide a live service.
            raise RequestRefused(
                f"{path} may belong to a drainer that is running ({exc.strerror or exc}); stop that one first"
            ) from exc
    raise RequestRefused(
        f"another drainer answers on {path}; stop that one first, or set control.socket to another path"
    )


def group_id(group: str) -> int:
    """-1 where none is named: leave it as it is. Raises SettingsError."""
    if not group:
        return -1
    try:
        return int(group) if group.isascii() and group.isdigit() else grp.getgrnam(group).gr_gid
    except KeyError as exc:
        raise SettingsError(
            f"control.group = {group!r}: there is no such group; right would be one of `getent group`"
        ) from exc


def listening_socket(path: Path, group_id: int) -> socket.socket:
    """A socket listening under `path`.

    It is bound under another name, then renamed: under `path` there is never a socket that does not listen yet, or has
    another mode. fchmod before bind: otherwise the mode would be too wide for a moment under umask 0.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        beside.unlink(missing_ok=True)
        os.fchmod(listening.fileno(), SOCKET_MODE)
        listening.bind(os.fspath(beside))
        _give_to_group(beside, group_id)
        beside.chmod(SOCKET_MODE)
        listening.listen(64)
        listening.setblocking(False)
        beside.replace(path)
    except (OSError, SettingsError) as exc:
        listening.close()
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        if isinstance(exc, SettingsError):
            raise
        raise _cannot_listen(path, exc) from exc
    return listening


def _give_to_group(path: Path, group_id: int) -> None:
    try:
        os.chown(path, -1, group_id)
    except (PermissionError, OverflowError) as exc:
        raise SettingsError(
            f"control.group: the socket cannot be given to group {group_id}: {membership_advice(group_id).text()}"
        ) from exc


def _cannot_listen(path: Path, exc: OSError) -> SettingsError | NoRoomForSocket:
    said = exc.strerror or str(exc)
    if exc.errno in _NO_ROOM:
        return NoRoomForSocket(
            f"control.socket = {str(path)!r}: cannot listen there: {said}; `drainer` commands get no answer"
        )
    if exc.errno == errno.ENOENT:
        said = f"{path.parent} does not exist; create it (systemd does with RuntimeDirectory=drainer)"
    else:
        said += and_advice(path.parent, writing=True)
    return SettingsError(f"control.socket = {str(path)!r}: cannot listen there: {said}")
