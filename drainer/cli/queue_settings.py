"""Which settings apply to a queue that an operator names: those of another site do not.

In    --queue-dir and --config, as far as they were given
Out   the settings that apply, and why the settings file was left out; the queue directory of the settings
"""

from __future__ import annotations

from pathlib import Path

from drainer.errors import SettingsError, UsageError
from drainer.settings import DEFAULT_PATH, Settings
from drainer.settings_file import load_settings

_USUAL_QUEUE_DIRS = (
    Path("/var/lib/mailman3/queue"),
    Path("/var/lib/mailman/qfiles"),
    Path("/var/spool/mailman/qfiles"),
)


def settings_for(queue_dir: Path | None, config: Path | None) -> tuple[Settings, str]:
    """The settings that apply to a queue, and why those of the settings file do not; "" if they do.

    queue_dir  named by the operator; None: the one of the settings
    config     the settings file, named by the operator; None: the usual one, if it is there
    Raises     SettingsError; but not where the queue was named and the usual file cannot be read: it counts as left out
    """
    try:
        settings = load_settings(config, required=config is not None)
    except SettingsError as exc:
        if config is not None or queue_dir is None:
            raise
        return Settings(), f"they cannot be read ({str(exc).splitlines()[0]}); the defaults count here"
    theirs, file = settings.mailman.queue_dir, config or DEFAULT_PATH
    # A file without a queue directory is for the default one, if that exists.
    are_of_a_site = "queue_dir" in settings.mailman.model_fields_set or (file.is_file() and theirs.is_dir())
    if queue_dir is None or not are_of_a_site or _is_in(queue_dir, theirs):
        return settings, ""
    source = file if file.is_file() else "the environment"
    return Settings(), f"{source} is for {theirs}; its log, limits and lists do not count here"


def configured_queue_dir(config: Path | None) -> Path:
    """The queue directory of the settings, or a usual one that is there. Raises SettingsError, UsageError"""
    settings = load_settings(config, required=config is not None)
    configured = settings.mailman.queue_dir
    if config is not None or "queue_dir" in settings.mailman.model_fields_set or configured.is_dir():
        return configured
    for usual in _USUAL_QUEUE_DIRS:
        if usual.is_dir():
            return usual
    raise UsageError(f"no queue directory at {configured}; name Mailman's with --queue-dir")


def _is_in(queue_dir: Path, theirs: Path) -> bool:
    """Whether it is that queue directory, a queue in it, or drainer's own in it."""
    named, configured = queue_dir.resolve(), theirs.resolve()
    if named == configured or configured in named.parents:
        return True
    return queue_dir.exists() and theirs.exists() and queue_dir.samefile(theirs)
