"""`drainer import-log`: learn from logs what was delivered before. A dry run unless --yes.

A running service gets the deliveries; without one the ledger is written here, and the queue is searched for what the log
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

_Send = Callable[[ImportRequest], Awaitable[ImportReply]]


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

    Logs of Postfix and Exim (also the output of `journalctl -o export`) name the recipients. Mailman's own smtp log only
    counts them: such a line covers an entry with exactly that number of recipients, if the log says which of them the MTA
    accepted. With logs/smtp of Mailman 2.1, its logs post and smtp-failure are read too. A log has the list, the Message-ID
    and the recipients of a message, not its text. A mail is a list's if its reverse-path is the list's bounces address.

    \b
    drainer import-log /var/log/mail.log.1 /var/log/mail.log
    drainer import-log /var/log/mail.log --yes
    drainer import-log --undo import-20261122T095001Z
    """
    if bool(files) == bool(undo):
        raise UsageError("name the logs to learn from, or an import with --undo")
    if undo:
        _forget(undo, config, as_json)
    else:
        _learn(files or [], config, yes, as_json)


def _forget(name: str, config: Path | None, as_json: bool) -> None:
    reply = _exchange(config, [ImportRequest(name=_checked(name), undo=True, note="forgotten")])
    if as_json:
        print_json(reply)
    else:
        print(f"{count(reply.learnt, 'delivery', 'deliveries')} forgotten that {name} had learnt.")


def _learn(files: Sequence[Path], config: Path | None, yes: bool, as_json: bool) -> None:
    found, deliveries = _read(files)
    name = import_name(f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}")
    reply = _exchange(config, list(_requests(name, deliveries, yes, ", ".join(map(str, files)))))
    if as_json:
        print_json({**reply.model_dump(mode="json"), "mails": found.mails, **_unused_as_json(found)})
        return
    for line in [*_unused(found), *_lines(reply)]:
        print_folded(line)


def _read(files: Sequence[Path]) -> tuple[DeliveriesInLog, list[Delivered]]:
    """What the logs say, and the deliveries in that. The logs of Mailman 2.1 beside a log of its own are read too."""
    found = DeliveriesInLog()
    for file in files:
        found.feed(file_lines(file, time.time()))
        found.feed_mailman(text_lines(file))
    beside = [log for file in files for log in ends_beside(file) if log.is_file() and log not in files]
    for log in beside:
        found.feed_mailman(text_lines(log))
    has_failures = any(is_failure_log(file) for file in [*files, *beside])
    return found, list(found.deliveries(has_failures))


def _unused_as_json(found: DeliveriesInLog) -> dict[str, object]:
    unused = found.unused
    return {
        "mails_of_no_list": unused.mails_of_no_list,
        "mails_without_message_id": unused.mails_without_message_id,
        "refused_recipients": unused.refused_recipients,
        "undelivered_recipients": unused.undelivered_recipients,
        "failed_deliveries": unused.failed_deliveries,
        "untold_deliveries": unused.unclear_deliveries,
    }


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

    async def all_sent(send: _Send) -> ImportReply:
        replies = [await send(request) for request in requests]
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
        return ask(config, lambda service: all_sent(service.import_log))
    except ServiceNotRunning:
        return asyncio.run(
            _here(client_settings(config), any(request.yes or request.undo for request in requests), all_sent)
        )


async def _here(settings: Settings, writes: bool, all_sent: Callable[[_Send], Awaitable[ImportReply]]) -> ImportReply:
    from drainer.operate.import_log import carry_out

    async with _ledger_and_queue(settings, writes) as (ledger, index):
        return await all_sent(lambda request: carry_out(ledger, index, request, getpass.getuser(), time.time()))


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
    """The service's user could not write a ledger that root made."""
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
    reasons = [
        (unused.mails_of_no_list, "mail", "mails", "went out under no list's bounces address"),
        (unused.mails_without_message_id, "mail", "mails", "had no Message-ID in the log"),
        (unused.refused_recipients, "recipient", "recipients", "refused for good: did not get it"),
        (unused.undelivered_recipients, "recipient", "recipients", "left the MTA's queue undelivered"),
        (unused.failed_deliveries, "delivery", "deliveries", "of Mailman's failed: the MTA accepted no recipient"),
        (
            unused.unclear_deliveries,
            "delivery",
            "deliveries",
            "of Mailman's: the log does not say which recipients the MTA accepted (Mailman 3: templates of [logging.smtp];"
            " 2.1: name its logs post and smtp-failure too)",
        ),
    ]
    return [f"not used: {count(number, one, many)} {why}" for number, one, many, why in reasons if number]


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
            f"not used: {count(reply.unmatched, 'delivery', 'deliveries')} of Mailman's that match no entry here"
        )
    covered = sum(one.covered for one in reply.entries)
    found = f"{count(reply.deliveries, 'delivery', 'deliveries')} in the log"
    waiting = f"{count(covered, 'recipient')} of {count(len(reply.entries), 'entry', 'entries')} here"
    if not reply.done:
        return [
            *lines,
            f"Dry run: nothing was changed. {found}; they cover {waiting}. With --yes the ledger remembers them.",
        ]
    return [
        *lines,
        f"{found}, {count(reply.learnt)} of them new; they cover {waiting}. These get no second copy.",
        f"`drainer import-log --undo {reply.name}` forgets them.",
    ]
