"""`drainer eta`: when it ends; what if; the rate needed, and whether it is possible; when one list is done."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated

import typer

from drainer.cli.consult import consult, without_service_lines
from drainer.cli.options import ConfigOption, JsonOption, parse_rate
from drainer.cli.output import print_folded, print_json
from drainer.cli.times import CLOCK, coming
from drainer.control.messages.finish import EtaReply, ListEta
from drainer.errors import UsageError
from drainer.estimate.eta import Eta
from drainer.report.snapshot import WithoutService
from drainer.report.words import WITHOUT_FINISH, eta_text, held_back_text
from drainer.text.wording import clock_time, count, rate, recipients_of, shown


def eta_command(
    config: ConfigOption = None,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="RATE", parser=parse_rate, help='What if: recipients at "200/s" from now on.'),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            "--by", metavar="TIME", help='The rate needed by "18:00", "tomorrow 06:00", "2026-01-31T18:00" or "+2h".'
        ),
    ] = None,
    list_name: Annotated[
        str, typer.Option("--list", metavar="L", help="When this list is done: its name, address or list-id.")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """When the backlog is drained, with the interval that holds in 80 % of cases; or why there is no forecast.

    \b
    drainer eta
    drainer eta --at 200/s       at that many recipients per second
    drainer eta --by 18:00       which rate would that take, can the MTA bear it?
    drainer eta --list choir     when is my list done?
    """
    if at == "unlimited":
        raise UsageError('--at unlimited is not a rate to compute with; right would be "200/s"')
    now = datetime.now().astimezone()
    meant = None if by is None else coming(by, now)
    if meant is not None and meant <= now:
        raise UsageError(f"--by {by} is in the past")
    by_s = None if meant is None else meant.timestamp()
    at_per_s = None if at is None else float(at)
    reply = consult(config, lambda service: service.eta(at_per_s, by_s, list_name.strip()))
    if as_json:
        print_json(reply)
        return
    for line in (
        *without_service_lines(reply.without_service, config),
        *_lines(reply, at_per_s, by_s, now.timestamp()),
    ):
        print_folded(line)
    is_clock = by is not None and CLOCK.match(by.strip()) and "tomorrow" not in by.lower()
    if by is not None and meant is not None and is_clock and meant.date() != now.date():
        print(f"({by.strip()} has passed today: tomorrow's is meant)")


def _lines(reply: EtaReply, at_per_s: float | None, by_s: float | None, now_s: float) -> Iterator[str]:
    everything = recipients_of(reply.backlog_recipients, reply.unread_entries)
    if reply.unread_entries and not reply.backlog_recipients:
        everything = "recipients not counted yet"
    without = reply.without_service
    finish = _when(reply.eta, reply.if_resumed, without, now_s)
    if reply.held_back and reply.eta.state == "stalled" and without is None:
        finish = held_back_text(reply.held_back)
    yield f"{everything} to deliver, not counting expected duplicates: {finish}"
    if reply.not_served_recipients:
        left_out = count(reply.not_served_recipients, "recipient")
        yield f"{left_out} of these are not served (feed.only, feed.not) and do not move"
    if without is not None:
        yield from _last_known(reply, without, now_s)
    at = "if it goes on now, at" if without is not None else "at"
    of_list_at = f", {at}" if without is not None else " at"
    if reply.what_if is not None and at_per_s is not None:
        yield f"{at} {rate(at_per_s)} recipients: {eta_text(reply.what_if, now_s)}"
    if (one := reply.list) is not None:
        left = f"{count(one.entries, 'entry', 'entries')}, {recipients_of(one.recipients, reply.unread_entries)}"
        yield f"list {shown(one.list)}: {left} in the backlog: {_when_of(one, without, now_s)}"
        if one.what_if is not None and at_per_s is not None:
            yield f"list {shown(one.list)}{of_list_at} {rate(at_per_s)} recipients: {eta_text(one.what_if, now_s)}"
    if by_s is not None:
        yield from _by(reply, f"to be done by {clock_time(by_s, now_s)}")
    elif at_per_s is not None and reply.shown_recipients_per_s is not None and reply.without_service is None:
        yield _fastest(reply)


def _last_known(reply: EtaReply, without: WithoutService, now_s: float) -> Iterator[str]:
    if reply.unread_entries:
        yield f"{count(reply.unread_entries, 'entry', 'entries')} not read: their recipients are not counted"
        if without.recorded_at is not None:
            recorded = count(without.recorded_recipients or 0, "recipient")
            yield f"at {clock_time(without.recorded_at, now_s)} the service counted {recorded} in all"
    if reply.shown_recipients_per_s is not None:
        yield f"the rate last recorded: {rate(reply.shown_recipients_per_s)} recipients"


def _when(eta: Eta, if_resumed: Eta | None, without: WithoutService | None, now_s: float) -> str:
    if without is not None and eta.state != "done":
        return WITHOUT_FINISH[without.state]
    text = eta_text(eta, now_s)
    return text if if_resumed is None else f"{text}; if everything is resumed now: {eta_text(if_resumed, now_s)}"


def _when_of(one: ListEta, without: WithoutService | None, now_s: float) -> str:
    if one.not_served and without is None:
        return "no finish time: not served (feed.only, feed.not)"
    return _when(one.eta, one.if_resumed, without, now_s)


def _by(reply: EtaReply, what: str) -> Iterator[str]:
    """The rate needed; the chance as things go; the limits in the way; what the MTA has shown."""
    needed = reply.needed_recipients_per_s
    if needed is None:
        unknown = "how much is left is not known yet, entries are still being read"
        yield f"{what}: {unknown if reply.verdict == 'unknown' else 'no rate would do, deferred mail is due later'}"
        return
    chance = "" if reply.chance is None else f"; at the present pace the chance is {_percent(reply.chance)}"
    yield f"{what}: {rate(needed)} recipients needed{chance}"
    allowed = reply.schedule_allows_recipients
    if allowed is not None and allowed < reply.backlog_recipients:
        yield f"windows and caps (feed.windows, feed.hourly, feed.daily) let go {count(allowed, 'recipient')} by then"
    options = [
        f"--{name} {_at_least(per_s)}"
        for name, per_s in (("messages", reply.raise_messages_per_s), ("recipients", reply.raise_recipients_per_s))
        if per_s is not None
    ]
    if options:
        yield f"the limits in force do not allow that: `drainer rate {' '.join(options)}` would"
    sustained = reply.sustained_recipients_per_s
    if sustained is not None and needed <= sustained:
        yield f"the MTA has shown that it can: it took {rate(sustained)} recipients over five minutes"
    elif sustained is not None:
        yield f"the MTA has not shown that it can: the most it took over five minutes is {rate(sustained)} recipients"
    elif reply.verdict is not None and needed and reply.without_service is None:
        yield "whether the MTA takes that much is known after five minutes of sending"
    if reply.shown_recipients_per_s is not None and reply.without_service is None:
        yield _fastest(reply)


def _fastest(reply: EtaReply) -> str:
    fastest = rate(reply.shown_recipients_per_s or 0.0)
    return f"the fastest the MTA has been seen to take, over ten seconds: {fastest} recipients"


def _percent(chance: float) -> str:
    """Never 0 or 100: nothing is that sure."""
    return f"{min(99, max(1, round(chance * 100)))} %"


def _at_least(per_s: float) -> str:
    """As `drainer rate` takes it, rounded up: "45/s", "2.5/s", "900/h"."""
    if per_s >= 10:
        return f"{math.ceil(per_s)}/s"
    return f"{math.ceil(per_s * 10) / 10:g}/s" if per_s >= 1 else f"{math.ceil(per_s * 3600)}/h"
