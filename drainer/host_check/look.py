"""All checks of `drainer config --check`, in order, as the user that the service runs as.

In    settings, and the settings file as it is written
Out   the user, and the findings
Not here  how they are shown (cli/config.py)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from drainer.host_check.as_user import RunsAs, installed_unit, looked, runs_as, somebody_else
from drainer.host_check.files import files
from drainer.host_check.finding import Finding
from drainer.host_check.mailman import mailman
from drainer.host_check.mta import mta
from drainer.host_check.values import unwise, without_unit
from drainer.settings import Settings


def look(settings: Settings, written: Mapping[str, Any]) -> tuple[RunsAs, list[Finding]]:
    """The user that the checks ran as, and all findings.

    written  the settings as they are in the file
    Raises   SettingsError: the user that the service should run as does not exist
    """
    unit = installed_unit()
    user = runs_as(unit, settings.mailman.queue_dir)

    def around() -> Iterator[Finding]:
        yield from files(settings, unit.made)
        yield from mailman(settings)
        yield from mta(settings)

    of_user = somebody_else(user, unit, settings.mailman.queue_dir)
    return user, [*of_user, *without_unit(written), *unwise(settings), *looked(user, around)]
