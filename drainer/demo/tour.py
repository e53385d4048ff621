"""The tour: `drainer demo` builds a sample outage, drains it with the real service, and checks at the sink.

    a queue of Mailman 2.1 in a temporary directory > the SMTP sink on loopback > `drainer run --until-empty`, watched
    through its control socket > reconciliation: the deliveries owed, compared with those the sink recorded

Only the sample and the sink are special to the demo: the service is the one that an operator runs.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text

from drainer.control.client import ControlClient
from drainer.demo.sample_queue import LISTS, Outage, write_outage
from drainer.errors import DrainerError, ServiceNotRunning
from drainer.report.snapshot import Snapshot
from drainer.report.terminal.status import status_lines

MAIL_EVERY_S = 25.0
"""Mean time between mails of the sample outage, resubmissions included. With it the last entry is not in the future."""
LATEST_RESEND_S = 9_000.0


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """Deliveries that the sink recorded, compared with those owed. A delivery is a pair of (mail on its list, recipient).

    once, missing, more_than_once   of those owed
    not_owed                  recorded but not owed
    held, to_hold             entries held for an operator; mails in the sample that a person sent again
    suppressed, to_suppress   entries suppressed; exact and restored duplicates in the sample
    """

    owed: int
    once: int
    missing: int
    more_than_once: int
    not_owed: int
    held: int
    to_hold: int
    suppressed: int
    to_suppress: int

    @property
    def is_right(self) -> bool:
        return (
            self.once == self.owed
            and not (self.missing or self.more_than_once or self.not_owed)
            and (self.held, self.suppressed) == (self.to_hold, self.to_suppress)
        )


def reconcile(outage: Outage, capture: Path) -> Reconciliation:
    """Compare the truth about the sample with the sink's capture file (one JSON object per transaction)."""
    owed = Counter(
        (list_name, message_id, recipient)
        for (list_name, message_id), recipients in outage.owed.items()
        for recipient in recipients
    )
    given: Counter[tuple[str, str, str]] = Counter()
    for line in capture.read_text().splitlines():
        transaction = json.loads(line)
        list_name = transaction["reverse_path"].rpartition("-bounces@")[0]
        given.update((list_name, transaction["message_id"], recipient) for recipient in transaction["recipients"])
    return Reconciliation(
        owed=len(owed),
        once=sum(given[key] == 1 for key in owed),
        missing=sum(given[key] == 0 for key in owed),
        more_than_once=sum(given[key] > 1 for key in owed),
        not_owed=sum(key not in owed for key in given),
        held=_entries(outage, "held"),
        to_hold=outage.duplicates.get("resend", 0),
        suppressed=_entries(outage, "duplicates"),
        to_suppress=outage.duplicates.get("exact", 0) + outage.duplicates.get("restored", 0),
    )


def _entries(outage: Outage, directory: str) -> int:
    return sum(1 for _ in (outage.queue_dir / "drainer" / directory).glob("*.pck"))


def write_settings(directory: Path, outage: Outage, port: int, messages: str) -> Path:
    """The settings file of the demo's service; returns its path."""
    path = directory / "drainer.toml"
    path.write_text(
        f"""\
[mailman]
flavour = "mailman2"
queue_dir = "{outage.queue_dir}"
lists_dir = "{outage.lists_dir}"

[custody]
beside_runner = true  # this machine may have a Mailman, of another queue

[mta]
host = "127.0.0.1"
port = {port}
log_file = "{directory / "mail.log"}"

[feed]
messages = "{messages}"
adaptive = false

[ledger]
path = "{directory / "ledger.sqlite"}"

[control]
socket = "{directory / "control.sock"}"
""",
        encoding="utf-8",
    )
    return path


def run_demo(mails: int = 2500, messages: str = "400/s", directory: Path | None = None, keep: bool = False) -> int:
    """The whole tour. Returns the exit status: 0 if every recipient got every mail exactly once.

    mails      number of original mails; resubmissions add about 40 %
    messages   rate limit, as in the settings
    directory  where to build the sample; None: a temporary one, removed at the end unless `keep`
    """
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    home = directory or Path(tempfile.mkdtemp(prefix="drainer-demo-"))
    try:
        return asyncio.run(_tour(console, home, mails, messages))
    finally:
        if directory is None and not keep:
            shutil.rmtree(home, ignore_errors=True)
        else:
            console.print(
                f"\nEverything is in {home}: the queue, the ledger, drainer.log, the sink's capture and mail log."
            )


