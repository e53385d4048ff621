"""`drainer rate`: show or change the limits."""

from __future__ import annotations

from typing import Annotated

import typer

from drainer.cli.options import ConfigOption, JsonOption, ReasonOption, parse_new_rate
from drainer.cli.output import print_json
from drainer.cli.service import ask
from drainer.control.messages.pauses_and_rates import RateReply, RateRequest
from drainer.errors import UsageError
from drainer.report.words import schedule_lines
from drainer.text.wording import limit, rate, shown

_HELP = '"20/s", "600/m", "5000/h", "unlimited"; "0" pauses; "settings": as the settings say.'


def rate_command(
    config: ConfigOption = None,
    messages: Annotated[
        str | None, typer.Option("--messages", metavar="R", parser=parse_new_rate, help=f"Limit on messages: {_HELP}")
    ] = None,
    recipients: Annotated[
        str | None,
        typer.Option("--recipients", metavar="R", parser=parse_new_rate, help="Limit on recipients, likewise."),
    ] = None,
    auto: Annotated[
        bool, typer.Option("--auto", help="Give both limits back to the settings and their windows (feed.windows).")
    ] = False,
    reason: ReasonOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show the limits, or change them from this moment on. Changes last across restarts.

    \b
    drainer rate
    drainer rate --messages 50/s --recipients unlimited
    drainer rate --auto             as the settings and their windows say, from now on
    """
    if auto and (messages is not None or recipients is not None):
        raise UsageError(
            '--auto gives both limits back to the settings; right would be --auto alone, or "settings" for one of them:'
            " drainer rate --messages 5/s --recipients settings"
        )
    if auto:
        messages = recipients = "settings"
    changes = messages is not None or recipients is not None
    if changes:
        request = RateRequest.model_validate({"messages": messages, "recipients": recipients, "reason": reason})
        reply = ask(config, lambda service: service.set_rate(request))
    else:
        reply = ask(config, lambda service: service.rate())
    if as_json:
        print_json(reply)
        return
    print("Limits are now:" if changes else "Limits:")
    for line in _lines(reply):
        print(line)
    if changes and (reply.recipients == 0 or (reply.messages == 0 and reply.messages_by != "window")):
        print("A limit of 0 means nothing is sent; `drainer rate --messages 20/s` would start it again.")


def _lines(reply: RateReply) -> list[str]:
    measured = (
        ("messages", reply.messages, reply.messages_per_s),
        ("recipients", reply.recipients, reply.recipients_per_s),
    )
    by = {"messages": _by(reply.messages_by), "recipients": _by(reply.recipients_by)}
    return [
        *(f"  {name:10}  {limit(most):>12}   now {_measured(per_s)}{by[name]}" for name, most, per_s in measured),
        *(f"  {shown(line)}" for line in schedule_lines(reply.window, reply.caps)),
    ]


def _by(whose: str) -> str:
    return {"operator": "   (set by `drainer rate`)", "window": "   (of the window in force)"}.get(whose, "")


def _measured(per_s: float | None) -> str:
    return "not measured yet" if per_s is None else rate(per_s)
