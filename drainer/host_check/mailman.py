"""Checks of Mailman: which one it is, whether it can compose, its lists and logs, its runner.

In    settings; the queue, Mailman's processes, a co-process that is started and ended again
Out   findings
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from drainer.compose.known_lists import KnownLists
from drainer.compose.list_settings import extended_lists, what_extensions_mean
from drainer.compose.mailman2_site import site_settings
from drainer.compose.mailman3 import Mailman3Composer
from drainer.errors import ComposerUnavailable, SettingsError
from drainer.feed.named_lists import names_in, with_hint
from drainer.guards.beside_runner import wanted_by
from drainer.guards.mailman import HOW_TO_STOP_RUNNER
from drainer.guards.mailman_processes import MailmanProcesses, mailman_processes
from drainer.host_check.files import unreadable
from drainer.host_check.finding import Finding
from drainer.mta_log.file import text_lines
from drainer.mta_log.mailman_smtp_log import is_mailman_line
from drainer.queuedir.entry import Flavour
from drainer.queuedir.list_names import trouble_with
from drainer.settings import Settings
from drainer.start.site import flavour_of
from drainer.text.wording import count

_LINES_LOOKED_AT = 2000


def mailman(settings: Settings) -> Iterator[Finding]:
    """Which Mailman it is, and the checks for that one."""
    try:
        flavour = flavour_of(settings.mailman, settings.feed.via == "smtp")
    except SettingsError as exc:
        yield Finding("error", "mailman.flavour", str(exc).removeprefix("mailman.flavour = "))
        return
    except OSError as exc:
        yield Finding("error", "mailman.flavour", f"{exc.filename}: {exc.strerror}")
        return
    yield Finding("ok", "mailman.flavour", f"{flavour.product}")
    if settings.feed.via == "smtp":
        yield from _mailman3(settings) if flavour is Flavour.MAILMAN3 else _mailman2(settings)
    found = mailman_processes(settings.mailman.queue_dir, settings.mailman.config)
    yield from runner(settings, found, flavour)
    yield from _lists_named(settings, flavour)
    yield from _smtp_log(settings.mailman.smtp_log)


def _mailman3(settings: Settings) -> Iterator[Finding]:
    python, config = settings.mailman.python, settings.mailman.config
    if not python.is_file() or not os.access(python, os.X_OK):
        yield Finding("error", "mailman.python", f"{python} is not a program that this user may run; {_RIGHT_PYTHON}")
        return
    if config is not None and (why := unreadable(config)):
        yield Finding("error", "mailman.config", f"{why}; right would be Mailman's mailman.cfg")
        return
    try:
        yield asyncio.run(_composes(settings))
    except ComposerUnavailable as exc:
        yield Finding("error", "mailman.python", str(exc))
    except SettingsError as exc:
        yield Finding("error", "mailman.config", str(exc))


_RIGHT_PYTHON = (
    "right would be the Python that can `import mailman`, such as /usr/bin/python3 or /opt/mailman/bin/python"
)


async def _composes(settings: Settings) -> Finding:
    ours = settings.mailman
    composer = Mailman3Composer(ours.python, ours.config, 1, settings.feed.max_recipients, ours.remember)
    try:
        await composer.start()
        composer.require_queue_dir(ours.queue_dir)
    finally:
        await composer.close()
    said = composer.versions
    assert said is not None, "it has started"
    where = f"{said.config or 'its own mailman.cfg'}, Python {said.python}"
    return Finding("ok", "mailman.python", f"Mailman {said.mailman} composes, with {where}")


def _mailman2(settings: Settings) -> Iterator[Finding]:
    directory = settings.mailman.lists_dir
    try:
        site_settings(settings.mailman.settings)
        lists = sorted(path for path in directory.iterdir() if path.is_dir())
    except SettingsError as exc:
        yield Finding("error", "mailman.settings", str(exc))
        return
    except OSError as exc:
        yield Finding(
            "error",
            "mailman.lists_dir",
            f"{directory}: {exc.strerror}; right would be the directory that holds LIST/config.pck",
        )
        return
    configs = [path / "config.pck" for path in lists]
    closed = [path for path in configs if not os.access(path, os.R_OK)]
    if not configs or len(closed) == len(configs):
        why = f"{directory} has no list with a config.pck that this user may read; right would be Mailman's lists/"
        yield Finding("error", "mailman.lists_dir", why)
    elif closed:
        why = (
            f"{count(len(closed))} of {count(len(configs), 'list')} in {directory} cannot be read, such as {closed[0]}"
        )
        yield Finding("warning", "mailman.lists_dir", why)
    else:
        yield Finding("ok", "mailman.lists_dir", f"{directory}, {count(len(configs), 'list')}")
    if extended := extended_lists(directory):
        yield Finding("warning", "mailman.lists_dir", what_extensions_mean(extended))


def runner(settings: Settings, found: MailmanProcesses, flavour: Flavour) -> Iterator[Finding]:
    """Mailman's own outgoing runner: running but not wanted, or wanted but not running."""
    there = ", ".join(str(one.pid) for one in found.delivering(flavour))
    wanted = wanted_by(settings)
    if there and not wanted:
        why = f"drainer does not start beside Mailman's outgoing runner (pid {there}). {HOW_TO_STOP_RUNNER[flavour]}"
        yield Finding("error", "custody.beside_runner", why)
    elif not there and settings.feed.via == "mailman":
        yield Finding("warning", "feed.via", found.why_nothing_is_delivered)
    elif there:
        yield Finding("ok", "Mailman's outgoing runner", f"runs (pid {there}), as {wanted} requires")
    else:
        yield Finding("ok", "Mailman's outgoing runner", "does not run beside drainer")


def _lists_named(settings: Settings, flavour: Flavour) -> Iterator[Finding]:
    lists = KnownLists(settings.mailman, flavour)
    named = names_in(settings.feed)
    named += [("mailman.release_lists", name) for name in settings.mailman.release_lists]
    for about, name in named:
        known = lists.all((), name)
        if known and (trouble := trouble_with(name, known)):
            yield Finding("warning", about, with_hint(about, name, trouble))


def _smtp_log(log: Path | None) -> Iterator[Finding]:
    if log is None:
        return
    if why := unreadable(log):
        yield Finding("error", "mailman.smtp_log", why)
        return
    lines = list(islice(text_lines(log), _LINES_LOOKED_AT))
    if lines and not any(map(is_mailman_line, lines)):
        why = f"{log}: none of its first {count(len(lines), 'line')} is Mailman's; right would be smtp.log (2.1: logs/smtp)"
        yield Finding("error", "mailman.smtp_log", why)
    else:
        yield Finding("ok", "mailman.smtp_log", str(log))
