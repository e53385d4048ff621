"""`drainer domain`: the ceilings of recipient domains, and what an operator orders for one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from drainer.cli.consult import consult, without_service_lines
from drainer.cli.options import ConfigOption, JsonOption, ReasonOption, parse_pause, parse_rate
from drainer.cli.output import print_folded, print_json
from drainer.cli.service import ask
from drainer.control.messages.domains import DomainRequest, DomainsReply
from drainer.errors import UsageError
from drainer.report.snapshot import DomainStanding
from drainer.report.words import domain_cause, domain_limit, domain_not_in_force, traffic_behind_the_mta
from drainer.text.columns import columns, padded
from drainer.text.wording import clock_time, count, duration, rate, shown


def domain_command(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="A recipient domain, or a group of feed.domain_groups.")
    ] = None,
    config: ConfigOption = None,
    new_rate: Annotated[
        str | None,
        typer.Option("--rate", metavar="R", parser=parse_rate, help='Ceiling: "5/s", "300/h"; "unlimited": none.'),
    ] = None,
    auto: Annotated[bool, typer.Option("--auto", help="Back to what is learnt and what the settings say.")] = False,
    pause_s: Annotated[
        float | None,
        typer.Option("--pause", metavar="D", parser=parse_pause, help='Hold it back for "30m"; 0: until --auto.'),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=5000, metavar="N", help="Without NAME: at most N.")] = 20,
    reason: ReasonOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show the ceilings of recipient domains: by whom each was set and why, and what waits here and behind the MTA. Or
    order one, from this moment on; orders last across restarts, and `drainer undo` takes them back.

    \b
    drainer domain
    drainer domain gmail.com --rate 5/s
    drainer domain gmail.com --pause 30m --reason "they told us to wait"
    drainer domain gmail.com --auto
    """
    asked = [new_rate is not None, pause_s is not None, auto]
    if not any(asked):
        if reason:
            raise UsageError(
                "--reason says why something is ordered; right would be --rate, --pause or --auto beside it"
            )
        _show(config, name, limit, as_json)
        return
    if name is None or not name.strip():
        raise UsageError("which domain? right would be: drainer domain gmail.com --rate 5/s")
    if sum(asked) > 1:
        raise UsageError("--rate, --pause and --auto are three orders; right would be one of them")
    request = DomainRequest.model_validate(
        {"domain": name, "rate": new_rate, "pause_s": pause_s, "auto": auto, "reason": reason}
    )
    reply = ask(config, lambda service: service.order_domain(request))
    if as_json:
        print_json(reply)
        return
    print_folded(shown(reply.message))
    if reply.number is not None:
        print(f"`drainer undo {reply.number} --yes` takes it back.")


def _show(config: Path | None, name: str | None, limit: int, as_json: bool) -> None:
    reply = consult(config, lambda service: service.domains(name or "", limit))
    if as_json:
        print_json(reply)
        return
    for line in (*without_service_lines(reply.without_service, config), *_lines(reply)):
        print_folded(line)


def _lines(reply: DomainsReply) -> list[str]:
    if not reply.domains:
        return ["No recipient is known to wait, and no domain has a ceiling."]
    lines = _table(reply.domains)
    now_s = time.time()
    for one in reply.domains:
        if one.limit_recipients_per_s is not None:
            since = f", since {clock_time(one.since, now_s)}" if one.since is not None else ""
            lines.append(f"{shown(one.domain)}{since}: {domain_cause(one, now_s)}")
        if one.not_in_force:
            lines.append(f"{shown(one.domain)}: {domain_not_in_force(one)}; --auto lifts what was ordered")
        if traffic := traffic_behind_the_mta(one):
            lines.append(f"{shown(one.domain)}: behind the MTA, in the last minute: {traffic}")
        if one.deferral_reply and one.deferral_reply not in one.cause:
            lines.append(f"{shown(one.domain)}: deferred behind the MTA: {shown(one.deferral_reply)}")
        if one.takes_recipients_per_s is not None:
            lines.append(f"{shown(one.domain)}: takes {rate(one.takes_recipients_per_s)}, as measured while it refused")
        if one.group:
            lines.append(f"{shown(one.domain)}: the group of {', '.join(map(shown, one.group))}")
    if reply.trouble:
        lines.append(f"behind the MTA: {shown(reply.trouble)}")
    elif not reply.behind and reply.without_service is None:
        lines.append("Behind the MTA nothing is read: mta.queue and mta.log_file would show what waits there, and why.")
    return lines


def _table(domains: list[DomainStanding]) -> list[str]:
    titles = ("domain", "ceiling", "waiting", "behind the MTA", "oldest", "deferred")
    rows = [
        (
            shown(one.domain),
            domain_limit(one),
            count(one.waiting_recipients),
            "" if one.queued is None else count(one.queued),
            "" if one.oldest_age_s is None else duration(one.oldest_age_s),
            "" if one.deferred is None else count(one.deferred),
        )
        for one in domains
    ]
    widths = [max(columns(row[at]) for row in (titles, *rows)) for at in range(len(titles))]
    return [
        (padded(row[0], widths[0]) + "".join(f"  {row[at]:>{widths[at]}}" for at in range(1, len(titles)))).rstrip()
        for row in (titles, *rows)
    ]
