"""`drainer entries` and `drainer show`: what waits, and what became of it. Also the selectors of hold, release and drop."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

import typer

from drainer.backlog.selection import EntryLine, Selectors
from drainer.cli.consult import consult, without_service_lines
from drainer.cli.options import ConfigOption, JsonOption, parse_duration
from drainer.cli.output import print_json, table_width
from drainer.control.messages.entries import DeliveryLine, SelectReply, ShowReply
from drainer.errors import UsageError
from drainer.text.columns import wrapped
from drainer.text.wording import count, duration, shortened, shown, size

_State = Literal["waiting", "active", "deferred", "held"]
_Class = Literal["exact", "partial", "restored", "resend", "conflict", "undecided", "none"]

EntryArgument = Annotated[str | None, typer.Argument(metavar="ENTRY", help="File name of an entry, or its beginning.")]
ListOption = Annotated[
    str | None, typer.Option("--list", metavar="LIST", help="Its name, address or list-id; * for several.")
]
SenderOption = Annotated[str | None, typer.Option("--sender", metavar="TEXT", help="In the sender.")]
SubjectOption = Annotated[str | None, typer.Option("--subject", metavar="TEXT", help="In the subject.")]
MessageIdOption = Annotated[str | None, typer.Option("--message-id", metavar="TEXT", help="In the Message-ID.")]
ClassOption = Annotated[_Class | None, typer.Option("--class", help="Kind of duplicate, as scanning found it.")]
StateOption = Annotated[_State | None, typer.Option("--state", help="Where it stands.")]
OlderOption = Annotated[
    float | None, typer.Option("--older-than", metavar="D", parser=parse_duration, help='Received longer ago: "2d".')
]
YoungerOption = Annotated[
    float | None, typer.Option("--younger-than", metavar="D", parser=parse_duration, help='Received since: "1h".')
]

AS_THINGS_ARE = "`--yes` looks again: mail that comes or goes until then changes the count."
"""Ends a dry run."""

_GONE = {
    "finished": "no longer here: delivered in between, or another operator was faster",
    "vanished": "the file was taken out of the queue directory",
    "settled": "no recipient is left to deliver to",
    "copy_goes": "the recipients go back with another copy of the mail",
}

_SHOWN_FILEBASE = 6
_ROOM_BESIDE = 50
"""Columns that list and subject need to stand beside the rest of a row."""


def selected(**given: str | float | None) -> Selectors:
    """The selectors given. Raises UsageError for an empty one: an unset variable, which would match everything."""
    for name, value in given.items():
        if isinstance(value, str) and not value.strip():
            option = {"duplicate": "class", "message_id": "message-id"}.get(name, name)
            raise UsageError(f"--{option} is empty; leave it out to select by something else")
    return Selectors.model_validate(given)


def entries_command(
    entry: EntryArgument = None,
    config: ConfigOption = None,
    of_list: ListOption = None,
    sender: SenderOption = None,
    subject: SubjectOption = None,
    message_id: MessageIdOption = None,
    duplicate: ClassOption = None,
    state: StateOption = None,
    older_than: OlderOption = None,
    younger_than: YoungerOption = None,
    limit: Annotated[int, typer.Option("--limit", min=0, metavar="N", help="Show at most that many.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """List the entries in custody. Selectors narrow it down; all that are given must match.

    \b
    drainer entries --state held
    drainer entries --list announce --older-than 2d --limit 20
    drainer entries --class resend --json
    """
    selectors = selected(
        entry=entry,
        list=of_list,
        sender=sender,
        subject=subject,
        message_id=message_id,
        duplicate=duplicate,
        state=state,
        older_than_s=older_than,
        younger_than_s=younger_than,
    )
    reply = consult(config, lambda service: service.entries(selectors, limit))
    if as_json:
        print_json(reply)
        return
    for line in without_service_lines(reply.without_service, config):
        print(line)
    for line in entry_table(reply.entries, table_width()):
        print(line)
    print(_how_many(len(reply.entries), reply.total))


def show_command(
    entry: Annotated[str, typer.Argument(metavar="ENTRY", help="File name, its beginning, or a Message-ID.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one entry, or what became of a message: headers, recipients still owed, deliveries.

    \b
    drainer show 1772438466.0116487+e3c7fa
    drainer show '<4711@example.org>'
    """
    if not entry.strip():
        raise UsageError("ENTRY is empty")
    reply = consult(config, lambda service: service.show(entry))
    if as_json:
        print_json(reply)
        return
    for line in (*without_service_lines(reply.without_service, config), *_details(reply)):
        print(line)


