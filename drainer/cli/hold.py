"""`drainer hold`, `release` and `drop`: what an operator decides about entries. A dry run unless --yes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from drainer.backlog.selection import Selectors
from drainer.cli.entries import (
    AS_THINGS_ARE,
    ClassOption,
    EntryArgument,
    ListOption,
    MessageIdOption,
    OlderOption,
    SenderOption,
    StateOption,
    SubjectOption,
    YoungerOption,
    entry_table,
    left_out,
    moment,
    selected,
)
from drainer.cli.options import ConfigOption, JsonOption, ReasonOption, YesOption
from drainer.cli.output import print_folded, print_json, table_width
from drainer.cli.service import ask
from drainer.control.messages.entries import SelectReply, SelectRequest
from drainer.errors import RequestRefused, UsageError
from drainer.text.wording import count, recipients_of

if TYPE_CHECKING:
    from drainer.control.client import ControlClient

_Action = Literal["hold", "release", "drop"]
AllOption = Annotated[bool, typer.Option("--all", help="Every entry, when no selector is given.")]

_TABLE_ROWS = 20
_DONE = {"hold": "held", "release": "released", "drop": "dropped"}
_HELP = {
    "hold": """Set entries aside until released. Without --yes it only says which.

    \b
    drainer hold --subject "wrong attachment"
    drainer hold --subject "wrong attachment" --yes --reason "asked by Ann"
    """,
    "release": """Let held or deferred entries go on at once. Without --yes it only says which, and how many recipients may
    get a second copy: those of entries held as in_doubt.

    \b
    drainer release --class resend
    drainer release 1772438466.0116487+e3c7fa --yes
    """,
    "drop": """Give entries up: their recipients will not get them. Without --yes it only says which.

    \b
    drainer drop --sender spammer@example.net
    drainer drop --sender spammer@example.net --yes --reason "spam run"
    """,
}
_NEXT = {
    "hold": "They wait until `drainer release`; `drainer entries --state held` lists them.",
    "release": "They are delivered in their turn; `drainer status` shows where it stands.",
    "drop": "Their recipients will not get them. `drainer status` counts them as dropped.",
}


def _command(action: _Action) -> Callable[..., None]:
    """The three differ in a word; their selectors and their caution are the same."""

    def command(
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
        everything: AllOption = False,
        yes: YesOption = False,
        reason: ReasonOption = "",
        as_json: JsonOption = False,
    ) -> None:
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
        _refuse_everything_by_accident(action, selectors, everything)
        request = SelectRequest(selectors=selectors, yes=yes, reason=reason)
        reply = ask(config, lambda service: _asked(service, action, request))
        if selectors.entry is not None and not reply.matched:
            raise RequestRefused(
                f"no entry here begins with {selectors.entry}, or other selectors leave it out; nothing was done "
                "(`drainer entries` lists them, `drainer show MESSAGE-ID` says what became of a mail)"
            )
        if as_json:
            print_json(reply)
            return
        for line in _lines(action, reply):
            print_folded(line)

    command.__doc__ = _HELP[action]
    return command


hold_command = _command("hold")
release_command = _command("release")
drop_command = _command("drop")


def _refuse_everything_by_accident(action: _Action, selectors: Selectors, everything: bool) -> None:
    named = bool(selectors.model_dump(exclude_none=True))
    if everything and named:
        raise UsageError("--all and a selector do not go together; leave one of them out")
    if not named and not everything:
        raise UsageError(f"say which entries to {action} (--list, --sender, --class, ...), or --all for every one")


async def _asked(service: ControlClient, action: _Action, request: SelectRequest) -> SelectReply:
    if action == "hold":
        return await service.hold(request)
    if action == "release":
        return await service.release(request)
    return await service.drop(request)


def _lines(action: _Action, reply: SelectReply) -> list[str]:
    lines = entry_table(reply.entries[:_TABLE_ROWS], table_width())
    if reply.matched > len(reply.entries[:_TABLE_ROWS]):
        lines.append(f"... {count(reply.matched - len(reply.entries[:_TABLE_ROWS]))} more")
    found = f"{count(reply.matched, 'entry', 'entries')}, {recipients_of(reply.recipients, reply.unread)}"
    if reply.may_have_it:
        lines.append(
            f"{count(reply.may_have_it, 'recipient')} may have it already: the MTA did not say whether it took the mail. "
            "Whoever has it gets a second copy."
        )
    lines += left_out(reply)
    if not reply.matched:
        return [*lines, "No entry matches; nothing was changed."]
    if not reply.done:
        return [*lines, f"Dry run: nothing was changed. With --yes this would {action} {found}.", AS_THINGS_ARE]
    done = f"{count(reply.changed, 'entry', 'entries')} {_DONE[action]} (of {found})."
    return [*lines, done, _NEXT[action], *_way_back(reply)]


def _way_back(reply: SelectReply) -> list[str]:
    """How to undo it, and until when that is possible."""
    if reply.number is None or not reply.changed:
        return []
    until = f" until {moment(reply.undo_until)} (duplicates.keep)" if reply.undo_until is not None else ""
    return [f"`drainer undo {reply.number} --yes` takes this back{until}."]
