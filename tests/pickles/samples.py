"""Genuine entries of both Mailmans with what is known of each, and a walk over what was opened."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from drainer.pickles.standins import StandIn

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "tests" / "samples"
MAILMAN2 = SAMPLES / "mailman2"
MAILMAN3 = SAMPLES / "mailman3"

Label = dict[str, Any]


@cache
def labels2() -> dict[str, Label]:
    """File below qfiles/ to label, Mailman 2.1."""
    loaded: dict[str, Label] = json.loads((MAILMAN2 / "labels.json").read_text("utf-8"))
    return loaded


@cache
def labels3() -> dict[str, Label]:
    """File to label, Mailman 3."""
    loaded: dict[str, Label] = json.loads((MAILMAN3 / "labels.json").read_text("utf-8"))
    return loaded


def path2(case: str) -> Path:
    """The first 2.1 entry of a case."""
    return MAILMAN2 / "qfiles" / next(name for name, label in labels2().items() if label["case"] == case)


def path3(case: str) -> Path:
    """The Mailman 3 entry of a case."""
    return MAILMAN3 / next(name for name, label in labels3().items() if label["case"] == case)


def is_entry2(label: dict[str, Any]) -> bool:
    """Whether a 2.1 file has all that makes an entry; one has no recipients, which Mailman reads and loses."""
    return label.get("unreadable") is None and label["case"] != "inject_without_recips"


def readable() -> list[Path]:
    """Every genuine entry."""
    return [MAILMAN2 / "qfiles" / name for name, label in labels2().items() if is_entry2(label)] + [
        MAILMAN3 / name for name in labels3()
    ]


def stand_ins(*values: object) -> Iterator[StandIn]:
    """Every stand-in inside the values."""
    waiting = list(values)
    while waiting:
        value = waiting.pop()
        if isinstance(value, StandIn):
            yield value
            waiting.extend(value.__dict__.values())
        elif isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, list | tuple):
            waiting.extend(value)


def python2() -> Path:
    """A Python 2.7, named by DRAINER_TEST_PYTHON2 or found; the test skips where there is none."""
    places = [
        os.environ.get("DRAINER_TEST_PYTHON2"),
        Path.home() / ".pyenv/versions/2.7.18/bin/python",
        shutil.which("python2.7"),
    ]
    for place in places:
        if place and Path(place).exists():
            return Path(place)
    pytest.skip("no Python 2.7 to read the result with; name one in DRAINER_TEST_PYTHON2")


def mailman3_python() -> Path:
    """The Python of a genuine Mailman 3; the test skips where there is none, but not in CI."""
    named = os.environ.get("DRAINER_TEST_MAILMAN3_PYTHON")
    python = Path(named) if named else ROOT / ".venv-mailman3" / "bin" / "python"
    if not python.exists():
        reason = f"no genuine Mailman 3 at {python}; install it with `make .venv-mailman3`"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return python
