"""Whose lines of a shared log count."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from drainer.destinations.own_name import names_in_log
from drainer.settings.mta import MtaSettings

POSTCONF = """#!/bin/sh
case "$*" in
"-c /etc/postfix-out -x -h syslog_name") echo postfix-out ;;
"-c /etc/postfix-out -P") echo 'relay/unix/syslog_name = postfix-out/$service_name'
    echo 'gmail/unix/syslog_name = slow-gmail'; echo 'smtp/inet/smtpd_tls_security_level = may' ;;
*) exit 1 ;;
esac
"""


@pytest.fixture(autouse=True)
def postconf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "postconf"
    path.write_text(POSTCONF)
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return path


async def test_an_instance_has_its_own_name_and_those_of_its_transports() -> None:
    mta = MtaSettings(queue="postfix", queue_config=Path("/etc/postfix-out"))
    assert await names_in_log(mta) == ("postfix-out", "slow-gmail")


async def test_the_name_in_the_settings_comes_first() -> None:
    assert await names_in_log(MtaSettings(queue="postfix", log_name="postfix-in@mx1")) == ("postfix-in@mx1",)


@pytest.mark.parametrize(
    "mta",
    [
        MtaSettings(queue="exim"),
        MtaSettings(queue="postfix"),
        MtaSettings(queue="postfix", queue_command=("ssh", "mx1", "postqueue", "-j")),
    ],
)
async def test_where_the_name_cannot_be_had_every_mta_of_the_log_counts(mta: MtaSettings) -> None:
    assert await names_in_log(mta) == ()
