"""Builds the wheel: in pure Python, or with DRAINER_COMPILED=1 also the machine code of the modules in drainer/compiled.py.

In    the sources; DRAINER_COMPILED, MYPYC_OPT_LEVEL (0 to 3, by default 2)
Out   a wheel for every Python; or one for this Python, with the same sources and the machine code that mypyc made of them
Raises  PlatformError where the compiler is missing, or where the machine code would lie in a checkout

All else about the project stands in pyproject.toml. mypy is required only by a build that compiles: pip reads setup_requires
from here.
"""

from __future__ import annotations

import hashlib
import json
import os
import runpy
import shlex
import shutil
import sysconfig
from pathlib import Path
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import PlatformError

MODULES: tuple[str, ...] = runpy.run_path("drainer/compiled.py")["MODULES"]
SOURCES = [Path(*name.split(".")).with_suffix(".py") for name in MODULES]
MYPYC = "mypy[mypyc]>=1.18"
_AS_PURE = "without DRAINER_COMPILED=1 drainer is installed in pure Python and works the same"


class BuildMachineCode(build_ext):
    """Lets mypyc write C, compiles that, and notes from which sources it was made."""

    def run(self) -> None:
        if self.inplace or self.editable_mode:
            raise PlatformError(
                "DRAINER_COMPILED=1 is not for an editable install: Python would go on loading the machine code after its "
                "source has changed; right would be a wheel (make wheels), or an install without DRAINER_COMPILED=1"
            )
        _check_compiler()
        self.distribution.ext_modules = _extensions()
        # Another command, since this one was finalised with the extension that stands for them.
        compiling = build_ext(self.distribution)
        compiling.ensure_finalized()
        compiling.build_temp = f"{compiling.build_temp}-O{_level()}"
        compiling.run()
        self.extensions = compiling.extensions
        stamp = Path(self.build_lib, "drainer", "compiled.json")
        stamp.write_text(json.dumps(_made_of(), indent=1) + "\n")

    def get_source_files(self) -> list[str]:
        """For the sdist: nothing besides the sources in Python."""
        return []


def _extensions() -> list[Extension]:
    try:
        from mypyc.build import mypycify
    except ImportError:
        raise PlatformError(f"DRAINER_COMPILED=1 needs mypyc: pip install '{MYPYC}'; {_AS_PURE}") from None
    extensions: list[Extension] = mypycify(
        [
            "--config-file=",
            "--cache-dir=build/mypy",
            "--ignore-missing-imports",
            "--follow-imports=silent",
            *map(str, SOURCES),
        ],
        opt_level=_level(),
        debug_level="0",
        group_name="drainer",
    )
    for extension in extensions:
        # What the compiler of a mail host warns of says nothing about drainer.
        extension.extra_compile_args = [word for word in extension.extra_compile_args if word != "-Werror"]
    return extensions


def _level() -> Any:
    return os.environ.get("MYPYC_OPT_LEVEL", "2")


def _check_compiler() -> None:
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
    if shutil.which(compiler) is None:
        raise PlatformError(
            f"DRAINER_COMPILED=1 needs a C compiler, and there is no {compiler}; right would be to install it (Debian: "
            f"apt-get install gcc); {_AS_PURE}"
        )
    headers = Path(sysconfig.get_path("include"))
    if not (headers / "Python.h").is_file():
        raise PlatformError(
            f"DRAINER_COMPILED=1 needs Python's headers, and there is no Python.h in {headers}; right would be to install "
            f"them (Debian: apt-get install python3-dev); {_AS_PURE}"
        )


def _made_of() -> dict[str, object]:
    from mypy.version import __version__

    digests = {
        source.relative_to("drainer").as_posix(): hashlib.sha256(source.read_bytes()).hexdigest() for source in SOURCES
    }
    return {"mypyc": __version__, "sources": digests}


if os.environ.get("DRAINER_COMPILED", "0") in ("", "0"):
    setup()
else:
    # The extension stands for those that mypyc makes: it says that the wheel is for one platform.
    setup(
        setup_requires=[MYPYC],
        ext_modules=[Extension("drainer__mypyc", [])],
        cmdclass={"build_ext": BuildMachineCode},
    )
