"""Entries genuine Mailman 2.1 delivered, composed by us and compared with its transcripts.

In    the Python the transcripts were made with: "2.7.18" or "2.7.3"
Out   a Comparison
"""

from __future__ import annotations

from drainer.compose.mailman2_site import site_settings
from drainer.errors import ComposeError
from drainer.queuedir.read import read_entry
from tests.compose import mailman2_samples as samples
from tests.wire.table import Compared, Comparison

WANTED = {
    "2.7.18": {
        "duplicate_recips": "a recipient named twice gets one copy from us, two from Mailman",
        "undelivered_multi_chunk_with_verp": "Mailman piles the recipients up in its senders and adds a second footer",
    },
    "2.7.3": {
        "odd_recips": "Python 2.7.3 takes `x@y@z` for `x@y`, another address; later versions refuse it, and so do we"
    },
}


def compare_all() -> list[Comparison]:
    return [compare(python) for python in WANTED]


def compare(python: str) -> Comparison:
    """Every entry Mailman delivered; under 2.7.3 only those that came out differently there."""
    newest = python == "2.7.18"
    settings = samples.site() if newest else site_settings({"PYTHON": python})
    recorded = samples.transcripts("" if newest else python)
    comparison = Comparison(f"2.1.39, Python {python}", wanted=WANTED[python])
    for file in (name for name, entry in recorded.items() if entry["outcome"] == "delivered"):
        label = samples.labels()[file]
        mailmans = samples.deliveries_of_mailman(file, "" if newest else python)
        entry = read_entry(samples.SAMPLES / "qfiles" / file)
        try:
            ours = samples.deliveries_of_ours(samples.composed(entry, settings_of_site=settings))
            is_equal, detail = ours == mailmans, ""
        except ComposeError as exc:
            is_equal, detail = False, str(exc)
        comparison.entries.append(
            Compared(f"list {label['list'] or 'mailman'}", label["case"], is_equal, mailmans.total(), detail)
        )
    return comparison
