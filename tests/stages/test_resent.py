"""A text sent again by a person waits for a person, and so does every copy of it."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from drainer.demo.sample_queue import write_plain
from drainer.demo.sink import Sink
from tests.stages.inside import ME, inside
from tests.stages.test_taken_out import copied, only


def sent_again(content: bytes) -> bytes:
    """The same words under another Message-ID, at another time."""
    again = content.replace(b"000000.plain@", b"000000.again@")
    return re.sub(rb"(Date.{0,40}\d\d:\d\d:)\d\d", rb"\g<1>59", again, count=1, flags=re.DOTALL)


async def test_late_copy_of_a_held_resend_is_held_too_and_sent_once_when_both_are_released(tmp_path: Path) -> None:
    outage = write_plain(tmp_path, 1, 3)
    original = only(outage)
    resend = copied(original)
    resend.write_bytes(sent_again(original.read_bytes()))
    assert resend.read_bytes() != original.read_bytes()
    late = resend.with_name(f"{float(resend.name.partition('+')[0]) + 50!r}+{'c' * 40}.pck")
    content = resend.read_bytes()
    async with Sink(None) as sink, inside(tmp_path, outage, sink) as run:
        await run.until("the resend is held", lambda: run.state_of(resend) == "held")
        await run.until("the first is sent", lambda: run.taken() == run.owed())
        run.arrive(late, content)
        await run.until("its copy is held", lambda: run.state_of(late) == "held")
        assert run.taken() == run.owed()
        for file in (late, resend):
            assert (await run.asks.release(run.of(file), ME)).changed == 1
        await run.until("nothing waits", lambda: run.state_of(late) is None and run.state_of(resend) is None)
        again = Counter({("<000000.again@example.org>", name): 1 for _, name in run.owed()})
        assert run.taken() == run.owed() + again
