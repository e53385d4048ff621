"""`drainer import-log`: learn from logs what was delivered before. A dry run unless --yes.

With the service running it is told; without it the ledger is written here, and the queue is looked through for what the log
concerns.
"""

from __future__ import annotations

import asyncio
import getpass
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drainer.cli.options import ConfigOption, JsonOption, YesOption
from drainer.cli.output import print_folded, print_json
from drainer.cli.service import ask, client_settings
from drainer.control.messages.log_import import DeliveryInLog, ImportReply, ImportRequest
from drainer.duplicates.known_from_log import import_name
from drainer.errors import ServiceNotRunning, UsageError
from drainer.mta_log.delivered import Delivered, DeliveriesInLog
from drainer.mta_log.file import file_lines, text_lines
from drainer.mta_log.mailman_smtp_log import ends_beside, is_failure_log
from drainer.settings import Settings
from drainer.text.wording import count, shown

if TYPE_CHECKING:
    from drainer.backlog.index import BacklogIndex
    from drainer.ledger.contract import Ledger

RECIPIENTS_AT_A_TIME = 2000
"""A request stays well below the megabyte the service takes."""

_QUEUES = ("drainer/backlog", "drainer/held", "out", "retry")
_ENTRIES_SHOWN = 20

_Tell = Callable[[ImportRequest], Awaitable[ImportReply]]


