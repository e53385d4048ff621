"""Whose lines of a shared log count."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from drainer.clock import StoppedClock
from drainer.destinations.looking import BehindTheMta
from drainer.destinations.own_name import ASK_AGAIN_S, NamesInLog, names_in_log
from drainer.destinations.seen import DestinationsSeen
from drainer.observe.side_tasks import SideTasks
from drainer.rounds.behind_the_mta import LookingBehindTheMta
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
    says(tmp_path / "postqueue", "#!/bin/sh\nexit 1\n")
    says(tmp_path / "postconf", POSTCONF)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path / "postconf"


def says(program: Path, script: str) -> None:
    """A new file: one that runs goes on as it was."""
    new = program.with_suffix(".new")
    new.write_text(script)
    new.chmod(0o755)
    new.rename(program)


BROKEN = "#!/bin/sh\necho asked >> {asked}\necho 'fatal: no memory' >&2\nexit 75\n"
OURS = MtaSettings(queue="postfix", queue_config=Path("/etc/postfix-out"))
STAMP_S = 1_796_100_000.0
LINE = "2026-11-30T10:00:00Z m {name}/smtp[7]: 4F1C2D: to=<a@b.test>, relay=x[192.0.2.1]:25, status=sent (ok)\n"


async def test_an_instance_has_its_own_name_and_those_of_its_transports() -> None:
    assert await names_in_log(OURS) == NamesInLog(("postfix-out", "slow-gmail"))


async def test_the_name_in_the_settings_comes_first() -> None:
    named = MtaSettings(queue="postfix", log_name="postfix-in@mx1")
    assert await names_in_log(named) == NamesInLog(("postfix-in@mx1",))


@pytest.mark.parametrize(
    "mta", [MtaSettings(queue="exim"), MtaSettings(queue="postfix", queue_command=("ssh", "mx1", "postqueue", "-j"))]
)
async def test_where_no_postfix_here_can_be_asked_every_mta_of_the_log_counts(mta: MtaSettings) -> None:
    assert await names_in_log(mta) == NamesInLog()


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("exit 75", "ended with status 75"),
        ("echo", "printed no syslog_name"),
        ('[ "$*" = "-x -h syslog_name" ] && echo postfix', "ended with status 1"),
    ],
)
async def test_a_postconf_that_does_not_say_it_is_trouble_with_the_setting_that_helps(
    postconf: Path, script: str, why: str
) -> None:
    says(postconf, f"#!/bin/sh\n{script}\n")
    found = await names_in_log(MtaSettings(queue="postfix"))
    assert found.names == ()
    assert why in found.trouble and "mta.log_name" in found.trouble


async def test_a_postconf_that_failed_is_asked_again_each_minute_until_the_name_is_known(
    postconf: Path, tmp_path: Path
) -> None:
    asked, log, clock = tmp_path / "asked", tmp_path / "mail.log", StoppedClock(STAMP_S)
    log.touch()
    says(postconf, BROKEN.format(asked=asked))
    behind = BehindTheMta(OURS.model_copy(update={"log_file": log}), clock)

    async def look() -> DestinationsSeen:
        with log.open("a") as file:
            file.write(LINE.format(name="postfix-out") + LINE.format(name="postfix-in"))
        return await behind.look(at_once=True)

    def accepted(seen: DestinationsSeen) -> int:
        return seen.domains["b.test"].accepted

    await behind.look()
    for _ in range(3):
        seen = await look()
        assert accepted(seen) == 2, "as long as the name is not known, every MTA of the log counts"
        assert "no memory" in seen.name_trouble and seen.log_read
    assert asked.read_text() == "asked\n", "not at each look"
    clock.advance(ASK_AGAIN_S)
    async with asyncio.timeout(60):
        while asked.read_text() != "asked\nasked\n":
            assert accepted(await look()) == 2, "the log is read on while Postfix is asked"
            await asyncio.sleep(0.01)
        assert (await look()).name_trouble, "it failed again"
        says(postconf, POSTCONF)
        clock.advance(ASK_AGAIN_S)
        while (seen := await look()).name_trouble:
            assert accepted(seen) == 2
            await asyncio.sleep(0.01)
    assert accepted(await look()) == 1, "only ours"
    says(postconf, BROKEN.format(asked=asked))
    clock.advance(2 * ASK_AGAIN_S)
    assert (accepted(await look()), asked.read_text()) == (1, "asked\nasked\n"), "a name that is known is kept"
    await behind.close()


async def test_a_postconf_that_hangs_does_not_keep_the_log_from_being_read_and_ends_with_the_service(
    postconf: Path, tmp_path: Path
) -> None:
    log, pid, clock = tmp_path / "mail.log", tmp_path / "pid", StoppedClock(STAMP_S)
    log.touch()
    says(postconf, "#!/bin/sh\nexit 1\n")
    behind = BehindTheMta(OURS.model_copy(update={"log_file": log}), clock)
    await behind.look()
    says(postconf, f"#!/bin/sh\necho $$ > {pid}.new; mv {pid}.new {pid}; exec sleep 1000\n")
    clock.advance(ASK_AGAIN_S)
    async with asyncio.timeout(60):
        while not pid.exists():
            with log.open("a") as file:
                file.write(LINE.format(name="postfix"))
            assert (await behind.look(at_once=True)).domains["b.test"].accepted == 1
            await asyncio.sleep(0.01)
    await behind.close()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


async def test_that_the_name_is_unknown_is_in_the_log_once_and_that_it_is_known_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "drainer")
    clock = StoppedClock()
    rounds = LookingBehindTheMta(BehindTheMta(MtaSettings(), clock), SideTasks(clock))
    for trouble in ("", "status 75", "status 75", "no answer", "", ""):
        rounds._see(DestinationsSeen(0.0, log_read=True, name_trouble=trouble))
    said = [record.getMessage() for record in caplog.records]
    assert said == ['event=mta_name_unknown detail="status 75"', "event=mta_name_known"]
