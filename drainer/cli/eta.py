"""`drainer eta`: when it ends; what if; the rate needed."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Annotated

import typer

from drainer.cli.options import ConfigOption, JsonOption, ask, parse_duration, parse_rate, print_json
from drainer.control.messages import EtaReply
from drainer.errors import UsageError
from drainer.report.status_text import eta_text
from drainer.report.wording import clock_time, count, rate

_CLOCK = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])\Z")


def eta_command(
    config: ConfigOption = None,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="RATE", parser=parse_rate, help='What if: recipients at "200/s" from now on.'),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option("--by", metavar="TIME", help='The rate needed by "18:00", "2026-01-31T18:00" or "+2h".'),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """When the backlog is drained, with the interval that holds in 80 % of cases; or why nobody can say.

    \b
    drainer eta
    drainer eta --at 200/s       at that many recipients per second
    drainer eta --by 18:00       which rate would it take?
    """
    if at == "unlimited":
        raise UsageError('--at unlimited is no rate to reckon with; right would be "200/s"')
    now = datetime.now().astimezone()
    by_s = None if by is None else moment(by, now).timestamp()
    if by_s is not None and by_s <= now.timestamp():
        raise UsageError(f"--by {by} is in the past")
    at_per_s = None if at is None else float(at)
    reply = ask(config, lambda service: service.eta(at_per_s, by_s))
    if as_json:
        print_json(reply)
        return
    for line in _lines(reply, at_per_s, by_s, now.timestamp()):
        print(line)


def moment(text: str, now: datetime) -> datetime:
    """The time meant by "18:00" (the next one), "2026-01-31T18:00" (local unless it has a zone) or "+2h".

    now  with its zone
    Raises UsageError
    """
    text = text.strip()
    if text.startswith("+"):
        return now + timedelta(seconds=parse_duration(text[1:].strip()))
    if clock := _CLOCK.match(text):
        # Reckoned in local time without zone, so that 18:00 is 18:00 on the day the clocks change as well.
        local = now.replace(tzinfo=None)
        then = local.replace(hour=int(clock[1]), minute=int(clock[2]), second=0, microsecond=0)
        return (then if then > local else then + timedelta(days=1)).astimezone()
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError, OSError) as exc:
        raise UsageError(f'--by {text!r} is not a time; right would be "18:00", "2026-01-31T18:00" or "+2h"') from exc


def _lines(reply: EtaReply, at_per_s: float | None, by_s: float | None, now_s: float) -> list[str]:
    lines = [
        f"{count(reply.backlog_recipients, 'recipient')} left: {eta_text(reply.eta, now_s)}",
    ]
    if reply.what_if is not None and at_per_s is not None:
        lines.append(f"at {rate(at_per_s)} recipients: {eta_text(reply.what_if, now_s)}")
    if by_s is not None:
        when = clock_time(by_s, now_s)
        if reply.needed_recipients_per_s is None:
            lines.append(f"to be through by {when}: no rate would do, or the amount is not known yet")
        else:
            lines.append(f"to be through by {when}: {rate(reply.needed_recipients_per_s)} recipients needed")
    fastest = reply.shown_recipients_per_s
    if fastest is not None and (at_per_s is not None or by_s is not None):
        lines.append(f"the fastest the MTA has been seen to take: {rate(fastest)} recipients")
    return lines
