"""What is shipped: the sdist holds what git holds, the wheel built from it works far from the checkout.

All of it is built from a copy of the files that git knows, by the setuptools of this Python, without a C compiler; nothing
is downloaded. The wheel that has compiled modules: test_compiled_wheel.py.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from drainer import __version__
from drainer.demo.sample_queue import write_plain
from tests.packaged.booted import PROJECT
from tests.scenarios.running import running_service, running_sink, site_settings

_MADE_BY_SETUPTOOLS = re.compile(r"(PKG-INFO|setup\.cfg|mailman_drainer\.egg-info/.*)\Z")
_BUILD = "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"
_NO_COMPILER = {"CC": "/nonexistent/cc", "DRAINER_COMPILED": ""}


@dataclass(frozen=True, slots=True)
class Shipped:
    """The sdist unpacked, the wheel built from it, and the directory the wheel was installed into."""

    sources: Path
    wheel: Path
    installed: Path


def known_files() -> set[str]:
    """Every file of the project: those git knows or, in an unpacked sdist, those the sdist says it has."""
    if (PROJECT / ".git").exists():
        listed = ran("git", "ls-files", "-z", cwd=PROJECT).split("\0")
    else:
        listed = (PROJECT / "mailman_drainer.egg-info/SOURCES.txt").read_text().splitlines()
    return {name for name in listed if (PROJECT / name).is_file() and not _MADE_BY_SETUPTOOLS.match(name)}


def ran(*command: str | Path, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def built(kind: str, sources: Path, into: Path) -> Path:
    """What `pip` or `python -m build` would build there, without an environment of its own."""
    return into / ran(sys.executable, "-c", _BUILD, kind, into, cwd=sources, **_NO_COMPILER).splitlines()[-1]


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Shipped:
    home = tmp_path_factory.mktemp("shipped")
    checkout, unpacked, installed = (home / name for name in ("checkout", "unpacked", "installed"))
    for name in known_files():
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(PROJECT / name, checkout / name)
    with tarfile.open(built("build_sdist", checkout, home)) as sdist:
        sdist.extractall(unpacked, filter="data")
    (sources,) = unpacked.iterdir()
    wheel = built("build_wheel", sources, home)
    ran(
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-index",
        "--no-deps",
        "--target",
        installed,
        wheel,
        cwd=home,
    )
    return Shipped(sources, wheel, installed)


def test_sdist_holds_every_file_that_git_holds_and_no_other(shipped: Shipped) -> None:
    found = {path.relative_to(shipped.sources).as_posix() for path in shipped.sources.rglob("*") if path.is_file()}
    found -= {name for name in found if _MADE_BY_SETUPTOOLS.match(name) or name.startswith(("build/", "dist/"))}
    assert found == known_files()


def test_wheel_holds_the_package_its_licence_and_no_tests(shipped: Shipped) -> None:
    names = set(zipfile.ZipFile(shipped.wheel).namelist())
    assert {name for name in known_files() if name.startswith("drainer/")} == {
        name for name in names if name.startswith("drainer/")
    }
    rest = {name.partition("/")[2] for name in names if not name.startswith("drainer/")}
    assert rest == {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "top_level.txt", "licenses/LICENSE"}


def test_wheel_and_checkout_say_the_same_version(shipped: Shipped) -> None:
    said = ran(shipped.installed / "bin/drainer", "--version", cwd=shipped.installed, PYTHONPATH=str(shipped.installed))
    assert said == f"drainer {__version__}\n"
    assert shipped.wheel.name == f"mailman_drainer-{__version__}-py3-none-any.whl"


def test_compiled_wheel_needs_mypy_the_pure_one_does_not(shipped: Shipped) -> None:
    def required(compiled: str) -> str:
        asked = "from setuptools import build_meta; print(build_meta.get_requires_for_build_wheel())"
        said = ran(sys.executable, "-c", asked, cwd=shipped.sources, DRAINER_COMPILED=compiled)
        return said.splitlines()[-1]

    assert required("") == "[]"
    assert required("1").startswith("['mypy[mypyc]")


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("build_wheel", "needs a C compiler, and there is no /nonexistent/cc"),
        ("build_editable", "is not for an editable install"),
    ],
)
def test_compiled_build_that_cannot_be_is_refused_with_what_would_be_right(
    shipped: Shipped, tmp_path: Path, kind: str, says: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _BUILD, kind, str(tmp_path)],
        cwd=shipped.sources,
        env={**os.environ, **_NO_COMPILER, "DRAINER_COMPILED": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert says in done.stderr and "without DRAINER_COMPILED=1" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_installed_wheel_drains_and_serves_the_page_with_all_that_it_names(
    shipped: Shipped, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(shipped.installed))
    monkeypatch.chdir(tmp_path)
    where = ran(sys.executable, "-c", "import drainer; print(drainer.__file__)", cwd=tmp_path)
    assert Path(where.strip()) == shipped.installed / "drainer/__init__.py"
    outage = write_plain(tmp_path, 3, 2)
    mailman = {"flavour": "mailman2", "queue_dir": outage.queue_dir, "lists_dir": outage.lists_dir}
    with running_sink(tmp_path / "sink") as sink:
        settings = site_settings(
            tmp_path, sink.port, mailman, custody={"beside_runner": True}, web={"listen": "127.0.0.1:0"}
        )
        with running_service(settings, tmp_path / "drainer.log") as service:
            port = service.web_port()
            page = got(int(port), "/")
            named = {path for path in re.findall(r'(?:href|src)="([^"#]*)"', page) if not path.startswith("http")}
            assert {"page.css", "page.js", "icon.svg"} <= {path.lstrip("/") for path in named}
            for path in named:
                assert got(int(port), f"/{path.lstrip('/')}"), path
            assert service.terminate() == 0


def got(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
        found: bytes = answer.read()
    return found.decode()


def test_what_pre_commit_runs_is_pinned_and_is_what_pyproject_allows() -> None:
    project: dict[str, Any] = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    config = (PROJECT / ".pre-commit-config.yaml").read_text()
    pinned = dict(re.findall(r"\b(ruff|mypy)==([0-9.]+)", config))
    allowed = {requirement.name: requirement for requirement in map(Requirement, extras["lint"])}
    assert set(pinned) == {"ruff", "mypy"}
    assert all(allowed[name].specifier.contains(Version(version)) for name, version in pinned.items())
    assert len(set(re.findall(r"ruff==[0-9.]+", config))) == 1
    for_mypy = set(re.findall(r"^ +- ([a-z0-9-]+(?:[>=].*)?)$", config, re.MULTILINE))
    assert for_mypy == {f"mypy=={pinned['mypy']}", "types-psutil", *project["dependencies"], *extras["test"]}
