"""Files of settled entries go in a thread: nothing else waits for the disk, and a refusal is seen and tried again."""

from __future__ import annotations

import errno
import os
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from drainer.demo.sample_queue import write_plain
from drainer.demo.sink import Sink
from tests.stages.inside import inside


async def test_mail_goes_on_while_the_file_of_a_settled_entry_waits_for_the_disk_and_a_stop_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outage, answers, unlink, asked = write_plain(tmp_path, 12, 2), threading.Event(), os.unlink, list[str]()
    async with Sink() as sink, inside(tmp_path, outage, sink) as run:

        def slow(path: str, **named: Any) -> None:
            if "/backlog/" in os.fspath(path):
                asked.append(path)
                assert answers.wait(60)
            unlink(path, **named)

        monkeypatch.setattr(os, "unlink", slow)
        await run.until("all is delivered", lambda: run.taken() == run.owed())
        await run.until("one is being removed", lambda: asked)
        said = await run.status()
        assert said.backlog.entries == len(run.files("backlog")) > 0, "their files are there, and so are they"
        run.service.stop("while the disk does not answer")
        await run.until("it stops", lambda: run.service.situation.state == "stopping")
        answers.set()
        assert await run.ended() == 0
        assert not run.files("backlog")
    assert run.taken() == run.owed()


async def test_entry_whose_file_cannot_be_removed_waits_with_the_reason_and_is_neither_sent_nor_counted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drainer.stages.set_aside.LOOK_AGAIN_S", 0.05)
    outage, unlink, is_read_only, refused = write_plain(tmp_path, 3, 2), os.unlink, True, Counter[str]()
    async with Sink() as sink, inside(tmp_path, outage, sink) as run:

        def refusing(path: str, **named: Any) -> None:
            if is_read_only and "/backlog/" in os.fspath(path):
                refused[path] += 1
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
            unlink(path, **named)

        monkeypatch.setattr(os, "unlink", refusing)
        await run.until("all is delivered", lambda: run.taken() == run.owed())
        (file, *_) = sorted((run.custody / "backlog").iterdir())
        await run.until("it waits", lambda: run.state_of(file) == "deferred")
        shown = (await run.asks.show(file.stem)).entry
        assert shown is not None and "Read-only file system" in shown.reason
        await run.until("each was tried three times", lambda: len(refused) == 3 and min(refused.values()) >= 3)
        said = await run.status()
        assert (said.backlog.entries, said.backlog.recipients) == (3, 0), "the files are there, and owe nobody"
        is_read_only = False
        await run.until("the disk lets them go", lambda: not run.files("backlog"))
        said = await run.status()
        assert (said.done.delivered_entries, said.done.delivered_recipients) == (3, sum(run.owed().values()))
    assert run.taken() == run.owed()