def import_log_command(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILE...", help="Logs, packed or not, oldest first.", show_default=False),
    ] = None,
    config: ConfigOption = None,
    yes: YesOption = False,
    undo: Annotated[str, typer.Option("--undo", metavar="NAME", help="Forget what this import learnt.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Learn from logs what was delivered before, so that it is not delivered again. Without --yes it only says what.

    Logs of Postfix and Exim (also what `journalctl -o export` prints) name recipients; Mailman's own smtp log names how
    many: that counts for an entry with exactly as many recipients, if the log tells whom the MTA accepted. For Mailman 2.1's
    logs/smtp the logs post and smtp-failure beside it are read too. What is known of a message is its list, Message-ID and
    recipients, not its text. Mail counts as a list's if its reverse-path is the list's bounces address.

    \b
    drainer import-log /var/log/mail.log.1 /var/log/mail.log
    drainer import-log /var/log/mail.log --yes
    drainer import-log --undo import-20261122T095001Z
    """
    if bool(files) == bool(undo):
        raise UsageError("name the logs to learn from, or an import with --undo")
    if undo:
        reply = _exchange(config, [ImportRequest(name=_checked(undo), undo=True, note="forgotten")])
        if as_json:
            print_json(reply)
        else:
            print(f"{count(reply.learnt, 'delivery', 'deliveries')} forgotten that {undo} had learnt.")
        return
    found = DeliveriesInLog()
    for file in files or ():
        found.feed(file_lines(file, time.time()))
        found.feed_mailman(text_lines(file))
    ends = [end for file in files or () for end in ends_beside(file) if end.is_file() and end not in (files or ())]
    for file in ends:
        found.feed_mailman(text_lines(file))
    failures_read = any(is_failure_log(file) for file in [*(files or ()), *ends])
    name = import_name(f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}")
    deliveries = list(found.deliveries(failures_read))
    reply = _exchange(config, list(_requests(name, deliveries, yes, ", ".join(str(file) for file in files or ()))))
    if as_json:
        unused = found.unused
        print_json(
            {
                **reply.model_dump(mode="json"),
                "mails": found.mails,
                "mails_of_no_list": unused.mails_of_no_list,
                "mails_without_message_id": unused.mails_without_message_id,
                "refused_recipients": unused.refused_recipients,
                "undelivered_recipients": unused.undelivered_recipients,
                "failed_deliveries": unused.failed_deliveries,
                "untold_deliveries": unused.unclear_deliveries,
            }
        )
        return
    for line in [*_unused(found), *_lines(reply)]:
        print_folded(line)


def _checked(name: str) -> str:
    if not name.startswith(import_name("")):
        raise UsageError(
            f"{name} is no import; `drainer import-log --yes` and the journal name them ({import_name('...')})"
        )
    return name


def _requests(name: str, deliveries: Sequence[Delivered], yes: bool, files: str) -> Iterator[ImportRequest]:
    batch: list[DeliveryInLog] = []
    for one in deliveries:
        for start in range(0, max(1, len(one.recipients)), RECIPIENTS_AT_A_TIME):
            some = one.recipients if one.carried is not None else one.recipients[start : start + RECIPIENTS_AT_A_TIME]
            batch.append(
                DeliveryInLog(
                    lists=one.lists, message_id=one.message_id, recipients=some, at_s=one.at_s, carried=one.carried
                )
            )
            if sum(1 + len(part.recipients) for part in batch) >= RECIPIENTS_AT_A_TIME:
                yield ImportRequest(name=name, deliveries=batch, yes=yes)
                batch = []
            if one.carried is not None:
                break
    yield ImportRequest(name=name, deliveries=batch, yes=yes, note=files)


def _exchange(config: Path | None, requests: Sequence[ImportRequest]) -> ImportReply:
    """All requests of one import, answered as one: by the service, or here where none runs."""

    async def told(tell: _Tell) -> ImportReply:
        replies = [await tell(request) for request in requests]
        return replies[-1].model_copy(
            update={
                **{
                    field: sum(getattr(reply, field) for reply in replies)
                    for field in ("deliveries", "learnt", "unmatched")
                },
                "entries": [entry for reply in replies for entry in reply.entries],
            }
        )

    try:
        return ask(config, lambda service: told(service.import_log))
    except ServiceNotRunning:
        return asyncio.run(
            _here(client_settings(config), any(request.yes or request.undo for request in requests), told)
        )


async def _here(settings: Settings, writes: bool, told: Callable[[_Tell], Awaitable[ImportReply]]) -> ImportReply:
    from drainer.operate.import_log import carry_out

    async with _ledger_and_queue(settings, writes) as (ledger, index):
        return await told(lambda request: carry_out(ledger, index, request, getpass.getuser(), time.time()))


@asynccontextmanager
async def _ledger_and_queue(settings: Settings, writes: bool) -> AsyncIterator[tuple[Ledger, BacklogIndex]]:
    """The ledger itself, and what waits in the queue and in custody.

    writes  False: a dry run, which asks the ledger nothing, and makes none
    Raises  LedgerUnusable while a service has it; UsageError where the service could not write it any more afterwards
    """
    from drainer.backlog.index import BacklogIndex
    from drainer.backlog.readers import read_entries
    from drainer.backlog.values import Description
    from drainer.ledger.open import empty_ledger, ledger_of
    from drainer.queuedir.scan import scan_queue

    if writes:
        _refuse_as_root(settings)
    async with AsyncExitStack() as stack:
        if writes:
            ledger = ledger_of(settings.ledger)
            await ledger.open()
            stack.push_async_callback(ledger.close)
        else:
            ledger = await stack.enter_async_context(empty_ledger())
        index = BacklogIndex(Path(":memory:"))
        stack.callback(index.close)
        directories = [settings.mailman.queue_dir / name for name in _QUEUES]
        listed = [
            (directory, entry) for directory in directories if directory.is_dir() for entry in scan_queue(directory)
        ]
        index.add_listed((entry.file, entry.size_bytes) for _, entry in listed)
        paths = [directory / entry.file.name for directory, entry in listed]
        index.describe(Description(read.summary) for read in read_entries(paths) if read.summary is not None)
        yield ledger, index


def _refuse_as_root(settings: Settings) -> None:
    """Files of the ledger that root makes are none the service's user can write."""
    try:
        owner = settings.mailman.queue_dir.stat().st_uid
    except OSError as exc:
        raise UsageError(f"{settings.mailman.queue_dir} cannot be looked at: {exc.strerror}") from exc
    if os.geteuid() == 0 != owner:
        raise UsageError(
            "the service does not run, so its ledger is written here: do that as its user, with"
            f" `sudo -u '#{owner}' drainer import-log ...`, or start the service first"
        )


def _unused(found: DeliveriesInLog) -> list[str]:
    unused = found.unused
    told = [
        (unused.mails_of_no_list, "mail", "mails", "went out under no list's bounces address"),
        (unused.mails_without_message_id, "mail", "mails", "had no Message-ID in the log"),
        (unused.refused_recipients, "recipient", "recipients", "refused for good: did not get it"),
        (unused.undelivered_recipients, "recipient", "recipients", "left the MTA's queue undelivered"),
        (unused.failed_deliveries, "delivery", "deliveries", "of Mailman's failed: the MTA accepted nobody"),
        (
            unused.unclear_deliveries,
            "delivery",
            "deliveries",
            "of Mailman's: the log does not tell whom the MTA accepted (Mailman 3: templates of [logging.smtp];"
            " 2.1: name its logs post and smtp-failure too)",
        ),
    ]
    return [f"not used: {count(number, one, many)} {why}" for number, one, many, why in told if number]


def _lines(reply: ImportReply) -> list[str]:
    lines = [
        f"{shown(one.entry)}  {count(one.covered)} of {count(one.recipients, 'recipient')}  {shown(one.list)}"
        f"  {shown(one.message_id)}"
        for one in reply.entries[:_ENTRIES_SHOWN]
    ]
    if len(reply.entries) > _ENTRIES_SHOWN:
        lines.append(f"... {count(len(reply.entries) - _ENTRIES_SHOWN)} more")
    if reply.unmatched:
        lines.append(
            f"not used: {count(reply.unmatched, 'delivery', 'deliveries')} of Mailman's that fit no entry here"
        )
    covered = sum(one.covered for one in reply.entries)
    found = f"{count(reply.deliveries, 'delivery', 'deliveries')} in the log"
    waiting = f"{count(covered, 'recipient')} of {count(len(reply.entries), 'entry', 'entries')} here"
    if not reply.done:
        return [*lines, f"Dry run: nothing was changed. {found}; they cover {waiting}. With --yes they are remembered."]
    return [
        *lines,
        f"{found}, {count(reply.learnt)} of them news; they cover {waiting}, who get no second copy.",
        f"`drainer import-log --undo {reply.name}` forgets them.",
    ]
