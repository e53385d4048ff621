"""`drainer rate`: show or change the limits."""

from __future__ import annotations

from typing import Annotated

import typer

from drainer.cli.options import ConfigOption, JsonOption, ReasonOption, parse_rate
from drainer.cli.output import print_json
from drainer.cli.service import ask
from drainer.control.messages.pauses_and_rates import RateReply, RateRequest
from drainer.text.wording import limit, rate

_HELP = '"20/s", "600/m", "5000/h", "unlimited"; "0" pauses.'


def rate_command(
    config: ConfigOption = None,
    messages: Annotated[
        str | None, typer.Option("--messages", metavar="R", parser=parse_rate, help=f"Limit on messages: {_HELP}")
    ] = None,
    recipients: Annotated[
        str | None, typer.Option("--recipients", metavar="R", parser=parse_rate, help="Limit on recipients, likewise.")
    ] = None,
    reason: ReasonOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show the limits, or change them from this moment on. Changes last across restarts.

    \b
    drainer rate
    drainer rate --messages 50/s --recipients unlimited
    """
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
    if changes and 0 in (reply.messages, reply.recipients):
        print("A limit of 0 means nothing is sent; `drainer rate --messages 20/s` would start it again.")


def _lines(reply: RateReply) -> list[str]:
    return [
        f"  messages    {limit(reply.messages):>12}   now {_measured(reply.messages_per_s)}",
        f"  recipients  {limit(reply.recipients):>12}   now {_measured(reply.recipients_per_s)}",
    ]


def _measured(per_s: float | None) -> str:
    return "not measured yet" if per_s is None else rate(per_s)
