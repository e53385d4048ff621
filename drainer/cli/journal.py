"""`drainer journal` and `drainer undo`: what operators did, and how to undo it."""

from __future__ import annotations

from typing import Annotated

import typer

from drainer.cli.consult import consult, without_service_lines
from drainer.cli.entries import AS_THINGS_ARE, moment, short_name
from drainer.cli.options import ConfigOption, JsonOption, ReasonOption, YesOption
from drainer.cli.output import print_folded, print_json
from drainer.cli.service import ask
from drainer.control.messages.journal import JournalAction, UndoReply, UndoRequest
from drainer.text.wording import count, shown

ANSWER_WITHIN_S = 6 * 3600.0
"""Each entry is a commit, as it was when it was dropped."""


def undo_command(
    number: Annotated[
        int | None,
        typer.Argument(metavar="N", min=1, help="Number of an action in `drainer journal`.  [default: the last]"),
    ] = None,
    config: ConfigOption = None,
    yes: YesOption = False,
    reason: ReasonOption = "",
    as_json: JsonOption = False,
) -> None:
    """Take back what an operator did. Without --yes it only says what that would be.

    Held entries are released, released ones held again, dropped ones brought back as long as their files are kept
    (duplicates.keep); pauses and limits are as they were before. A recipient who has had a mail does not get it
    again. Without N the last action that is not undone is meant. To undo an undo, give its number.

    \b
    drainer undo
    drainer undo --yes
    drainer undo 12 --yes --reason "wrong list"
    """
    request = UndoRequest(number=number, yes=yes, reason=reason)
    reply = ask(config, lambda service: service.undo(request), ANSWER_WITHIN_S)
    if as_json:
        print_json(reply)
        return
    for line in _undone(reply):
        print_folded(line)


def journal_command(
    config: ConfigOption = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, metavar="N", help="The last N.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """List what operators and the service decided: number, time, who, what and why; what can be undone, and until when.

    \b
    drainer journal
    drainer journal --limit 1000 --json
    """
    reply = consult(config, lambda service: service.journal(limit))
    if as_json:
        print_json(reply)
        return
    for line in without_service_lines(reply.without_service, config):
        print_folded(line)
    for action in reply.actions:
        print_folded(f"{action.number:>5}  {moment(action.at)}  {_what(action)}")
        print(f"       {_way_back(action)}")
    if not reply.actions:
        print("Nothing has been decided yet.")


def _what(action: JournalAction) -> str:
    return f"{shown(action.by)}  {shown(action.action)}  {shown(action.detail)}".rstrip()


def _way_back(action: JournalAction) -> str:
    if action.undone_by is not None:
        part = ""
        if action.entries and action.undone_entries < action.entries:
            part = f" ({count(action.undone_entries)} of {count(action.entries, 'entry', 'entries')})"
        return f"undone by {action.undone_by}{part}; `drainer undo {action.undone_by}` does it again"
    if not action.undoable:
        return f"cannot be undone: {shown(action.why_not)}"
    cut_off = "the service ended before it was finished; " if action.cut_off else ""
    until = f" until {moment(action.undo_until)}" if action.undo_until is not None else ""
    return f"{cut_off}`drainer undo {action.number}` takes it back{until}"


def _undone(reply: UndoReply) -> list[str]:
    of = reply.of
    lines = [f"action {of.number}, {moment(of.at)}: {_what(of)}"]
    for one in reply.left:
        names = ", ".join(map(short_name, one.names)) + (", ..." if one.entries > len(one.names) else "")
        lines.append(f"not undone for {count(one.entries, 'entry', 'entries')}: {shown(one.reason)} ({names})")
    lines += [f"not undone: {shown(words)}" for words in reply.kept]
    put_back = [f"{count(reply.changed, 'entry', 'entries')} put back"] if reply.changed else []
    done = ", ".join([*put_back, *map(shown, reply.decided)]) or "nothing"
    if not reply.done:
        return [
            *lines,
            f"Dry run: nothing was changed. With --yes: {done}.",
            *([AS_THINGS_ARE] if reply.changed else []),
        ]
    return [*lines, f"Undone: {done}.", f"`drainer undo {reply.number} --yes` takes the undo back."]
