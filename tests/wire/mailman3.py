"""Entries of a genuine Mailman 3, delivered by its own outgoing runner and composed by us.

In    a version of Mailman, an empty directory
Out   a Comparison: every entry, with whether every delivery of it is the same

The wide sample site is built by Mailman's own code; then its entries are delivered twice, all of them as the site is,
and some once more with ARC signing, with a clock that stands still and the same random numbers on both sides, since a
signature holds the second it was made in and covers the boundaries. An entry Mailman shunts is equal when we refuse it
with a reason, and deliver as much of it as Mailman did.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from drainer.compose.mailman3 import Mailman3Composer
from drainer.compose.wire import ComposedMessage
from drainer.errors import ComposeError
from drainer.pickles.restricted import load_pair
from drainer.queuedir.entry import QueueEntry, entry_from_pickles
from tests.mailman3 import wide
from tests.mailman3.capture import Captured, boundaries_numbered, capturing
from tests.mailman3.site import KIND, Site, mailman_python
from tests.wire.table import Compared, Comparison

Delivery = tuple[str, str, tuple[str, ...], int | None, bytes]
"""Reverse-path, recipient, parameters of MAIL, SIZE, content with boundaries numbered in order."""

SIGNED_GROUPS = ("header and footer", "personalised, individual", "VERP by metadata")
_ARC_KEY = Path(__file__).parents[1] / "mailman3" / "arc_test_key.pem"


@dataclass(frozen=True, slots=True)
class Ours:
    """What we made of an entry. error: why no more of it."""

    deliveries: Counter[Delivery]
    owed_for: list[str]
    error: str


async def compare(version: str, directory: Path, share: int) -> Comparison:
    """The wide sample with the Mailman of that version. share: see wide.posts"""
    site = Site(directory / "site", mailman_python(version), wide.MTA_SETTINGS, wide.EXTRA_CONFIG)
    populate = (wide.LISTS, wide.posts(share), wide.NOTICES, wide.POST_IDS, "pipeline")
    await asyncio.to_thread(site.populate, *populate)
    signing = site.copy_to(directory / "signing")
    signing.add_config(wide.ARC_CONFIG.format(key=_ARC_KEY))
    signing.hold_still()
    signing.entries = {name: raw for name, raw in site.entries.items() if group_and_kind(raw)[0] in SIGNED_GROUPS}
    comparison = Comparison(version)
    comparison.entries += await compare_site(site)
    for entry in await compare_site(signing):
        comparison.entries.append(replace(entry, group=wide.ARC, kind=f"{wide.ARC}: {entry.kind}"))
    return comparison


def group_and_kind(raw: bytes) -> tuple[str, str]:
    """What an entry of the wide sample shows. Digests and notices, which Mailman writes, are told by their metadata."""
    metadata = load_pair(raw).metadata_object
    assert isinstance(metadata, dict)
    kind = metadata.get(KIND)
    if isinstance(kind, str) and kind:
        group, colon, _ = kind.partition(": ")
        return (group if colon else "entries of unusual metadata"), kind
    if metadata.get("isdigest"):
        recipients = " ".join(metadata["recipients"])
        return "digests", f"digest of {metadata['listid']}, {'MIME' if '.mime.' in recipients else 'plain text'}"
    return "notices", f"notice of {metadata['listid']}"


async def compare_site(site: Site) -> list[Compared]:
    """Every entry of a site. Raises RuntimeError where composing changed a file below the site."""
    theirs, shunted = await mailmans_deliveries(site)
    before = site.all_files()
    composer = Mailman3Composer(site.python, site.config, 1, 0, 60.0)
    await composer.start()
    found = []
    try:
        for name, raw in site.entries.items():
            entry = entry_from_pickles(name[:-4], raw, load_pair(raw))
            ours = await _composed(composer, entry)
            found.append(_compared(entry, ours, theirs.get(entry.filebase, Counter()), shunted))
    finally:
        await composer.close()
    after = site.all_files()
    if changed := [path for path in {**before, **after} if before.get(path) != after.get(path)]:
        raise RuntimeError(f"composing changed {changed}")
    return found


async def mailmans_deliveries(site: Site) -> tuple[dict[str, Counter[Delivery]], set[str]]:
    """What Mailman's own runner delivers, by entry, on a copy of the site; and the kinds of the entries it shunted."""
    copied = site.copy_to(site.directory.with_name(f"{site.directory.name}-delivered"))
    copied.restore_entries()
    shunt = copied.out.with_name("shunt")
    for path in shunt.iterdir():
        path.unlink()
    async with capturing() as capture:
        await asyncio.to_thread(copied.run_outgoing_once, capture.port)
    assert not list(copied.out.iterdir())
    found: dict[str, Counter[Delivery]] = {}
    for item in capture.captured:
        found.setdefault(item.entry, Counter()).update(_captured(item))
    return found, {group_and_kind(path.read_bytes())[1] for path in shunt.glob("*.pck")}


async def _composed(composer: Mailman3Composer, entry: QueueEntry) -> Ours:
    deliveries: Counter[Delivery] = Counter()
    owed_for: list[str] = []
    try:
        async for message in composer.compose(entry, entry.recipients):
            deliveries.update(_delivered(message))
            owed_for += message.owed_for
    except ComposeError as exc:
        return Ours(deliveries, owed_for, f"{type(exc).__name__}: {exc}")
    return Ours(deliveries, owed_for, "")


def _compared(entry: QueueEntry, ours: Ours, theirs: Counter[Delivery], shunted: set[str]) -> Compared:
    group, kind = group_and_kind(entry.raw)
    detail = ""
    if ours.deliveries != theirs:
        only_ours, only_theirs = (ours.deliveries - theirs).total(), (theirs - ours.deliveries).total()
        detail = f"{only_ours} deliveries only from us, {only_theirs} only from Mailman; {ours.error}"
    elif (kind in shunted) != bool(ours.error):
        detail = f"shunted by Mailman: {kind in shunted}; our reason: {ours.error!r}"
    elif not ours.error and sorted(ours.owed_for) != sorted(entry.recipients):
        detail = "not every recipient was settled"
    return Compared(group, kind, not detail, theirs.total(), detail)


def _captured(item: Captured) -> list[Delivery]:
    content = boundaries_numbered(item.content)
    return [(item.reverse_path, address, item.parameters, item.size, content) for address in item.recipients]


def _delivered(item: ComposedMessage) -> list[Delivery]:
    content = boundaries_numbered(item.content)
    envelope = item.envelope
    size = len(item.content) if envelope.size is None else envelope.size
    return [
        (envelope.reverse_path, address, envelope.mail_parameters, size, content) for address in envelope.recipients
    ]
