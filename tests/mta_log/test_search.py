"""The log is searched while the service runs: one that hangs is not waited for without end, and answers nobody else."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path

import pytest

import drainer.mta_log.search
from drainer.errors import MtaLogUnreadable
from drainer.mta_log.answer import MtaEvidence
from drainer.mta_log.search import LogSearch

LOG = Path("/var/log/mail.log")


async def test_answer_that_comes_late_is_none_for_other_mails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a mail that nobody looked for would be taken for one that the log does not have, and be sent again."""
    answers, asked = threading.Event(), list[frozenset[str]]()

    def hanging(where: Path, from_s: float, now_s: float, message_ids: Iterable[str]) -> MtaEvidence:
        asked.append(frozenset(message_ids))
        if len(asked) == 1:
            answers.wait()
        return MtaEvidence(message_ids)

    monkeypatch.setattr(drainer.mta_log.search, "read_mta_log", hanging)
    search = LogSearch(within_s=0.05)
    try:
        with pytest.raises(MtaLogUnreadable, match=r"the search of /var/log/mail.log: no answer within 0.05 s"):
            await search.evidence(LOG, 1.0, 9.0, ["<one@x>"])
        await search.evidence(LOG, 1.0, 9.0, ["<two@x>"])
        assert asked == [{"<one@x>"}, {"<two@x>"}]
    finally:
        answers.set()


async def test_log_that_cannot_be_read_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(MtaLogUnreadable, match="No such file"):
        await LogSearch().evidence(tmp_path / "none", 1.0, 9.0, ["<one@x>"])
