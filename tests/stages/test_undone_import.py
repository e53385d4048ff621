"""An import of a log that is taken back while an entry is in its turn: whoever it had covered gets the mail after all."""

from __future__ import annotations

from pathlib import Path

from drainer.control.messages.log_import import DeliveryInLog, ImportRequest
from drainer.control.messages.pauses_and_rates import RateRequest
from drainer.demo.sample_queue import write_plain
from drainer.demo.sink import Sink
from tests.stages.inside import ME, inside

NAME = "import-1"


async def test_recipient_whom_an_import_covered_gets_the_mail_if_it_is_undone_while_the_others_wait_for_the_rate(
    tmp_path: Path,
) -> None:
    outage = write_plain(tmp_path, 1, 3)
    ((list_id, message_id), owed) = next(iter(outage.owed.items()))
    in_log = DeliveryInLog(lists=(list_id,), message_id=message_id, recipients=(min(owed),), at_s=1_700_000_000.0)
    async with Sink() as sink, inside(tmp_path, outage, sink, feed={"messages": "0"}) as run:
        await run.until("it waits for the rate", lambda: run.resources.throttle.waits_for)
        learnt = await run.asks.import_log(ImportRequest(name=NAME, deliveries=[in_log], yes=True, note="a log"), ME)
        assert learnt.learnt == 1
        await run.until("two recipients wait for it", lambda: run.resources.throttle.waits_for)
        await run.asks.import_log(ImportRequest(name=NAME, undo=True), ME)
        await run.asks.set_rate(RateRequest(messages="unlimited"), ME)
        await run.until("it is off the disk", lambda: not run.files("backlog"))
        assert run.taken() == run.owed()
