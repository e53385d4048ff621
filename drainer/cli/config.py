"""`drainer config`: every setting with its meaning, as a settings file."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from drainer.cli.options import ConfigOption, JsonOption
from drainer.cli.output import print_folded, print_json
from drainer.compose.mm_cfg import MmCfg, mm_cfg
from drainer.errors import SettingsError, UsageError
from drainer.files.regular_file import read_regular
from drainer.host_check.finding import in_order, lines, summary
from drainer.settings import DEFAULT_PATH, Settings
from drainer.settings.section import Duration, Rate, Size, attribute_of, fields_of
from drainer.settings_file import load_settings, written

_WIDTH = 100
_MOST_BYTES = 2**20
"""Of an mm_cfg.py."""
_DURATIONS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
_SIZES = (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))
_ABOUT_SECTIONS = {
    "mailman": "Where Mailman is. The defaults suit Debian's Mailman 3.",
    "custody": "Which entries drainer takes from Mailman's queues.",
    "mta": "The MTA that drainer feeds.",
    "feed": "How fast and in which order drainer sends, and what it does with deferred recipients.",
    "duplicates": "What happens to a message that drainer has seen before.",
    "ledger": "The durable record of deliveries.",
    "control": "How operators reach the service.",
    "web": "The read-only view over TCP.",
    "guards": "When to slow down or stop before harm is done.",
    "notify": "Notices to a program or a webhook. Never by mail: a mail would pass the queue that is watched.",
    "log": "Lines on standard error (the journal).",
}

_EXAMPLES = {
    "config": "/etc/mailman3/mailman.cfg",
    "tls_ca_file": "/etc/ssl/certs/ca-certificates.crt",
    "password_file": "/etc/drainer/mta-password",
    "state_dir": "/var/lib/drainer",
    "log_file": "/var/log/mail.log",
    "queue_config": "/etc/postfix-lists",
    "smtp_log": "/var/log/mailman3/smtp.log",
    "url_file": "/etc/drainer/webhook-url",
}


def config_command(
    config: ConfigOption = None,
    defaults: Annotated[bool, typer.Option("--defaults", help="Show the defaults; needs no settings file.")] = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Say whether the settings are right on this host: look at disk, users, Mailman, MTA and logs.",
        ),
    ] = False,
    mm_cfg_file: Annotated[
        Path | None,
        typer.Option(
            "--mm-cfg", metavar="FILE", help="Find the settings a Mailman 2.1 mm_cfg.py makes, without running it."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the settings in force, from the settings file and the environment, each with its meaning.

    \b
    drainer config
    drainer config --check
    drainer config --defaults > /etc/drainer/drainer.toml
    drainer config --mm-cfg /etc/mailman/mm_cfg.py
    """
    if mm_cfg_file is not None:
        if defaults or check:
            raise UsageError("--mm-cfg does not go together with --defaults and --check")
        _show_mm_cfg(mm_cfg_file, as_json)
        return
    if defaults and check:
        raise UsageError("--defaults and --check do not go together")
    settings = Settings() if defaults else load_settings(config)
    if check:
        _check(settings, config or DEFAULT_PATH, as_json)
    elif as_json:
        print_json(settings.shown())
    else:
        print("\n".join(as_toml(settings, commented=defaults)))


def _check(settings: Settings, path: Path, as_json: bool) -> None:
    """Exit status 2 if there is an error."""
    from drainer.host_check.look import look  # what looks at everything imports everything

    user, found = look(settings, written(path))
    errors = [finding for finding in found if finding.level == "error"]
    if as_json:
        findings = [asdict(finding) for finding in in_order(found)]
        print_json({"ok": not errors, "looked_as": user.name, "findings": findings})
    else:
        print_folded("\n".join(lines(found)))
        print_folded(f"{path}: {summary(found)}; looked as user {user.name} ({user.why})")
    if errors:
        raise typer.Exit(2)


def _show_mm_cfg(path: Path, as_json: bool) -> None:
    try:
        octets = read_regular(path, _MOST_BYTES)
        try:
            text = octets.decode("utf-8")
        except UnicodeDecodeError:
            text = octets.decode("latin-1")
        found = mm_cfg(text)
    except OSError as exc:
        raise SettingsError(f"{path} cannot be read: {exc.strerror}") from exc
    except SettingsError as exc:
        raise SettingsError(f"{path}: {exc}") from exc
    if as_json:
        print_json(
            {
                "settings": dict(found.settings),
                "mailman": dict(found.mailman),
                "mta": dict(found.mta),
                "to_check": dict(found.to_check),
                "others": found.others,
                "not_understood": [
                    {"line": statement.line, "text": statement.text} for statement in found.not_understood
                ],
            }
        )
        return
    print("\n".join(toml_settings(found)))


