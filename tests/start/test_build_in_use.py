"""Which build runs is said, and machine code beside another source than its own is refused."""

from __future__ import annotations

import ast
import hashlib
import json
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from drainer.compiled import MODULES
from drainer.errors import BuildMixed
from drainer.start.build_in_use import STAMP, build_in_use
from tests.command_line import run_here
from tests.test_layout import CORE

PACKAGE = Path(__file__).parents[2] / "drainer"


def compiled(package: Path) -> tuple[Path, Path]:
    """A package with one compiled module: its source and its machine code."""
    source = package / "pickles/prescan.py"
    source.parent.mkdir()
    source.write_text("SIZE = 1\n")
    machine_code = source.with_name(f"prescan{EXTENSION_SUFFIXES[0]}")
    machine_code.write_bytes(b"machine code")
    stamp = {"mypyc": "2.0", "sources": {"pickles/prescan.py": hashlib.sha256(source.read_bytes()).hexdigest()}}
    (package / STAMP).write_text(json.dumps(stamp))
    return source, machine_code


def test_package_without_machine_code_is_pure_python(tmp_path: Path) -> None:
    assert build_in_use(tmp_path) == ("pure", "pure Python")


def test_machine_code_of_the_sources_beside_it_is_said_to_be_compiled(tmp_path: Path) -> None:
    compiled(tmp_path)
    assert build_in_use(tmp_path) == ("compiled", "1 module compiled by mypyc 2.0")


def test_machine_code_beside_a_changed_source_is_refused(tmp_path: Path) -> None:
    source, _ = compiled(tmp_path)
    source.write_text("SIZE = 2\n")
    with pytest.raises(BuildMixed, match=r"pickles/prescan\.py is not what the machine code was compiled from"):
        build_in_use(tmp_path)


def test_machine_code_without_its_source_is_refused(tmp_path: Path) -> None:
    source, _ = compiled(tmp_path)
    source.unlink()
    with pytest.raises(BuildMixed, match=r"pickles/prescan\.py"):
        build_in_use(tmp_path)


def test_machine_code_that_no_build_put_there_is_refused(tmp_path: Path) -> None:
    compiled(tmp_path)
    (tmp_path / f"pickles/shapes{EXTENSION_SUFFIXES[0]}").write_bytes(b"")
    with pytest.raises(BuildMixed, match=r"pickles/shapes\.py"):
        build_in_use(tmp_path)
    (tmp_path / STAMP).unlink()
    with pytest.raises(BuildMixed, match=r"no build of drainer put there"):
        build_in_use(tmp_path)


def test_wheel_of_which_one_module_lost_its_machine_code_is_refused(tmp_path: Path) -> None:
    _, machine_code = compiled(tmp_path)
    (tmp_path / f"pickles/other{EXTENSION_SUFFIXES[0]}").write_bytes(b"")
    machine_code.unlink()
    with pytest.raises(BuildMixed):
        build_in_use(tmp_path)


def test_machine_code_for_another_python_is_not_what_runs(tmp_path: Path) -> None:
    _, machine_code = compiled(tmp_path)
    machine_code.rename(machine_code.with_name("prescan.cpython-39-x86_64-linux-gnu.so"))
    assert build_in_use(tmp_path).name == "pure"


def test_version_has_the_build_in_its_second_line() -> None:
    said = run_here("version").stdout.splitlines()
    assert said[1:] == [build_in_use().words]


@pytest.mark.parametrize("name", MODULES)
def test_compiled_module_is_core_and_its_dataclasses_stay_classes_of_python(name: str) -> None:
    place = name.removeprefix("drainer.").replace(".", "/")
    assert place in CORE
    for node in ast.walk(ast.parse((PACKAGE / f"{place}.py").read_text("utf-8"))):
        if isinstance(node, ast.ClassDef):
            decorators = [ast.unparse(one) for one in node.decorator_list]
            if any(one.startswith("dataclass") for one in decorators):
                assert decorators[0] == "python_class", f"{name}.{node.name}: see drainer/compiled.py"
