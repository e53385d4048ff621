"""Entries of a genuine Mailman 3, delivered by its own outgoing runner and composed by us.

In    a version of Mailman, an empty directory
Out   a Comparison: every entry, with whether every delivery of it is the same

The wide sample site is built by Mailman's own code; then its entries are delivered twice, all of them as the site is,
and some once more with ARC signing, with a clock that stands still and the same random numbers on both sides, since a
signature holds the second it was made in and covers the boundaries. An entry Mailman shunts is equal when we refuse it
with a reason, and deliver as much of it as Mailman did. recording.py keeps what Mailman did, for the suite.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Delivered:
    """A site, and what Mailman's own outgoing runner made of its entries.

    deliveries  by entry
    shunted     kinds of the entries it shunted
    group       its row in the table; "": each entry's own
    """

    site: Site
    deliveries: Mapping[str, Counter[Delivery]]
    shunted: frozenset[str]
    group: str = ""


REMEMBER_S = 60.0


async def compare(version: str, directory: Path, share: int) -> list[Comparison]:
    """The wide sample with the Mailman of that version, answers remembered and not. share: see wide.posts"""
    delivered = await genuine(version, directory, share)
    return [await compare_with(version, delivered, REMEMBER_S), await compare_with(version, delivered, 0.0)]


async def genuine(version: str, directory: Path, share: int) -> list[Delivered]:
    """Both sites built, and delivered, by Mailman itself."""
    site = Site(directory / "site", mailman_python(version), wide.MTA_SETTINGS, wide.EXTRA_CONFIG)
    populate = (wide.LISTS, wide.posts(share), wide.NOTICES, wide.POST_IDS, "pipeline")
    await asyncio.to_thread(site.populate, *populate)
    signing = signing_copy(site, directory / "signing")
    return [
        Delivered(site, *await mailmans_deliveries(site)),
        Delivered(signing, *await mailmans_deliveries(signing), wide.ARC),
    ]


def signing_copy(site: Site, directory: Path) -> Site:
    """The site with ARC signing, in a moment that does not pass, with some of its entries."""
    signing = site.copy_to(directory)
    signing.add_config(wide.ARC_CONFIG.format(key=_ARC_KEY))
    signing.hold_still()
    signing.entries = {name: raw for name, raw in site.entries.items() if group_and_kind(raw)[0] in SIGNED_GROUPS}
    return signing


async def compare_with(version: str, delivered: Sequence[Delivered], remember_s: float, every: int = 1) -> Comparison:
    """What we compose, compared with what Mailman delivered; with `every`, of each site only every so many entries."""
    comparison = Comparison(version if remember_s else f"{version}, nothing remembered")
    for item in delivered:
        comparison.entries += await _compare_site(item, remember_s, list(item.site.entries)[::every])
    return comparison


def as_delivered(version: str, delivered: Sequence[Delivered]) -> Comparison:
    """The table as it is when nothing differs."""
    comparison = Comparison(version)
    for item in delivered:
        for name, raw in item.site.entries.items():
            theirs = item.deliveries.get(name.removesuffix(".pck"), Counter())
            comparison.entries.append(_row(item, raw, theirs, ""))
    return comparison


def group_and_kind(raw: bytes) -> tuple[str, str]:
    """What an entry of the wide sample shows. Metadata shows which are digests and notices, written by Mailman."""
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


async def mailmans_deliveries(site: Site) -> tuple[dict[str, Counter[Delivery]], frozenset[str]]:
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
        found.setdefault(item.entry, Counter()).update(deliveries_captured(item))
    return found, frozenset(group_and_kind(path.read_bytes())[1] for path in shunt.glob("*.pck"))


async def _compare_site(delivered: Delivered, remember_s: float, names: Sequence[str]) -> list[Compared]:
    """These entries of a site. Raises RuntimeError where composing changed a file below the site."""
    site = delivered.site
    before = site.all_files()
    composer = Mailman3Composer(site.python, site.config, 1, 0, remember_s)
    await composer.start()
    found = []
    try:
        for name in names:
            raw = site.entries[name]
            entry = entry_from_pickles(name.removesuffix(".pck"), raw, load_pair(raw))
            theirs = delivered.deliveries.get(entry.filebase, Counter())
            detail = _difference(entry, await _composed(composer, entry), theirs, delivered.shunted)
            found.append(_row(delivered, raw, theirs, detail))
    finally:
        await composer.close()
    after = site.all_files()
    if changed := [path for path in {**before, **after} if before.get(path) != after.get(path)]:
        raise RuntimeError(f"composing changed {changed}")
    return found


def _row(delivered: Delivered, raw: bytes, theirs: Counter[Delivery], detail: str) -> Compared:
    group, kind = group_and_kind(raw)
    if delivered.group:
        group, kind = delivered.group, f"{delivered.group}: {kind}"
    return Compared(group, kind, not detail, theirs.total(), detail)


async def _composed(composer: Mailman3Composer, entry: QueueEntry) -> Ours:
    deliveries: Counter[Delivery] = Counter()
    owed_for: list[str] = []
    try:
        async for message in composer.compose(entry, entry.recipients):
            deliveries.update(deliveries_composed(message))
            owed_for += message.owed_for
    except ComposeError as exc:
        return Ours(deliveries, owed_for, f"{type(exc).__name__}: {exc}")
    return Ours(deliveries, owed_for, "")


def _difference(entry: QueueEntry, ours: Ours, theirs: Counter[Delivery], shunted: frozenset[str]) -> str:
    """In words; "" if there is none."""
    kind = group_and_kind(entry.raw)[1]
    if ours.deliveries != theirs:
        only_ours, only_theirs = (ours.deliveries - theirs).total(), (theirs - ours.deliveries).total()
        return f"{only_ours} deliveries only from us, {only_theirs} only from Mailman; {ours.error}"
    if (kind in shunted) != bool(ours.error):
        return f"shunted by Mailman: {kind in shunted}; our reason: {ours.error!r}"
    if not ours.error and sorted(ours.owed_for) != sorted(entry.recipients):
        return "not every recipient was settled"
    return ""


def deliveries_captured(item: Captured) -> list[Delivery]:
    content = boundaries_numbered(item.content)
    return [(item.reverse_path, address, item.parameters, item.size, content) for address in item.recipients]


def deliveries_composed(item: ComposedMessage) -> list[Delivery]:
    content = boundaries_numbered(item.content)
    envelope = item.envelope
    size = len(item.content) if envelope.size is None else envelope.size
    return [
        (envelope.reverse_path, address, envelope.mail_parameters, size, content) for address in envelope.recipients
    ]
