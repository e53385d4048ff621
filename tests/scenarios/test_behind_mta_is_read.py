"""Queue and log of a genuine Postfix and Exim, read while their providers refuse by rate."""

from __future__ import annotations

import asyncio
import smtplib
import subprocess
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from drainer.clock import StoppedClock
from drainer.destinations.looking import BehindTheMta as Looking
from drainer.settings.mta import MtaSettings
from tests import exim, postfix
from tests.exim import running_exim
from tests.scenarios.behind import (
    LIMITED,
    OTHERS,
    RECEIVING_RATE,
    UNUSUAL_RATE,
    BehindTheMta,
    behind_exim,
    behind_postfix,
)
from tests.scenarios.running import eventually

MAILS, TAKEN = 12, 3


def send(port: int) -> None:
    with smtplib.SMTP("127.0.0.1", port) as client:
        for number in range(MAILS):
            content = f"Message-ID: <{number}@example.org>\r\nSubject: hello\r\n\r\nhello\r\n"
            client.sendmail("ants-bounces@example.org", [f"m@{LIMITED}", f"m@{OTHERS[number % 2]}"], content)


@pytest.mark.parametrize(
    ("started", "needed", "rule", "says"),
    [
        (behind_postfix, postfix.needed, UNUSUAL_RATE, "421-4.7.28 Gmail has detected an unusual rate"),
        (behind_exim, exim.needed, RECEIVING_RATE, "450-4.2.1 The user you are trying to contact is receiving mail"),
    ],
    ids=["postfix", "exim"],
)  # fmt: skip
async def test_what_is_read_of_each_domain_is_what_its_provider_did(
    started: Callable[[Path, str, int], AbstractContextManager[BehindTheMta]],
    needed: Callable[[], None],
    rule: str,
    says: str,
    open_directory: Path,
) -> None:
    needed()
    with started(open_directory / "mta", f"{rule} after={TAKEN}", 60) as behind:
        clock = StoppedClock(time.time())
        looking = Looking(MtaSettings(**behind.settings), clock)
        await looking.look()  # what the log says is counted from here
        await asyncio.to_thread(send, behind.mta.port)
        await asyncio.to_thread(eventually, lambda: behind.mta.log_file.read_text().count(says) >= MAILS - TAKEN)
        await asyncio.to_thread(eventually, lambda: behind.look_at_queue() == {LIMITED: MAILS - TAKEN})
        clock.advance(60)
        seen = (await looking.look()).domains
        await looking.close()

    limited, others = seen[LIMITED], [seen[domain] for domain in ("first.example", "second.example")]
    assert (limited.accepted, limited.too_fast, limited.refused) == (TAKEN, MAILS - TAKEN, 0)
    # Exim's runs of the queue say of each recipient that its time has not come: that is not the provider's word.
    assert limited.deferred - limited.not_tried == MAILS - TAKEN
    assert limited.queued == MAILS - TAKEN and says in limited.reply
    assert [(other.accepted, other.deferred, other.queued) for other in others] == [(6, 0, 0), (6, 0, 0)]


def test_a_member_of_exims_group_lists_its_queue_where_set_user_id_bits_do_not_count(open_directory: Path) -> None:
    exim.needed()
    with running_exim(open_directory / "exim", {"*": ("127.0.0.9", 9)}, retry_s=600) as mta:
        with smtplib.SMTP("127.0.0.1", mta.port) as client:
            client.sendmail("ants-bounces@example.org", ["ann@example.net"], "Subject: hello\r\n\r\nhello\r\n")
        as_drainer = ("setpriv", "--reuid", "list", "--regid", "list", "--no-new-privs")
        for groups, status in ((("--groups", exim.USER), 0), (("--clear-groups",), 1)):
            ran = subprocess.run(
                [*as_drainer, *groups, *mta.command("-bp")], capture_output=True, text=True, check=False
            )
            assert ran.returncode == status, ran.stderr
            assert ("ann@example.net" in ran.stdout) is not status
