"""Warnings about valid settings that an operator should know of.

In    Settings; the settings as they are written in the file
Out   warnings
Pure  no file, no host
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from drainer.guards.beside_runner import wanted_by
from drainer.host_check.finding import Finding
from drainer.host_check.not_used import not_used, windows_cover_all
from drainer.settings import Settings
from drainer.settings.section import Duration, Rate, Size
from drainer.text.quantities import tcp_address

_TAKEN_AS = ((Rate, "/s"), (Duration, "s"), (Size, "B"))


def unwise(settings: Settings) -> Iterator[Finding]:
    """Settings that do not fit together, or that do more than their name says."""
    mta, feed = settings.mta, settings.feed
    limits = (feed.recipients,) if windows_cover_all(feed) else (feed.messages, feed.recipients)
    no_domains = sorted(name for name in feed.domains if "." not in name and name not in feed.domain_groups)
    for is_so, about, text in (
        (bool(exposed(settings.web.listen)), "web.listen", exposed(settings.web.listen)),
        (
            bool(mta.username) and mta.password_file is None,
            "mta.username",
            "no mta.password_file: the password is empty",
        ),
        (
            settings.ledger.in_doubt == "ask" and mta.log_file is None,
            "mta.log_file",
            "not set: recipients in doubt cannot be looked up, and ledger.in_doubt_fallback = "
            f'"{settings.ledger.in_doubt_fallback}" decides',
        ),
        (
            feed.via == "mailman" and settings.mailman.smtp_log is None,
            "mailman.smtp_log",
            "not set: a recipient to which Mailman could not deliver counts as delivered",
        ),
        (0 in limits, "feed", "a limit of 0 sends nothing until `drainer rate` raises it"),
        (feed.order == "priority" and not feed.priority, "feed.priority", 'empty, and feed.order = "priority"'),
        (
            bool(no_domains),
            "feed.domains",
            f"no group of feed.domain_groups, and no whole domain: {', '.join(no_domains)}",
        ),
        (
            feed.give_up_after <= feed.retry_first,
            "feed.give_up_after",
            "not longer than feed.retry_first: a deferred recipient fails at its second attempt",
        ),
        (
            wanted_by(settings) == "custody.beside_runner = true",
            "custody.beside_runner",
            "recipients may get second copies while Mailman's outgoing runner runs too",
        ),
    ):
        if is_so:
            yield Finding("warning", about, text)
    yield from not_used(settings)


def exposed(listen: str) -> str:
    """A warning if other machines can read the page at this `web.listen` without a password; "" if only this one can."""
    if not listen or _is_loopback(listen):
        return ""
    return (
        f'{listen} shows the page to every host that can reach it, without a password; right would be "127.0.0.1:8025" '
        "behind a proxy or `ssh -L`"
    )


def without_unit(written: Mapping[str, Any]) -> Iterator[Finding]:
    """Warnings about rates, durations and sizes without a unit. written: section > key > value, as in the file."""
    defaults = Settings()
    for section, values in written.items():
        fields = type(getattr(defaults, section)).model_fields if section in Settings.model_fields else {}
        for key, value in values.items() if isinstance(values, Mapping) else ():
            if key not in fields:
                continue
            name, field = f"{section}.{key}", fields[key]
            for kind, unit in _TAKEN_AS:
                meant = get_args(kind)[1]
                if meant in field.metadata and _is_bare(value):
                    yield _bare(name, value, unit)
                if isinstance(value, Mapping) and any(meant in _metadata(part) for part in get_args(field.annotation)):
                    yield from (_bare(f"{name}.{one}", v, unit) for one, v in value.items() if _is_bare(v))


def _bare(name: str, value: object, unit: str) -> Finding:
    return Finding(
        "warning", name, f'{value} has no unit and is taken as {value}{unit}; right would be "{value}{unit}"'
    )


def _is_bare(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value != 0


def _metadata(annotation: object) -> tuple[object, ...]:
    return getattr(annotation, "__metadata__", ())


def _is_loopback(listen: str) -> bool:
    host, _ = tcp_address(listen)
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
