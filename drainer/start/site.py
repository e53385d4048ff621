"""The site as the service finds it when it starts: the owner of the queue, the Mailman that wrote it, the directories.

In    settings, the queue directory
Out   the flavour to compose for; directories made
Raises  UsageError, SettingsError, CustodyRefused: the start ends, and nothing was touched
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import pwd
from collections import Counter
from pathlib import Path

from drainer.errors import CustodyRefused, EntryError, SettingsError, UsageError
from drainer.files.access import advice_for, and_advice
from drainer.files.fsync import make_directories
from drainer.guards.beside_runner import refusal, wanted_by
from drainer.guards.mailman_processes import mailman_processes
from drainer.mta_log.file import is_journal, journal_files
from drainer.queuedir.custody import Custody
from drainer.queuedir.entry import Flavour
from drainer.queuedir.loan import Loan
from drainer.queuedir.read import read_entry
from drainer.queuedir.scan import scan_queue
from drainer.settings import Settings
from drainer.settings.ledger import LedgerSettings
from drainer.settings.mailman import MailmanSettings
from drainer.text.logfmt import logfmt
from drainer.text.wording import count

log = logging.getLogger("drainer")

_LOOKED_AT_FOR_FLAVOUR = 50
_LEDGER_DIRECTORY_MODE = 0o750


def refuse_root_for_others(queue_dir: Path) -> None:
    """Raises UsageError for root on the queue of another user.

    What we make would be root's (ledger, lock, socket), and what Mailman's own code makes in the co-process too: its
    logs and locks, which its runners could not write any more.
    """
    with contextlib.suppress(OSError):
        owner = queue_dir.stat().st_uid
        if os.geteuid() == 0 and owner != 0:
            try:
                name = pwd.getpwuid(owner).pw_name
            except KeyError:
                name = f"#{owner}"
            raise UsageError(
                f"{queue_dir} belongs to user {name}, and files made by root would be in Mailman's way; right would be to "
                f"run drainer as that user (User={name} in the unit, or: setpriv --reuid {owner} --regid "
                f"{queue_dir.stat().st_gid} --init-groups drainer run)"
            )


def refuse_beside_runner(settings: Settings, flavour: Flavour) -> None:
    """Raises UsageError where Mailman's own outgoing runner works on out/, and no setting wants it there."""
    if wanted_by(settings):
        return
    mailman = settings.mailman
    if runners := mailman_processes(mailman.queue_dir, mailman.config).delivering(flavour):
        raise UsageError(refusal(runners, flavour, mailman.queue_dir))


def prepare(custody: Custody, loan: Loan, ledger: LedgerSettings) -> None:
    """Custody, also where the queue's filesystem has no inode left for our directories. Raises CustodyRefused."""
    try:
        custody.prepare()
    except CustodyRefused as exc:
        has_no_room = isinstance(exc.__cause__, OSError) and exc.__cause__.errno in (errno.ENOSPC, errno.EDQUOT)
        if not has_no_room:
            raise
        make_ledger_directories(ledger)
        if not (lent := loan.make_room()):
            raise
        log.warning(logfmt(event="loan", entries=lent, place=loan.place, why=exc))
        custody.prepare()


def out_of_reach(settings: Settings) -> list[str]:
    """Files the settings name that are there and may not be read, a sentence each with what would be right.

    These do not end the start. Without this warning they are found too late: a log is read only for a recipient in doubt.
    """
    mta, notify = settings.mta, settings.notify
    named = {
        "mta.log_file": mta.log_file,
        "mta.tls_ca_file": mta.tls_ca_file,
        "mta.queue_config": mta.queue_config,
        "mailman.smtp_log": settings.mailman.smtp_log,
        "notify.url_file": notify.url_file,
        "notify.command": Path(notify.command[0]) if notify.command else None,
    }
    found = []
    for name, path in named.items():
        if path is None:
            continue
        advice = next(filter(None, map(advice_for, journal_files(path) if is_journal(path) else [path])), None)
        if advice is not None:
            found.append(f"{name} = {str(path)!r} cannot be read: {advice.in_one_line()}")
    return found


def made_index_directory(settings: LedgerSettings) -> Path:
    """Beside the ledger, 0700. The same at every start, so that a killed service's index is replaced, not added to: one that
    the kernel kills again and again would else fill the ledger's disk. The ledger's lock keeps others out of it."""
    directory = settings.index_directory
    directory.mkdir(mode=0o700, exist_ok=True)
    directory.chmod(0o700)
    return directory


def make_ledger_directories(settings: LedgerSettings) -> None:
    """Those of the ledger and its state, if they are missing; durable, or the ledger would be lost with its own. Raises
    SettingsError."""
    wanted = {f"ledger.path = {str(settings.path)!r}": settings.path.parent}
    if settings.state_dir is not None:
        wanted[f"ledger.state_dir = {str(settings.state_dir)!r}"] = settings.state_dir
    for setting, directory in wanted.items():
        try:
            make_directories(directory, _LEDGER_DIRECTORY_MODE)
        except OSError as exc:
            advice = and_advice(directory, writing=True)
            raise SettingsError(f"{setting}: cannot make {directory}: {exc.strerror}{advice}") from exc


def flavour_of(mailman: MailmanSettings, composes: bool) -> Flavour:
    """Which Mailman wrote the queue: as the settings say, else as most of its first entries do. Reads files.

    composes  whether we compose ourselves, and so only for one of the two
    Raises  SettingsError where nothing of what waits could be composed
    """
    found = _flavours(mailman.queue_dir, "drainer/backlog", "out", "retry")
    flavour = Flavour(mailman.flavour) if mailman.flavour != "auto" else _likely(mailman, found)
    if composes:
        _object_to_others(mailman.queue_dir, flavour, found)
    return flavour


def _flavours(queue_dir: Path, *directories: str) -> Counter[Flavour]:
    """Which Mailman wrote the first entries in these directories of the queue, as far as they can be read."""
    found, looked_at = Counter[Flavour](), 0
    for name in directories:
        directory = queue_dir / name
        for listed in scan_queue(directory) if directory.is_dir() else ():
            with contextlib.suppress(EntryError, OSError):
                found[read_entry(directory / listed.file.name).flavour] += 1
            looked_at += 1
            if looked_at >= _LOOKED_AT_FOR_FLAVOUR:
                return found
    return found


def _likely(mailman: MailmanSettings, found: Counter[Flavour]) -> Flavour:
    """As most entries say; of an empty queue, as the site looks."""
    if found := found or _flavours(mailman.queue_dir, "drainer/held", "shunt"):
        return found.most_common(1)[0][0]
    return Flavour.MAILMAN2 if mailman.lists_dir.is_dir() else Flavour.MAILMAN3


def _object_to_others(queue_dir: Path, flavour: Flavour, found: Counter[Flavour]) -> None:
    """Raises SettingsError where nothing of what waits could be composed."""
    others = found.total() - found[flavour]
    other = next((one for one in found if one is not flavour), None)
    if other is None:
        return
    what = (
        f"{others} of the first {count(found.total(), 'entry', 'entries')} in {queue_dir} were "
        f"written by {other.product}"
    )
    if others == found.total():
        raise SettingsError(
            f'mailman.flavour = "{flavour}", but {what}; right would be "{other}", with what that needs '
            "([mailman] lists_dir for 2.1; python and config for 3)"
        )
    detail = f"{what}, the others by {flavour.product}: those will be held, since only the others can be composed"
    log.warning(logfmt(event="flavour", detail=detail))