async def _tour(console: Console, home: Path, mails: int, messages: str) -> int:
    began_s = time.monotonic()
    console.print("A list server comes back after an outage. Building its queue ...")
    outage = write_outage(home, mails, start_s=time.time() - LATEST_RESEND_S - mails * MAIL_EVERY_S)
    kinds = ", ".join(f"{number:,} {kind}" for kind, number in sorted(outage.duplicates.items()))
    console.print(
        f"  {outage.entries:,} entries for {outage.recipients:,} recipients in {outage.queue_dir / 'out'}:\n"
        f"  {mails:,} mails on {len(LISTS)} lists, and copies that the outage added: {kinds}.\n"
    )
    capture = home / "capture.jsonl"
    sink, port = await _start_sink(home, capture)
    try:
        settings = write_settings(home, outage, port, messages)
        console.print(
            f"Draining into an SMTP sink on 127.0.0.1:{port}, at most {messages}, with `drainer run --until-empty`.\n"
            "Meanwhile the operator sees (`drainer status --watch`):\n"
        )
        status = await _drain_and_watch(console, home, settings)
    finally:
        sink.terminate()
        await sink.wait()
    if status != 0:
        console.print(f"\nThe service ended with exit status {status}; its last lines:")
        console.print("".join((home / "drainer.log").read_text().splitlines(keepends=True)[-10:]), markup=False)
        return 1
    result = reconcile(outage, capture)
    _print_reconciliation(console, outage, result, time.monotonic() - began_s)
    return 0 if result.is_right else 1


async def _start_sink(home: Path, capture: Path) -> tuple[asyncio.subprocess.Process, int]:
    sink = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "drainer.demo.sink", "--port", "0",
        "--capture", str(capture), "--log", str(home / "mail.log"), stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert sink.stdout is not None
    line = (await sink.stdout.readline()).decode()
    if not line.startswith("listening on "):
        raise DrainerError(f"the SMTP sink did not start: {line.strip() or 'it printed nothing'}")
    return sink, int(line.rpartition(":")[2])


async def _drain_and_watch(console: Console, home: Path, settings: Path) -> int:
    """Run the service to its end and show its status meanwhile; returns its exit status."""
    with (home / "drainer.log").open("ab") as log:
        service = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "drainer", "run", "--until-empty", "--config", str(settings), stdout=log, stderr=log
        )
    ended = asyncio.create_task(service.wait())
    try:
        with Live(console=console, refresh_per_second=4, transient=False, auto_refresh=False) as live:
            while not ended.done():
                await asyncio.wait([ended], timeout=0.5)
                snapshot = await _snapshot(home / "control.sock")
                if snapshot is not None:
                    lines = status_lines(snapshot, min(console.width, 100), lists=5, colour=False)
                    live.update(Text("\n".join(lines)), refresh=console.is_terminal)
    finally:
        if not ended.done():
            service.terminate()
            await ended
    return ended.result()


async def _snapshot(socket: Path) -> Snapshot | None:
    """The service's status; None before it listens and after it has ended."""
    try:
        async with ControlClient(socket) as client:
            return await client.status()
    except (ServiceNotRunning, DrainerError):
        return None


def _print_reconciliation(console: Console, outage: Outage, result: Reconciliation, seconds: float) -> None:
    rows = (
        ("Deliveries owed (a mail on its list, to a recipient)", result.owed),
        ("given to the sink exactly once", result.once),
        ("given to the sink more than once", result.more_than_once),
        ("missing", result.missing),
        ("given to the sink but not owed", result.not_owed),
    )
    if not console.is_terminal:
        console.print()
    console.print("\nReconciliation, from the sink's capture file:")
    for text, number in rows:
        console.print(f"  {number:>9,}  {text}")
    planted = outage.duplicates
    console.print("Duplicates in the sample:")
    for text, number, of in (
        (f"suppressed ({planted.get('exact', 0):,} exact, {planted.get('restored', 0):,} restored)",
         result.suppressed, result.to_suppress),
        ("mails sent again by a person, held for you to decide", result.held, result.to_hold),
    ):  # fmt: skip
        console.print(f"  {number:>9,}  of {of:,} {text}")
    partial, crossed = planted.get("partial", 0), planted.get("cross-post", 0)
    console.print(
        f"             {partial:,} partial ones went to newcomers only; {crossed:,} cross-posts are no duplicates"
    )
    verdict = "Every recipient got every mail exactly once" if result.is_right else "NOT RIGHT: see above"
    console.print(f"\n{verdict} ({seconds:.0f} s).")
