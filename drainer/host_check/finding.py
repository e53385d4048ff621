"""The result of a check: an error, a warning, or ok; and its text form.

In    findings in the order of the checks
Out   lines, the worst first; a summary
Pure  values only
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from drainer.text.wording import count, shown

Level = Literal["error", "warning", "ok"]
_WORST_FIRST: tuple[Level, ...] = ("error", "warning", "ok")


@dataclass(frozen=True, slots=True)
class Finding:
    """One result.

    level  error: the service would not start or could not work; warning: it would work, but an operator should know
    about  the setting, or the thing checked
    """

    level: Level
    about: str
    text: str


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """The worst first; those of one level in their order."""
    return sorted(findings, key=lambda finding: _WORST_FIRST.index(finding.level))


def lines(findings: Iterable[Finding]) -> list[str]:
    """One line for each: `error    mailman.queue_dir: ...`."""
    return [f"{one.level:<7}  {shown(one.about)}: {shown(' '.join(one.text.split()))}" for one in in_order(findings)]


def summary(findings: Iterable[Finding]) -> str:
    """ "2 errors, 1 warning", or "all settings are right"."""
    found = list(findings)
    errors, warnings = (sum(one.level == level for one in found) for level in ("error", "warning"))
    if not errors and not warnings:
        return "all settings are right"
    return f"{count(errors, 'error')}, {count(warnings, 'warning')}"
