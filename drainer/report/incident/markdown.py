"""The incident report as Markdown, with tables that GitHub, GitLab and most wikis understand.

Pure  values only; foreign text (subjects, addresses, replies) cannot become markup or another table cell

Source  https://github.github.com/gfm/ (§4.10 tables, §6.1 backslash escapes)
"""

from __future__ import annotations

import re
from datetime import tzinfo

from drainer.report.incident.document import Incident
from drainer.report.incident.sections import Table, cut, sections
from drainer.report.incident.summary import heading, provenance, summary
from drainer.text.wording import shown

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~!&])")


def markdown(incident: Incident, zone: tzinfo | None = None) -> str:
    lines = [f"# {_text(heading(incident, zone))}", "", _text(" ".join(summary(incident, zone))), ""]
    lines.append(" ".join(f"*{_sentence(line)}*" for line in provenance(incident, zone)))
    for section in sections(incident, zone):
        lines += ["", f"## {section.title}"]
        for line in section.sentences:
            lines += ["", _sentence(line)]
        for table in section.tables:
            lines += ["", f"**{_text(table.caption)}**", "", *_table(table)] if table.rows else []
    return "\n".join(lines) + "\n"


def _table(table: Table) -> list[str]:
    heads = [name.removeprefix(">") for name in table.columns]
    rules = ["---:" if name.startswith(">") else "---" for name in table.columns]
    rows = [[_text(cell) for cell in row] for row in table.rows]
    lines = ["| " + " | ".join(cells) + " |" for cells in (heads, rules, *rows)]
    note = cut(table)
    return [*lines, "", _sentence(note)] if note else lines


def _sentence(text: str) -> str:
    """Text of our own, in which backquotes mark commands."""
    parts = text.split("`")
    return "`".join(_text(part) if index % 2 == 0 else part for index, part in enumerate(parts))


def _text(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", shown(text))
