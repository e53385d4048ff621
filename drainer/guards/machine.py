"""The machine under pressure: its load, and stalls for want of memory, disk or processor as Linux counts them (PSI).

In    the marks of the settings, the verdicts of the last look
Out   guards load, memory_pressure, io_pressure and cpu_pressure, each with the percentage of the last ten seconds

Of memory and processor, "some" counts: a task waited. Of the disk, "full" counts: no task could go on. "some" is high there
wherever one program waits for its disk, as the ledger does at each commit. A kernel without PSI has no such files: then
nothing is measured, and the guard says so.

Source  Linux, Documentation/accounting/psi.rst
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from drainer.guards.verdict import Guard, Marks, Verdict, judged, unknown

PRESSURE = Path("/proc/pressure")
COUNTED = {"memory": "some", "io": "full", "cpu": "some"}
"""Resource to the line of its file that counts."""


def machine_guards(
    load: Marks, pressures: Mapping[str, Marks], before: Mapping[str, Verdict], directory: Path | None = None
) -> Iterator[Guard]:
    """pressures: marks in percent, by resource (COUNTED). directory: where the kernel shows them, if not in PRESSURE."""
    yield judged("load", os.getloadavg()[0], load, "load", before.get("load", "go"))
    for resource, line in COUNTED.items():
        name, file = f"{resource}_pressure", (directory or PRESSURE) / resource
        try:
            percent = parse_pressure(file.read_text(encoding="ascii"), line)
        except FileNotFoundError:
            yield unknown(name, "go", f"not measured: this kernel has no {file}")
        except (OSError, ValueError) as exc:
            # EOPNOTSUPP where PSI is built in and turned off (psi=0).
            yield unknown(name, "go", f"not measured: {file}: {getattr(exc, 'strerror', None) or exc}")
        else:
            what = f"{resource} pressure in percent of 10 s:"
            yield judged(name, percent, pressures.get(resource, Marks()), what, before.get(name, "go"))


def parse_pressure(text: str, line: str) -> float:
    """Percent of the last ten seconds, of the line "some" or "full". Raises ValueError for anything else."""
    for words in map(str.split, text.splitlines()):
        if words[:1] == [line]:
            for word in words[1:]:
                name, _, value = word.partition("=")
                if name == "avg10" and 0 <= (percent := float(value)) <= 100:
                    return percent
    raise ValueError(f"no avg10 of {line!r} in {text[:80]!r}")
