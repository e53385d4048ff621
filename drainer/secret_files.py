"""Secrets in files, such as the password for AUTH; and how they are kept out of messages and logs.

In    a setting that names a file; a server's reply
Out   the first line of the file; the reply without the password
Raises    SettingsError for a file that cannot be read or that every user may read
Not here  the AUTH command itself (aiosmtplib)

The password is read again for each session, so that a changed password needs no restart.
"""

from __future__ import annotations

import base64
import ipaddress
import os
import stat
from pathlib import Path

from drainer.errors import SettingsError
from drainer.files.access import and_advice
from drainer.files.regular_file import open_regular
from drainer.settings.mta import MtaSettings

_EVERYBODY = stat.S_IRWXO
_GROUP = stat.S_IRWXG
_HIDDEN = "(hidden)"
_LONGEST_BYTES = 4096


def password(path: Path | None) -> str:
    """The first line of the file; "" for None. Raises SettingsError as `secret_in` does."""
    return "" if path is None else secret_in(path, "mta.password_file")


def secret_in(path: Path, setting: str) -> str:
    """The first line of a file that a setting names.

    Raises   SettingsError: it cannot be read, is not text, or every user of this machine may read or write it
    """
    try:
        with open_regular(path) as file:
            _refuse_exposed(path, setting, os.fstat(file.fileno()).st_mode)
            return file.readline(_LONGEST_BYTES).rstrip(b"\r\n").decode()
    except OSError as exc:
        raise SettingsError(f"{setting} {path} cannot be read: {exc.strerror}{and_advice(path)}") from exc
    except UnicodeDecodeError:
        # Without the cause, which contains the octets.
        raise SettingsError(f"{setting} {path} is not UTF-8 text") from None


def password_warnings(settings: MtaSettings) -> list[str]:
    """Warnings about how the password is kept or sent, one sentence each. Raises SettingsError as `password` does."""
    if not settings.username:
        return []
    found = []
    path = settings.password_file
    password(path)
    if path is not None and path.stat().st_mode & _GROUP:
        found.append(f"mta.password_file {path} may be read or written by its group; right would be chmod 0600")
    if settings.tls == "none" and not _is_this_machine(settings.host):
        found.append(f'mta.tls = "none": the password goes to {settings.host} in the clear; right would be "starttls"')
    return found


def without_secrets(text: str, username: str, secret: str) -> str:
    """A server's reply without the password, in any form in which AUTH sends it: the reply may repeat the command."""
    forms = {
        secret,
        *(_base64(sent) for sent in (secret, f"\0{username}\0{secret}", f"{username}\0{username}\0{secret}")),
    }
    for form in sorted(forms - {""}, key=len, reverse=True):
        text = text.replace(form, _HIDDEN)
    return text


def _refuse_exposed(path: Path, setting: str, mode: int) -> None:
    if mode & _EVERYBODY:
        raise SettingsError(
            f"{setting} {path} has mode {stat.S_IMODE(mode):04o}, so every user of this machine may read or "
            "write it; right would be chmod 0600, owned by the user that drainer runs as, and a new secret"
        )


def _base64(text: str) -> str:
    return base64.b64encode(text.encode("utf-8", "surrogateescape")).decode("ascii")


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
