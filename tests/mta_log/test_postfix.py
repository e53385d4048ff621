"""The same questions, put to the log of a genuine Postfix."""

from __future__ import annotations

import smtplib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from drainer.mta_log.answer import SETTLED_AFTER_S, Answer
from drainer.mta_log.file import read_mta_log
from tests.postfix import Postfix, needed, running_postfix

SENDER = "list-bounces@example.test"


@pytest.fixture
def postfix() -> Iterator[Postfix]:
    needed()
    with tempfile.TemporaryDirectory(prefix="drainer-postfix-") as place:
        Path(place).chmod(0o755)
        with running_postfix(Path(place)) as running:
            yield running


def content(message_id: str) -> bytes:
    return f"From: ann@example.test\r\nTo: list@example.test\r\nMessage-ID: {message_id}\r\n\r\nhello\r\n".encode()


def test_genuine_log_tells_accepted_from_never_sent(postfix: Postfix) -> None:
    before_s = time.time()
    chunks = [["a@example.test", "b@example.test"], ["c@example.test"]]
    with smtplib.SMTP("127.0.0.1", postfix.port) as client:
        for chunk in chunks:
            client.sendmail(SENDER, chunk, content("<one@example.test>"))
    while postfix.queued():
        """Each look is a process of its own; it ends when Postfix has delivered."""

    def quiet(at_s: float, said: str = "anvil[1]: statistics") -> str:
        return f"{time.strftime('%b %e %H:%M:%S', time.localtime(at_s))} mail postfix/{said}\n"

    log = postfix.root / "log-of-a-longer-time"
    log.write_text(
        quiet(before_s - 60, "master[1]: terminating on signal 15")
        + postfix.log_file.read_text()
        + quiet(before_s + 2 * SETTLED_AFTER_S),
        encoding="utf-8",
    )
    evidence = read_mta_log(log, before_s, before_s + 100)

    def answers_for(message_id: str, *recipients: str, reverse_path: str = SENDER) -> set[Answer]:
        return set(evidence.answers(message_id, reverse_path, recipients, before_s).values())

    assert [answers_for("<one@example.test>", *chunk) for chunk in chunks] == [{Answer.YES}, {Answer.YES}]
    assert answers_for("<one@example.test>", "d@example.test") == {Answer.NO}
    assert answers_for("<one@example.test>", "a@example.test", reverse_path="other@example.test") == {Answer.NO}
    assert answers_for("<two@example.test>", "a@example.test") == {Answer.NO}
