"""Where the MTA's spool is: as the MTA says, or a reason why it cannot be seen."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drainer.guards.mta_spool import Spool, mta_spool, spool_in


@pytest.mark.parametrize(
    ("said", "directory"),
    [("/var/spool/postfix\n", "/var/spool/postfix"), ("spool_directory = /var/spool/exim4\n", "/var/spool/exim4")],
)
def test_postconf_and_exim_name_it(said: str, directory: str) -> None:
    assert spool_in(said, "exim") == Spool(Path(directory))


@given(st.text())
def test_any_answer_is_a_full_path_or_a_reason(said: str) -> None:
    spool = spool_in(said, "exim")
    assert spool.why if spool.directory is None else spool.directory.is_absolute()


async def test_mta_that_is_not_watched_or_not_installed_has_no_spool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await mta_spool("none") == Spool()
    assert "another host" in (await mta_spool("exim", queue_command=("ssh", "mx1", "exim", "-bp"))).why
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("drainer.guards.mta_spool._SBIN", str(tmp_path))
    assert (await mta_spool("exim")).why == "exim is not installed here"
    program = tmp_path / "postconf"
    program.write_text(
        '#!/bin/sh\ntest "$*" = "-c /etc/postfix-out -h queue_directory" && echo /var/spool/postfix-out\n'
    )
    program.chmod(0o755)
    assert await mta_spool("postfix", Path("/etc/postfix-out")) == Spool(Path("/var/spool/postfix-out"))
    assert (await mta_spool("postfix")).why.endswith("said ''")
