"""What is said of a path that may not be read or written, to a person who typed a command. Units: packaged/test_unit.py."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from drainer.files.access import advice_for

_AS_NOBODY = """
import json, os, sys
from pathlib import Path
from drainer.files.access import advice_for
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
asked = json.load(sys.stdin)
found = [advice_for(Path(path), writing=writing, of_mailman=of_mailman) for path, writing, of_mailman in asked]
print(json.dumps([advice and advice.text() for advice in found]))
"""

_PROGRAMS = """
import json, os, sys
from pathlib import Path
from drainer.files.access import set_id_advice
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
print(json.dumps([(advice := set_id_advice(Path(program))) and advice.text() for program in sys.argv[1:]]))
"""


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory every user can walk through."""
    if os.geteuid() != 0:
        if os.environ.get("CI"):
            pytest.fail("under CI this must run: other users' files need root")
        pytest.skip("other users' files need root")
    made = Path(tempfile.mkdtemp(prefix="drainer-reach-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def owned(path: Path, user: str, group: str, mode: int) -> Path:
    if not path.exists():
        path.touch()
    shutil.chown(path, user, group)
    path.chmod(mode)
    return path


def test_advice_names_the_group_the_owner_or_the_directory_to_make_and_is_silent_where_nothing_is_wrong(
    home: Path,
) -> None:
    log = owned(home / "mail.log", "root", "adm", 0o640)
    (home / "closed").mkdir()
    owned(home / "closed", "root", "adm", 0o750)
    (home / "queue").mkdir()
    queue = owned(home / "queue", "list", "list", 0o2770)
    secret = owned(home / "secret", "list", "list", 0o600)
    public = owned(home / "public", "root", "root", 0o644)
    asked: list[tuple[Path, bool, bool]] = [
        (log, False, False),
        (home / "closed/exim/mainlog", False, False),
        (queue, True, True),
        (secret, False, False),
        (home / "missing/ledger", True, False),
        (public, False, False),
        (home / "missing", False, False),
        (home / ("x" * 300), True, False),
    ]
    done = subprocess.run(
        [sys.executable, "-c", _AS_NOBODY],
        input=json.dumps([(str(path), writing, of_mailman) for path, writing, of_mailman in asked]),
        capture_output=True,
        text=True,
        check=True,
    )
    of_log, of_closed, of_queue, of_secret, of_missing, *fine = json.loads(done.stdout)
    assert "belongs to root:adm (mode 0640)" in of_log and "in the group adm" in of_log
    assert str(home / "closed") in of_closed and "in the group adm" in of_closed
    assert "right would be to run drainer as the user Mailman runs as, list" in of_queue
    assert "right would be an owner or a mode that lets nobody read it" in of_secret
    assert f"`install -d -m 0750 -o nobody -g nogroup {home / 'missing/ledger'}`" in of_missing
    assert fine == [None, None, None]
    assert "[Service]" not in done.stdout


def test_program_that_needs_its_set_id_bits_is_recognised_where_they_do_not_count(home: Path) -> None:
    shutil.copy("/bin/false", home / "postqueue")
    owned(home / "postqueue", "root", "adm", 0o2755)
    shutil.copy("/bin/false", home / "exim")
    owned(home / "exim", "root", "root", 0o4755)
    found = []
    for bounded in ((), ("--no-new-privs",)):
        done = subprocess.run(
            ["setpriv", *bounded, sys.executable, "-c", _PROGRAMS, home / "postqueue", home / "exim"],
            capture_output=True,
            text=True,
            check=True,
        )
        found.append(json.loads(done.stdout))
    assert found[0] == [None, None]
    assert "it needs the group adm" in found[1][0]
    assert "its set-user-ID bit does not count in the unit" in found[1][1] and "it needs the group" in found[1][1]


def test_root_is_refused_nothing_that_it_may_do(tmp_path: Path) -> None:
    assert advice_for(tmp_path, writing=True) is None
