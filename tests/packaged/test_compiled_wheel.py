"""The wheel whose core mypyc compiled: it says so, keeps the core's tests, and sends what Mailman sends, byte for byte.

It is built and installed by `make .venv-compiled/installed`, with the packages of .venv beside it.
"""

from __future__ import annotations

import base64
import os
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from drainer import __version__
from drainer.compiled import MODULES
from tests.compose import mailman2_samples as samples
from tests.packaged.booted import PROJECT
from tests.scenarios.running import running_sink, site_settings
from tests.scenarios.test_mailman2_fixtures import mailman2

_WITHIN_S = 600.0
_BESIDE_THE_TESTS = ("tests", "pyproject.toml", "config", "docs")
_TESTS_OF_THE_CORE = """
    pickles/test_shapes.py pickles/test_any_bytes.py
    text/test_foreign.py
    duplicates/test_fingerprint.py duplicates/test_decision.py duplicates/test_decoration.py
    compose/test_mailman2_any_entry.py compose/test_mailman2_transcripts.py compose/test_mailman2_python27.py
    compose/test_mailman2_decorate.py compose/test_python27_codecs.py compose/test_transactions.py
    feed/test_outcome.py feed/test_refusals.py feed/test_smtp_client.py feed/test_smtp_commands.py
    feed/test_any_conversation.py
""".split()
_CASES = """
    ascii_plain ascii_de raw8_latin1_de qp_latin1_plain utf8_base64_latin_plain
    ascii_pers1 ascii_pers2 mixed_attachment_pers1
    verp_interval1_nofooter verp_personalized_pers2
""".split()


@pytest.fixture(scope="module")
def installed() -> Path:
    """The directory of programs of the virtual environment with the compiled wheel."""
    programs = PROJECT / ".venv-compiled/bin"
    if not (programs / "drainer").exists():
        reason = f"no compiled wheel in {programs.parent}; install it with `make .venv-compiled/installed`"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return programs


def test_it_holds_the_sources_of_this_checkout_and_says_that_machine_code_runs(installed: Path, tmp_path: Path) -> None:
    said = ran(tmp_path, installed / "drainer", "version").splitlines()
    assert said[0] == f"drainer {__version__}"
    assert said[1].startswith(f"{len(MODULES)} modules compiled by mypyc ")
    package = Path(
        ran(tmp_path, installed / "python", "-c", "import drainer; print(drainer.__path__[0])").removesuffix("\n")
    )
    for source in (PROJECT / "drainer").rglob("*.py"):
        copy = package / source.relative_to(PROJECT / "drainer")
        assert copy.read_bytes() == source.read_bytes(), f"{copy} is of another day: make .venv-compiled/installed"


def test_core_keeps_its_tests_when_compiled(installed: Path, tmp_path: Path) -> None:
    """Run beside no package but the installed one: what stands in the current directory would be imported first."""
    for name in _BESIDE_THE_TESTS:
        (tmp_path / name).symlink_to(PROJECT / name)
    files = [f"tests/{name}" for name in _TESTS_OF_THE_CORE]
    ran(tmp_path, installed / "python", "-m", "pytest", "-n0", "-q", "-p", "no:cacheprovider", *files)


def test_compiled_drain_sends_what_mailman_sent_byte_for_byte(installed: Path, tmp_path: Path) -> None:
    queue_dir, files = tmp_path / "qfiles", [samples.file_of(case) for case in _CASES]
    for name in ("bad", "in", "out", "retry", "shunt", "virgin"):
        (queue_dir / name).mkdir(parents=True)
    for file in files:
        (queue_dir / file).write_bytes((samples.SAMPLES / "qfiles" / file).read_bytes())
    with running_sink(tmp_path / "sink", "--keep-content") as sink:
        settings = site_settings(tmp_path, sink.port, mailman2(queue_dir))
        ran(tmp_path, installed / "drainer", "run", "--config", settings, "--until-empty")
        taken = sink.taken()
    ours = Counter(
        (one["reverse_path"], samples.numbered_boundaries(base64.b64decode(one["content"])), recipient)
        for one in taken
        for recipient in one["recipients"]
    )
    expected = sum((samples.deliveries_of_mailman(file) for file in files), Counter())
    assert ours == Counter((path, content, recipient) for path, _, content, recipient in expected.elements())
    assert len(ours) > len(files)


def ran(where: Path, *command: str | Path) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "PYTHONPATH"))}
    done = subprocess.run(
        [*map(str, command)], cwd=where, env=environment, capture_output=True, text=True, check=False, timeout=_WITHIN_S
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]
    return done.stdout
