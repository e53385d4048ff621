"""The names under which the MTA that we feed writes to its log.

In    the settings of [mta]; Postfix's own configuration, as postconf tells it
Out   names as syslog has them; none: every MTA that writes to the log counts

Several instances of Postfix share a log as a rule. What another one delivers says nothing of what ours may send. One
instance has several names where a transport of its master.cf has its own `-o syslog_name=`.
"""

from __future__ import annotations

import re

from drainer.destinations.command import hand_on_lines, program
from drainer.errors import MtaError
from drainer.settings.mta import MtaSettings

_WITHIN_S = 10.0
_MOST_BYTES = 2**20
_PARAMETER = re.compile(r"\S+/syslog_name = (?P<name>[^/\s$]+)")


async def names_in_log(mta: MtaSettings) -> tuple[str, ...]:
    """As mta.log_name says, or as Postfix here is configured; () if neither can be had."""
    if mta.log_name:
        return (mta.log_name,)
    if mta.queue != "postfix" or mta.queue_command:
        return ()
    instance = () if mta.queue_config is None else ("-c", str(mta.queue_config))
    lines: list[str] = []
    try:
        postconf = program("postconf")
        await hand_on_lines((postconf, *instance, "-x", "-h", "syslog_name"), lines.append, _WITHIN_S, _MOST_BYTES)
        own = lines[0].strip() if lines else ""
        await hand_on_lines((postconf, *instance, "-P"), lines.append, _WITHIN_S, _MOST_BYTES)
    except MtaError:
        return ()
    transports = {found["name"] for line in lines[1:] if (found := _PARAMETER.match(line))}
    return (own, *sorted(transports - {own})) if own else ()