def toml_settings(found: MmCfg) -> list[str]:
    """What an mm_cfg.py says about delivery, and where things are, as a part of a settings file; the rest as comments."""
    lines = ["[mailman]", f"settings = {_toml(found.settings)}"]
    for key, value in found.mailman.items():
        lines += [f"# {found.to_check[key]}"] if key in found.to_check else []
        lines.append(f"{key} = {_toml(value)}")
    if found.mta:
        lines += ["[mta]", *(f"{key} = {_toml(value)}" for key, value in found.mta.items())]
    lines.append(f"# {found.others} other plain assignments say nothing about delivery.")
    if found.not_understood:
        lines.append("# Not understood, look at it yourself:")
        lines += [f"#   line {statement.line}: {ascii(statement.text)[1:-1]}" for statement in found.not_understood]
    return lines


def as_toml(settings: Settings, *, commented: bool) -> list[str]:
    """The settings as TOML that reads back as the same settings, each under its meaning.

    commented  put "# " before each setting, as in a sample
    """
    lines = [
        '# drainer settings. Durations "30s" "5m" "24h", rates "20/s" "600/m" "5000/h" "unlimited", sizes "64MiB".',
        "# The environment overrides: DRAINER_FEED__MESSAGES=10/s sets messages in [feed].",
    ]
    for name in Settings.model_fields:
        section: BaseModel = getattr(settings, name)
        lines += ["", "", f"# {_ABOUT_SECTIONS[name]}", f"[{name}]"]
        for key, field in fields_of(type(section)).items():
            value = getattr(section, attribute_of(type(section), key))
            lines += ["", *_meaning(field), *_assignment(key, value, field, commented)]
    return lines


def _meaning(field: FieldInfo) -> Iterator[str]:
    text = field.description or ""
    choices = _choices(field.annotation)
    if choices:
        text += f"; one of {choices}" if get_origin(field.annotation) is Literal else f"; any of {choices}"
    yield from textwrap.wrap(text, _WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)


def _choices(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return ", ".join(f'"{choice}"' for choice in get_args(annotation))
    return next((found for part in get_args(annotation) if (found := _choices(part))), "")


def _assignment(key: str, value: object, field: FieldInfo, commented: bool) -> Iterator[str]:
    mark = "# " if commented else ""
    if value is None and not _is(field, Rate):
        # TOML has no null.
        yield f"# not set; an example: {key} = {_toml(_EXAMPLES[key])}"
        return
    yield f"{mark}{key} = {_value(value, field)}"


def _is(field: FieldInfo, kind: Any) -> bool:
    return any(part in field.metadata for part in get_args(kind)[1:])


def _value(value: object, field: FieldInfo) -> str:
    if _is(field, Duration) and isinstance(value, float):
        return _toml(_in_unit(value, _DURATIONS, "s"))
    if _is(field, Size) and isinstance(value, int):
        return _toml(_in_unit(value, _SIZES, "B"))
    if _is(field, Rate):
        return _toml(rate_text(value))
    if isinstance(value, Mapping):
        return _toml(
            {
                key: rate_text(part) if get_args(Rate)[1] in _value_metadata(field) else part
                for key, part in value.items()
            }
        )
    return _toml(value)


def _value_metadata(field: FieldInfo) -> tuple[Any, ...]:
    arguments = get_args(field.annotation)
    return getattr(arguments[1], "__metadata__", ()) if len(arguments) == 2 else ()


def rate_text(per_s: object) -> str:
    """A rate as the settings file has it: whole numbers per second, minute or hour where that is exact."""
    if per_s is None:
        return "unlimited"
    assert isinstance(per_s, float)
    for unit, factor in (("s", 1), ("m", 60), ("h", 3600)):
        amount = per_s * factor
        if abs(amount - round(amount)) < 1e-9 * max(1.0, amount):
            return f"{round(amount)}/{unit}"
    return f"{per_s:.9f}".rstrip("0") + "/s"


def _in_unit(amount: float, units: tuple[tuple[str, int], ...], smallest: str) -> str:
    for unit, factor in units:
        if amount and amount % factor == 0:
            return f"{int(amount // factor)}{unit}"
    return f"{Decimal(repr(amount)):f}{smallest}" if amount != int(amount) else f"{int(amount)}{smallest}"


def _toml(value: object) -> str:
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_toml(str(key))} = {_toml(part)}" for key, part in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(part) for part in value)}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value)
    # A JSON string is a TOML basic string, but for DEL, which TOML wants escaped.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
