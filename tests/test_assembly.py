"""Objects get what they need when they are made: no attribute of another object is assigned afterwards.

An attribute that is assigned from outside closes a loop between two objects that no reader of either can see. Pass it in,
or make what both talk about an object of its own.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.test_direction import PACKAGE

ASSEMBLING = """
    pipeline.py service.py start rounds without_service observe operate stages via_mailman in_doubt feed
""".split()
"""Modules and packages in which objects are put together, or meet."""

COUNTS = frozenset({"self._progress", "action"})
"""Values that are only counted, and do nothing by themselves: stages/progress.py, operate/selected_entries.py."""


def assigned(path: Path) -> Iterator[str]:
    """Every assignment of a plain value to `object.attribute`, the object being another one than self."""
    name = path.relative_to(PACKAGE).as_posix()
    for function in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for node in ast.walk(function):
            targets = node.targets if isinstance(node, ast.Assign) else []
            for target in (each for one in targets for each in (one.elts if isinstance(one, ast.Tuple) else [one])):
                if isinstance(target, ast.Attribute):
                    owner = ast.unparse(target.value)
                    if owner not in {"self", "cls", "log"} | COUNTS:
                        yield f"{name} {function.name}: {ast.unparse(target)}"


def modules() -> list[Path]:
    places = [PACKAGE / place for place in ASSEMBLING]
    return sorted(path for place in places for path in ([place] if place.suffix else place.rglob("*.py")))


def test_no_attribute_of_another_object_is_assigned_where_objects_meet() -> None:
    found = {line for path in modules() for line in assigned(path)}
    assert sorted(found) == [], "pass it in, or make what both talk about an object of its own"


def test_no_constructor_assigns_an_attribute_of_what_it_is_given() -> None:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        if "coprocess" in path.parts:  # it replaces what Mailman's own modules have: that is its purpose
            continue
        for function in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(function, ast.FunctionDef) or function.name != "__init__":
                continue
            given = {argument.arg for argument in (*function.args.args, *function.args.kwonlyargs)} - {"self"}
            found += [
                f"{path.relative_to(PACKAGE)}:{node.lineno} {ast.unparse(target)}"
                for node in ast.walk(function)
                if isinstance(node, ast.Assign)
                for target in node.targets
                if isinstance(target, ast.Attribute) and ast.unparse(target.value).partition(".")[0] in given
            ]
    assert found == []
