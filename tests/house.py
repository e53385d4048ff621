"""How large the house is and how easy to enter: `python -m tests.house [DIRECTORY]`, for docs/architecture.md.

In    a checkout, this one unless another is named
Out   modules, lines, files over 400 lines, functions, circles of imports, words that stand in a reader's way
"""

from __future__ import annotations

import ast
import re
import statistics
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

MOST_LINES = 400
HARD_WORDS = re.compile(r"\b(whom|told of|told|nobody)\b", re.IGNORECASE)


def modules(package: Path) -> dict[str, Path]:
    """Every module by its name with slashes; a package's own module is its name with a slash at the end."""
    found: dict[str, Path] = {}
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).with_suffix("").as_posix()
        found[name.removesuffix("__init__") if name.endswith("/__init__") else name] = path
    return found


def imports(path: Path, known: Mapping[str, Path]) -> set[str]:
    """Every module of ours that the file names in an import, wherever it stands and whoever reads it (TYPE_CHECKING too)."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        inside = (name.removeprefix("drainer.").replace(".", "/") for name in names if name.startswith("drainer."))
        found |= {name if name in known else f"{name}/" for name in inside if name in known or f"{name}/" in known}
    return found


def imported_by_each(package: Path) -> dict[str, set[str]]:
    known = modules(package)
    return {name: imports(path, known) - {name} for name, path in known.items()}


def room(module: str) -> str:
    """The package, or the top-level module, that a module belongs to."""
    return module.partition("/")[0]


def rooms(graph: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """The same arrows between packages and top-level modules."""
    found: dict[str, set[str]] = {room(name): set() for name in graph}
    for name, others in graph.items():
        found[room(name)] |= {room(other) for other in others} - {room(name)}
    return found


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Sets of which each can reach each other by imports: strongly connected components of two or more."""
    reaches = {name: reached(graph, name) for name in graph}
    found = {tuple(sorted(other for other in others if name in reaches[other])) for name, others in reaches.items()}
    return [list(circle) for circle in sorted(found) if len(circle) > 1]


def reached(graph: Mapping[str, set[str]], name: str) -> set[str]:
    found, waiting = {name}, [name]
    while waiting:
        for other in graph.get(waiting.pop(), set()) - found:
            found.add(other)
            waiting.append(other)
    return found


def functions(paths: Iterable[Path]) -> list[tuple[int, str]]:
    """Length in lines and name of every function, shortest first."""
    found = [
        (node.end_lineno - node.lineno + 1, f"{path.stem}.{node.name}")
        for path in paths
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None
    ]
    return sorted(found)


def main(root: Path) -> None:
    package = root / "drainer"
    known = modules(package)
    lines = {name: len(path.read_text("utf-8").splitlines()) for name, path in known.items()}
    large = {name: count for name, count in sorted(lines.items(), key=lambda one: -one[1]) if count > MOST_LINES}
    measured = functions(known.values())
    graph = imported_by_each(package)
    words = Counter(found.lower() for path in known.values() for found in HARD_WORDS.findall(path.read_text("utf-8")))
    print(f"modules                 {len(lines)}")
    print(f"lines                   {sum(lines.values()):,}")
    print(f"top-level modules       {sum('/' not in name for name in lines)}")
    print(f"files over {MOST_LINES} lines    {len(large)}  {large or ''}")
    print(
        f"functions               {len(measured):,}, median {statistics.median(length for length, _ in measured):g} lines"
    )
    print(f"longest functions       {[f'{name} {length}' for length, name in measured[:-4:-1]]}")
    print(f"circles of packages     {circles(rooms(graph))}")
    print(f"circles of modules      {circles(graph)}")
    print(f"whom, told, nobody      {sum(words.values())}  {dict(words)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1])
