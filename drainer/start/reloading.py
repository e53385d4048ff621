"""Settings read again at SIGHUP: what takes effect at once, and what the service has built once and keeps until a restart.

In    the settings in force, the settings as read again
Out   the settings in force from now on, and which changed ones wait for a restart
Pure  values only; tests/start/test_reloading.py goes through every setting
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from drainer.errors import SettingsError
from drainer.settings import Settings
from drainer.settings.section import fields_of

BUILT_ONCE: Mapping[str, str] = {
    "mailman.flavour": "the composer",
    "mailman.queue_dir": "custody, its lock, and everything in it",
    "mailman.config": "the composer's co-processes",
    "mailman.python": "the composer's co-processes",
    "mailman.coprocesses": "the composer's co-processes",
    "mailman.remember": "the composer's co-processes",
    "mailman.lists_dir": "the composer, and the fingerprints of decorated copies",
    "mailman.settings": "the composer, and the fingerprints of decorated copies",
    "mailman.smtp_log": "the place up to which that log was read",
    "custody.queues": "what is in custody, and the watch of each queue",
    "custody.scope": "the moment up to which entries are taken",
    "feed.via": "the composer",
    "feed.max_recipients": "the composer",
    "ledger.path": "the ledger, its lock, the index and the loan beside it",
    "ledger.state_dir": "the index and the loan",
    "control.socket": "the socket",
    "control.group": "the socket",
    "web.listen": "the listener",
    "web.hosts": "the listener",
}
"""Settings that a reload leaves as they are -> what was made of them."""


def reloaded(in_force: Settings, read: Settings) -> tuple[Settings, tuple[str, ...]]:
    """Settings in force after a reload, and the names ("feed.via") of changed ones that need a restart.

    Raises SettingsError: what was read cannot be in force together with a setting that needs a restart
    """
    kept: dict[str, dict[str, object]] = {}
    for section, key in map(_parted, BUILT_ONCE):
        value = getattr(getattr(in_force, section), key)
        if value != getattr(getattr(read, section), key):
            kept.setdefault(section, {})[key] = value
    sections = {name: getattr(read, name).model_copy(update=values) for name, values in kept.items()}
    if "feed" in sections:
        try:
            sections["feed"].require_served_or_not()
        except ValueError as exc:
            raise SettingsError(f"feed: {exc}, then a restart: `via` stays as it is until then") from exc
    return read.model_copy(update=sections), tuple(f"{name}.{key}" for name, values in kept.items() for key in values)


def every_setting() -> Iterator[str]:
    """ "mailman.flavour", ...: all there are."""
    for section in Settings.model_fields:
        for key in fields_of(type(getattr(Settings(), section))):
            yield f"{section}.{key}"


def _parted(name: str) -> tuple[str, str]:
    section, _, key = name.partition(".")
    return section, key
