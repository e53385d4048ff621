"""docs/settings.md, written from the models of the settings: `python -m tests.docs.settings`, or `make docs`.

In    the models: every section, key, kind, bound, default and description
Out   a page of Markdown with a table for each section
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from drainer.cli.config import as_toml
from drainer.settings import Settings
from drainer.settings.section import Duration, Rate, Size, fields_of
from drainer.start.reloading import BUILT_ONCE

PAGE = Path(__file__).parents[2] / "docs/settings.md"

_HEAD = """\
<!-- Made by `make docs` from the models of the settings. Change the models, not this page. -->
# Settings

The settings file is `/etc/drainer/drainer.toml`; every command takes another one with `--config FILE`. The file needs only
what differs from the defaults below. `config/drainer.toml` is a sample with every setting, as
`drainer config --defaults` prints it.

- An unknown key or an impossible value ends the start. The message names the key, the value, and what would be right.
- The environment overrides the file: `DRAINER_FEED__MESSAGES=10/s` sets `messages` in `[feed]`.
- `systemctl reload drainer` reads the file again. A change of a setting marked "(restart)" waits for a restart; the log and
  `drainer status` name it.
- `drainer config` shows what is in force; `drainer config --check` tries it on this host.

| kind | written as |
|---|---|
| duration | `"500ms"` `"30s"` `"5m"` `"24h"` `"7d"`, or a number of seconds |
| rate | `"20/s"` `"600/m"` `"5000/h"` `"unlimited"`, or a number per second; `"0"` pauses |
| size | `"64MiB"` `"2GiB"` `"1GB"`, or a number of bytes |
| path | a full path, which begins with `/` |

[operating.md](operating.md#settings-that-need-a-word) says more on users, groups, logs and passwords.
"""


def page() -> str:
    """The whole of docs/settings.md."""
    lines = as_toml(Settings(), commented=False)
    parts = [_HEAD]
    for name in Settings.model_fields:
        section: BaseModel = getattr(Settings(), name)
        at = lines.index(f"[{name}]")
        about = lines[at - 1].removeprefix("# ")
        rows = [
            f"| `{key}` | {_kind(field)} | {_default(key, lines[at:])} | {_meaning(f'{name}.{key}', field)} |"
            for key, field in fields_of(type(section)).items()
        ]
        parts.append(
            "\n".join(
                [
                    f"## [{name}]",
                    "",
                    about,
                    "",
                    "| setting | kind | default | meaning |",
                    "|---|---|---|---|",
                    *rows,
                    "",
                ]
            )
        )
    return "\n".join(parts)


def _default(key: str, lines: list[str]) -> str:
    """As `drainer config --defaults` writes it; the first line that has the key is the section's."""
    written = next(line for line in lines if line.startswith((f"{key} = ", "# not set; an example: " + f"{key} = ")))
    if written.startswith("# "):
        return f"not set, such as `{written.partition(' = ')[2]}`"
    return f"`{written.partition(' = ')[2]}`"


def _kind(field: FieldInfo) -> str:
    for kind, name in ((Duration, "duration"), (Rate, "rate"), (Size, "size")):
        if any(part in field.metadata for part in get_args(kind)[1:]):
            return name + _bounds(field)
    return _of_type(field.annotation) + _bounds(field)


def _of_type(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return " or ".join(f'`"{choice}"`' for choice in get_args(annotation))
    plain = {str: "text", int: "number", float: "number", bool: "`true` or `false`", Path: "path"}
    if annotation in plain:
        return plain[annotation]
    parts = [_plain(part) for part in get_args(annotation) if part not in (type(None), ...)]
    if get_origin(annotation) is tuple:
        return f"array of {_of_type(parts[0])}" if parts[0] is not str else "array of texts"
    if get_origin(annotation) is dict:
        return "table"
    (only,) = parts
    return _of_type(only)


def _plain(annotation: Any) -> Any:
    """Without the checks of an Annotated text."""
    return str if get_args(annotation)[:1] == (str,) and hasattr(annotation, "__metadata__") else annotation


def _bounds(field: FieldInfo) -> str:
    return "".join(f", {text}" for text in _each_bound(field))


def _each_bound(field: FieldInfo) -> Iterator[str]:
    for bound in field.metadata:
        if isinstance(bound, Ge):
            yield f"at least {bound.ge}"
        elif isinstance(bound, Gt):
            yield f"above {bound.gt}"
        elif isinstance(bound, Le):
            yield f"at most {bound.le}"


def _meaning(name: str, field: FieldInfo) -> str:
    """Words as Markdown shows them unchanged, and none that it takes for HTML or for the end of a cell."""
    words = re.sub(r"([<|*])", r"\\\1", field.description or "")
    return f"{words} (restart)" if name in BUILT_ONCE else words


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
