"""The incident report as one HTML file: nothing is loaded, the burn-down is inline; printable, with a dark mode.

In    an Incident, the style sheet of the page, a time zone
Out   the whole file
Pure  values only; all text is escaped (text/markup.py)
"""

from __future__ import annotations

from datetime import tzinfo

from drainer.report.incident.document import Incident
from drainer.report.incident.sections import Section, Table, cut, sections
from drainer.report.incident.summary import heading, provenance, summary
from drainer.report.web.chart import burn_down_svg
from drainer.report.web.page import NARROW, WIDE, chart_words, with_commands
from drainer.report.web.page_tables import history_table, table
from drainer.text.markup import Markup, joined, tag

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_OWN = """
main section { overflow-x: auto; }
.summary { font-size: 1.1rem; }
caption { font-weight: 600; padding-top: .6rem; }
@media (min-width: 44rem) { tbody th { white-space: nowrap; font-weight: 400; } }
.cut { color: var(--quiet); }
@media print {
  :root { --ground: #fff; --card: #fff; --text: #000; --quiet: #333; --line: #999; --left: #0b5cad; --area: #0b5cad22; }
  body { max-width: none; font-size: 9pt; }
  section { border: 0; padding: 0; overflow: visible; }
  h2 { break-after: avoid; } tr { break-inside: avoid; } thead { display: table-header-group; }
  .burn-down.narrow { display: none; } .burn-down.wide { display: block; }
}
"""


def html(incident: Incident, style: str, zone: tzinfo | None = None) -> str:
    """style: page.css."""
    title = heading(incident, zone)
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("title", title),
        tag("style", Markup(style + _OWN)),
    )
    body = tag(
        "body",
        tag("header", tag("p", tag("span", "drainer", class_="name"), " incident report")),
        tag(
            "main",
            tag(
                "section",
                tag("h1", title, class_="title"),
                tag("p", " ".join(summary(incident, zone)), class_="summary"),
                *(tag("p", with_commands(line), class_="as-of") for line in provenance(incident, zone)),
            ),
            _chart(incident, zone),
            *(_section(section) for section in sections(incident, zone)),
        ),
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _chart(incident: Incident, zone: tzinfo | None) -> Markup | None:
    if incident.present is None or not incident.history.points:
        return None
    history, snapshot = incident.history, incident.present
    return tag(
        "section",
        tag("h2", "Burn-down"),
        tag(
            "figure",
            burn_down_svg(history, snapshot, *WIDE, zone, "wide"),
            burn_down_svg(history, snapshot, *NARROW, zone, "narrow"),
            tag("figcaption", tag("p", chart_words(history, snapshot, zone))),
        ),
        tag("details", tag("summary", "The chart as figures"), history_table(history, snapshot, zone)),
    )


def _section(section: Section) -> Markup:
    return tag(
        "section",
        tag("h2", section.title),
        *(tag("p", with_commands(line)) for line in section.sentences),
        *(_table(one) for one in section.tables if one.rows),
    )


def _table(one: Table) -> Markup:
    note = cut(one)
    return joined(
        table(one.caption, one.columns, one.rows), tag("p", with_commands(note), class_="cut") if note else None
    )
