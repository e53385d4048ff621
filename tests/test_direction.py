"""Packages import downwards only: one order, read from every import, those for the type checker included.

A reader who knows the order knows where a value can come from. A circle would make its packages one package.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "drainer"

ORDER = """
    text errors clock shielded blocking exit_deadline files settings settings_file secret_files
    pickles queuedir ledger duplicates mta_log backlog guards estimate
    compose feed via_mailman in_doubt stages pipeline
    report control observe operate start host_check service
    demo cli __main__
""".split()
"""From the ground up: a package imports only what stands before it.

The ledger stands below duplicates, since a decision is made of what the ledger knows; control stands below operate, since
the operator's requests are values of the control socket.
"""

CIRCLES: frozenset[frozenset[str]] = frozenset(
    {frozenset({"demo/sink", "demo/sink_session"}), frozenset({"operate/journal", "operate/operations"})}
)
"""Modules that still import each other. This list only shrinks."""


def modules() -> dict[str, Path]:
    """Every module of the package by its name with slashes; a package's own module is its name with a slash at the end."""
    found: dict[str, Path] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).with_suffix("").as_posix()
        found[name.removesuffix("__init__") if name.endswith("/__init__") else name] = path
    return found


MODULES = modules()


def imports(path: Path) -> Iterator[str]:
    """Every module of ours that the file names in an import, wherever it stands."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            inside = name.removeprefix("drainer.").replace(".", "/")
            if name.startswith("drainer.") and (inside in MODULES or f"{inside}/" in MODULES):
                yield inside if inside in MODULES else f"{inside}/"


def room(module: str) -> str:
    """The package, or the top-level module, that a module belongs to."""
    return module.partition("/")[0]


GRAPH = {name: set(imports(path)) - {name} for name, path in MODULES.items()}


def test_order_names_every_package_and_every_top_level_module_once() -> None:
    assert sorted(ORDER) == sorted({room(name) for name in MODULES} - {"__init__"})


def test_every_import_goes_down() -> None:
    height = {name: number for number, name in enumerate(ORDER)}
    upwards = {
        (name, other)
        for name, others in GRAPH.items()
        for other in others
        if room(name) != room(other) and height[room(other)] > height.get(room(name), len(ORDER))
    }
    assert sorted(upwards) == [], "these imports go up: move the value down to where it is made"


def test_no_modules_import_each_other_in_a_circle() -> None:
    found = {frozenset(circle) for circle in circles()}
    assert sorted(map(sorted, found - CIRCLES)) == []
    assert sorted(map(sorted, CIRCLES - found)) == [], "these are no circles any more: take them from the list"


def circles() -> Iterator[list[str]]:
    """Sets of modules of which each can reach each other by imports (strongly connected components of two or more)."""
    reaches = {name: reached(name) for name in GRAPH}
    seen: set[str] = set()
    for name in sorted(GRAPH):
        together = sorted(other for other in reaches[name] if name in reaches[other])
        if len(together) > 1 and name not in seen:
            seen |= set(together)
            yield together


def reached(name: str) -> set[str]:
    found, waiting = {name}, [name]
    while waiting:
        for other in GRAPH[waiting.pop()] - found:
            found.add(other)
            waiting.append(other)
    return found
