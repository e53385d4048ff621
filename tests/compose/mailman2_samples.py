"""The entries of tests/samples/mailman2, what Mailman delivered for each, and what we compose, in one comparable form."""

from __future__ import annotations

import base64
import json
import re
from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from drainer.compose.list_settings import ListSettingsStore
from drainer.compose.mailman2 import compose_transactions
from drainer.compose.mailman2_site import SiteSettings, site_settings
from drainer.compose.wire import ComposedMessage
from drainer.queuedir.entry import QueueEntry
from drainer.queuedir.read import read_entry

SAMPLES = Path(__file__).parents[1] / "samples" / "mailman2"
_BOUNDARY = re.compile(rb"={15}[0-9]{19}==(?:\.[0-9]+)?")
_SIZE = re.compile(r"size=([0-9]+)")

Delivery = tuple[str, int, bytes, str]
"""Reverse-path, SIZE, content with boundaries numbered in order, recipient."""


@cache
def transcripts(python: str = "") -> dict[str, Any]:
    """What Mailman said to the MTA, by file; under another Python only the entries that come out differently there."""
    name = f"transcripts-python-{python}.json" if python else "transcripts.json"
    entries: dict[str, Any] = json.loads((SAMPLES / name).read_text())["entries"]
    return entries


@cache
def labels() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((SAMPLES / "labels.json").read_text())
    return found


@cache
def site() -> SiteSettings:
    return site_settings(json.loads((SAMPLES / "site.json").read_text())["settings"])


@cache
def lists() -> ListSettingsStore:
    return ListSettingsStore(SAMPLES / "lists")


def file_of(case: str) -> str:
    """The file of a case of qfiles/out, as in transcripts.json."""
    return next(name for name, label in labels().items() if label["case"] == case and name.startswith("out/"))


def entry_of(case: str) -> QueueEntry:
    return read_entry(SAMPLES / "qfiles" / file_of(case))


def composed(
    entry: QueueEntry, max_recipients: int = 0, settings_of_site: SiteSettings | None = None
) -> list[ComposedMessage]:
    settings = lists().get(entry.list_id)
    return list(compose_transactions(entry, settings, settings_of_site or site(), entry.recipients, max_recipients))


def composed_case(case: str) -> list[ComposedMessage]:
    return composed(entry_of(case))


def numbered_boundaries(content: bytes) -> bytes:
    numbers: dict[bytes, bytes] = {}
    return _BOUNDARY.sub(lambda match: numbers.setdefault(match[0], b"boundary %d" % len(numbers)), content)


def deliveries_of_mailman(file: str, python: str = "") -> Counter[Delivery]:
    contents: list[bytes] = []
    deliveries: Counter[Delivery] = Counter()
    for transaction in transcripts(python)[file]["transactions"]:
        same_as = transaction.get("data_same_as")
        contents.append(contents[same_as] if transaction["data"] is None else base64.b64decode(transaction["data"]))
        size = _SIZE.search(transaction["mail_line"])
        assert size is not None
        shown = numbered_boundaries(contents[-1])
        deliveries.update((transaction["mail_from"], int(size[1]), shown, one) for one in transaction["rcpt_to"])
    return deliveries


def deliveries_of_ours(messages: Iterable[ComposedMessage]) -> Counter[Delivery]:
    deliveries: Counter[Delivery] = Counter()
    for message in messages:
        envelope = message.envelope
        assert envelope.size is not None
        shown = numbered_boundaries(message.content)
        deliveries.update((envelope.reverse_path, envelope.size, shown, one) for one in envelope.recipients)
    return deliveries
