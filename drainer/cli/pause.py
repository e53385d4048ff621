"""`drainer pause` and `drainer resume`."""

from __future__ import annotations

from typing import Annotated

import typer

from drainer.cli.options import ConfigOption, JsonOption, ReasonOption, parse_duration
from drainer.cli.output import print_json
from drainer.cli.service import ask
from drainer.control.messages.base import Done
from drainer.control.messages.pauses_and_rates import PauseRequest, ResumeRequest
from drainer.errors import UsageError
from drainer.text.wording import shown

_ListOption = Annotated[
    str | None,
    typer.Option(
        "--list", metavar="LIST", help="Only this one: name, address or list-id; * for several.  [default: all]"
    ),
]


def pause_command(
    config: ConfigOption = None,
    only_list: _ListOption = None,
    for_s: Annotated[
        float | None,
        typer.Option("--for", metavar="D", parser=parse_duration, help='Resume by itself after "90s", "10m" or "2h".'),
    ] = None,
    reason: ReasonOption = "",
    as_json: JsonOption = False,
) -> None:
    """Stop delivering; what is being sent is finished first. Lasts across restarts, until resumed.

    \b
    drainer pause --reason "MTA disk is full"
    drainer pause --for 30m
    drainer pause --list announce@example.org
    """
    chosen = _given(only_list)
    if for_s is not None and for_s <= 0:
        raise UsageError("--for 0 would be no pause; leave it out to pause until resumed")
    request = PauseRequest(list=chosen, for_s=for_s, reason=reason)
    _tell(ask(config, lambda service: service.pause(request)), as_json)
    if not as_json:
        print(f"`drainer resume{_named(chosen)}` goes on; `drainer status` shows where it stands.")


def resume_command(
    config: ConfigOption = None, only_list: _ListOption = None, reason: ReasonOption = "", as_json: JsonOption = False
) -> None:
    """Go on delivering after a pause.

    \b
    drainer resume --reason "MTA has room again"
    drainer resume --list announce@example.org
    """
    request = ResumeRequest(list=_given(only_list), reason=reason)
    _tell(ask(config, lambda service: service.resume(request)), as_json)
    if not as_json:
        print("`drainer status --watch` shows where it stands.")


def _given(only_list: str | None) -> str:
    """The list asked for. An empty one is a script's unset variable, and must not mean every list."""
    if only_list is not None and not only_list.strip():
        raise UsageError("--list is empty; leave it out to mean all lists")
    return only_list or ""


def _named(chosen: str) -> str:
    return f" --list {shown(chosen)}" if chosen else ""


def _tell(done: Done, as_json: bool) -> None:
    if as_json:
        print_json(done)
    else:
        print(shown(done.message))