def entry_table(entries: Sequence[EntryLine], width: int | None) -> list[str]:
    """One row per entry, with list and subject beside it, or below it where a terminal has no room for them.

    width  columns of the terminal. Names are cut to a beginning that is unique among thousands, and that we accept again.
           None: a pipe or file, one line per entry, and nothing is cut
    """
    if not entries:
        return []
    rows = [
        (
            short_name(one.entry) if width is not None else shown(one.entry),
            one.state,
            duration(one.age_s),
            "?" if one.recipients is None else count(one.recipients),
            "" if one.duplicate == "none" else one.duplicate,
        )
        for one in entries
    ]
    heads = ("entry", "state", "age", "rcpts", "class")
    widths = [max(len(head), *(len(row[at]) for row in rows)) for at, head in enumerate(heads)]
    last = "list: subject (why)"
    if width is None:
        return [
            _row(heads, widths) + last,
            *(_row(row, widths) + _told(one) for one, row in zip(entries, rows, strict=True)),
        ]
    rest = width - sum(widths) - 2 * len(widths)
    if rest < _ROOM_BESIDE:
        lines = [_row(heads, widths).rstrip(), shortened(f"    {last}", width)]
    else:
        lines = [_row(heads, widths) + last]
    for one, row in zip(entries, rows, strict=True):
        room = rest if rest >= _ROOM_BESIDE else max(20, width - 4)
        # A held entry is listed for its reason: without room beside the row, the reason goes below and is never cut.
        below = shown(one.reason) if one.state == "held" and len(_told(one)) > room else ""
        text = shortened(_told(one, why=not below), room)
        lines += [_row(row, widths) + text] if rest >= _ROOM_BESIDE else [_row(row, widths).rstrip(), f"    {text}"]
        lines += wrapped(below, max(width, 20), "    why: ", "      ") if below else []
    return lines


def _told(one: EntryLine, why: bool = True) -> str:
    text = f"{shown(one.list)}: {shown(one.subject)}"
    return f"{text} ({shown(one.reason)})" if why and one.reason else text


def left_out(reply: SelectReply) -> list[str]:
    """What was found and not changed, and why."""
    lines = [f"not now: {shown(why)}" for why in reply.skipped]
    if reply.gone:
        why = [(number, _GONE.get(reason, reason)) for reason, number in reply.gone_why.items()]
        why = why or [(reply.gone, "no longer here")]  # from a service before gone_why
        lines += [f"not changed, {count(number, 'entry', 'entries')}: {text}" for number, text in why]
    return lines


def short_name(filebase: str) -> str:
    """The time and six digits of the digest."""
    when, plus, digest = filebase.partition("+")
    return shown(when + plus + digest[:_SHOWN_FILEBASE])


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    aligned = (
        f"{cell:>{width}}" if at in (2, 3) else f"{cell:<{width}}"
        for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "".join(f"{cell}  " for cell in aligned)


def _how_many(listed: int, total: int) -> str:
    if not total:
        return "No entry matches."
    if listed < total:
        return f"{count(listed)} of {count(total, 'entry', 'entries')}; --limit {total} shows all"
    return count(total, "entry", "entries")


def _details(reply: ShowReply) -> list[str]:
    lines = []
    one = reply.entry
    if one is None:
        lines.append("No such entry waits.")
    else:
        lines += [
            f"entry       {shown(one.entry)}",
            f"state       {one.state}" + (f": {shown(one.reason)}" if one.reason else ""),
            f"list        {shown(one.list)}",
            f"received    {duration(one.age_s)} ago",
            f"size        {size(one.bytes)}",
        ]
        if one.duplicate != "none":
            lines.append(f"duplicate   {one.duplicate}" + (f" of {shown(one.of)}" if one.of else ""))
        if one.due is not None:
            lines.append(f"due         {moment(one.due)}")
        lines += [f"also waits  {shown(other)}" for other in reply.others]
    if reply.headers:
        lines += ["", *(f"{shown(name)}: {shown(value)}" for name, value in reply.headers)]
    owed = reply.recipients if reply.owed is None else reply.owed
    if reply.recipients:
        of_all = f" of {count(len(reply.recipients))}" if len(owed) < len(reply.recipients) else ""
        lines += ["", f"{count(len(owed), 'recipient')}{of_all} still owed{':' if owed else ''}"]
        lines += [f"  {shown(address)}" for address in owed]
    if reply.metadata:
        lines += ["", "metadata:"]
        lines += [f"  {shown(name)} = {shown(json.dumps(value))}" for name, value in sorted(reply.metadata.items())]
    if reply.fates:
        lines += ["", "deliveries:", *(_fate(fate) for fate in reply.fates)]
    return lines


def _fate(fate: DeliveryLine) -> str:
    recipients = count(fate.recipients, "recipient")
    ends = {"doubt_delivered": "delivered", "doubt_resent": "sent again", "doubt_held": "held"}
    if fate.state == "suppressed":
        had = f"at {moment(fate.of_at)}" if fate.of_at else ""
        said = f"suppressed {recipients} had it by {shown(fate.of)} {had}"
    elif fate.state in ends:
        said = f"was in doubt, {ends[fate.state]}: {shown(fate.detail)}; {recipients}"
    else:
        said = f"{fate.state:<10} {recipients}  {shown(fate.detail)}".rstrip()
    return f"  {moment(fate.at)}  {shown(fate.list)}  {said}\n      entry {shown(fate.entry)}"


def moment(at_s: float) -> str:
    """Date, time and zone of this machine."""
    return f"{datetime.fromtimestamp(at_s).astimezone():%Y-%m-%d %H:%M:%S %Z}"
