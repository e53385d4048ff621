"""Which build of drainer runs: pure Python, or machine code that mypyc made of the modules in compiled.py.

In    the package's directory as it is installed; the stamp in it, which setup.py writes with the machine code
Out   a Build; BuildMixed where machine code does not belong to the source beside it
Not here  how it is built (setup.py)

Python loads machine code before the source beside it, whichever is newer. A source that was changed alone would have no
effect, and nothing would say so.
"""

from __future__ import annotations

import hashlib
import json
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import NamedTuple

from drainer.errors import BuildMixed
from drainer.text.wording import count

STAMP = "compiled.json"
_INSTALLED = Path(__file__).parents[1]


class Build(NamedTuple):
    """name: "pure" or "compiled". words: the same for people."""

    name: str
    words: str


def build_in_use(package: Path = _INSTALLED) -> Build:
    """The build in this directory.

    Raises  BuildMixed if the machine code in it was not compiled from the sources in it
    """
    compiled = _sources_with_machine_code(package)
    stamp = package / STAMP
    if not stamp.exists():
        if compiled:
            raise BuildMixed(f"there is machine code of {min(compiled)} that no build of drainer put there")
        return Build("pure", "pure Python")
    made_of = json.loads(stamp.read_bytes())
    if not compiled:
        return Build("pure", "pure Python (it was compiled for another version of Python)")
    for source in sorted(compiled | made_of["sources"].keys()):
        if source not in compiled or made_of["sources"].get(source) != digest_of(package / source):
            raise BuildMixed(f"{source} is not what the machine code was compiled from")
    return Build("compiled", f"{count(len(compiled), 'module')} compiled by mypyc {made_of['mypyc']}")


def digest_of(source: Path) -> str:
    """SHA-256 of a source, in hexadecimal; "" if there is none."""
    return hashlib.sha256(source.read_bytes()).hexdigest() if source.exists() else ""


def _sources_with_machine_code(package: Path) -> set[str]:
    """The sources in whose place this Python loads machine code, relative to the package."""
    found = set()
    for path in package.rglob("*.so"):
        name, dot, suffix = path.name.partition(".")
        if dot + suffix in EXTENSION_SUFFIXES:
            found.add(path.with_name(f"{name}.py").relative_to(package).as_posix())
    return found
