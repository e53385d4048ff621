"""A backup puts entries back that were finished before, under their own names: they are duplicates, and counted as such."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from drainer.control.messages.pauses_and_rates import RateRequest
from drainer.demo.misbehaviour import Rule
from drainer.demo.sample_queue import write_plain
from drainer.demo.sink import Sink
from drainer.errors import LedgerNotDurable
from drainer.ledger.evidence import Account
from drainer.ledger.sqlite import SqliteLedger
from drainer.report.terminal.status import status_lines
from tests.stages.inside import ME, Inside, inside

REFUSED = "rcpt 550 5.1.1 unknown first=1"


def in_out(queue_dir: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted((queue_dir / "out").iterdir())}


def put_back(run: Inside, files: Mapping[str, bytes], some: slice) -> None:
    for name in list(files)[some]:
        run.arrive(run.outage.queue_dir / "out" / name, files[name])


def refused_first(files: Mapping[str, bytes], run: Inside) -> dict[str, bytes]:
    """The entry of which the sink refused a recipient, then the others: which one it is, the sessions race for."""
    got = Counter(message_id.encode() for message_id, _ in run.taken())
    return dict(sorted(files.items(), key=lambda file: min(n for one, n in got.items() if one in file[1])))


COUNTED = (
    "delivered_entries",
    "delivered_recipients",
    "suppressed_entries",
    "suppressed_recipients",
    "bounced_recipients",
)


async def counts(run: Inside) -> tuple[int, ...]:
    done = (await run.status()).done
    return tuple(getattr(done, name) for name in COUNTED)


async def account_of(home: Path) -> Account:
    """The ledger's, once the service has ended."""
    ledger = SqliteLedger(home / "ledger.sqlite")
    await ledger.open()
    try:
        return await ledger.account(10)
    finally:
        await ledger.close()


def an_hour_ago(home: Path) -> None:
    """All that was settled, as if it had been."""
    with sqlite3.connect(home / "ledger.sqlite") as ledger:
        ledger.execute("UPDATE deliveries SET at = at - 3600")
    ledger.close()


async def test_copies_back_from_a_backup_count_as_suppressed_in_the_same_run_and_after_a_restart(
    tmp_path: Path,
) -> None:
    outage = write_plain(tmp_path, 4, 3)
    files = in_out(outage.queue_dir)
    async with Sink(None, Rule.parse(REFUSED)) as sink:
        async with inside(tmp_path, outage, sink) as run:
            await run.until(
                "all is drained", lambda: len(sink.taken) >= 4 and not run.resources.index.totals.overall().entries
            )
            assert await counts(run) == (4, 11, 0, 0, 1)
            await run.until("the DSN is sent", lambda: any(not one.reverse_path for one in sink.taken))
            files = refused_first(files, run)
            put_back(run, files, slice(2))
            await run.until("they are suppressed", lambda: len(run.files("duplicates")) == 2)
            await run.until("they are gone", lambda: not run.resources.index.totals.overall().entries)
            assert await counts(run) == (4, 11, 2, 5, 1)
            assert "suppressed: 2 entries, 5 recipients" in "\n".join(status_lines(await run.status(), 100))
        an_hour_ago(tmp_path)
        async with inside(tmp_path, outage, sink, feed={"messages": "0/s"}) as run:
            put_back(run, files, slice(2, 4))
            await run.until("they are taken", lambda: len(run.files("backlog")) == 2)
        async with inside(tmp_path, outage, sink, until_empty=True) as run:
            assert await run.ended() == 0
            assert len(run.files("duplicates")) == 4
        assert len(run.taken()) == run.taken().total() == 11, "no recipient got a second copy"
    account = await account_of(tmp_path)
    assert tuple(account.totals.counts.get(name, 0) for name in COUNTED) == (4, 11, 4, 11, 1)
    by_fate = {(one.fate.value, one.kind): one.entries for one in account.ended}
    assert by_fate == {("delivered", "none"): 4, ("suppressed", "restored"): 4}


async def test_entry_whose_finish_a_crash_cut_off_counts_as_delivered(tmp_path: Path) -> None:
    """The outcomes of its transaction take two writes, so its end is a third."""
    outage = write_plain(tmp_path, 1, 3, domains=("example.org",))
    async with Sink(None, Rule.parse(REFUSED)) as sink:
        async with inside(tmp_path, outage, sink, feed={"messages": "0", "dsn": False}) as run:
            with run.refusing("finish_entry", LedgerNotDurable("the disk is full")):
                await run.asks.set_rate(RateRequest(messages="unlimited"), ME)
                await run.until("it is delivered", lambda: run.taken().total() == 2)
                await run.until("its end is refused", lambda: run.resources.gate.reasons)
                run.service.stop("the story is over")
                await run.ended()
        async with inside(tmp_path, outage, sink, until_empty=True) as run:
            assert await run.ended() == 0
            assert not run.files("duplicates") and not run.files("backlog")
    counted = (await account_of(tmp_path)).totals.counts
    assert counted["delivered_entries"] == 1 and not counted.get("suppressed_entries")


async def test_copy_back_from_a_backup_is_held_where_duplicates_are(tmp_path: Path) -> None:
    outage = write_plain(tmp_path, 1, 3)
    files = in_out(outage.queue_dir)
    async with Sink() as sink, inside(tmp_path, outage, sink, duplicates={"exact": "hold"}) as run:
        await run.until("it is drained", lambda: sink.taken and not run.resources.index.totals.overall().entries)
        put_back(run, files, slice(1))
        await run.until("it is held", lambda: len(run.files("held")) == 1)
        assert await counts(run) == (1, 3, 0, 0, 0)
