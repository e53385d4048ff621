"""What a genuine Mailman did with the wide sample, kept so that the suite can compare all of it.

`python -m tests.wire.recording` (make wire-recording) has each version of Mailman build the site and deliver it, as
`make wire` does, and writes tests/samples/wire/. In an archive: the site's database, templates and entries; every
delivery its own outgoing runner made; and what it was made with. It is good for as long as the samples are what they
were (`samples_digest`), and for the Python and the packages it was made with: where those are others and something
differs, the Mailman that is there decides.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import lzma
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.mailman3 import wide
from tests.mailman3.site import VERSIONS, Site, mailman_python
from tests.wire.mailman3 import REMEMBER_S, Delivered, Delivery, compare_with, genuine, signing_copy
from tests.wire.mailman3 import compare as compare_genuine
from tests.wire.table import Comparison

SHARE = 2
"""Every how many kinds of content each list gets; one list gets all of them."""

ANEW_EVERY = 14

_ARCHIVES = Path(__file__).parents[1] / "samples" / "wire"
_KEPT = ("templates", "var/data/mailman.db", "var/queue/out")
_MADE_WITH = "made-with.json"
_ASK = """\
import json, platform
from importlib.metadata import version
print(json.dumps({"python": platform.python_version(), **{name: version(name) for name in ("mailman", "dkimpy")}}))
"""


def samples_digest() -> str:
    """Of all the wide sample is made of."""
    parts = (wide.LISTS, wide.posts(SHARE), wide.NOTICES, wide.POST_IDS)
    texts = (wide.MTA_SETTINGS, wide.EXTRA_CONFIG, wide.ARC_CONFIG)
    return hashlib.sha256(repr((parts, texts)).encode()).hexdigest()


def made_with(python: Path) -> dict[str, str]:
    """Versions of all that decides what Mailman writes."""
    done = subprocess.run([python, "-c", _ASK], capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


def recorded_with(version: str) -> dict[str, str]:
    """made_with() of the recording, and its `samples`."""
    with tarfile.open(_archive(version)) as archive:
        member = archive.extractfile(_MADE_WITH)
        assert member is not None
        found: dict[str, str] = json.load(member)
        return found


def record(version: str, delivered: Sequence[Delivered]) -> Path:
    """Write the recording. Returns its path."""
    site = delivered[0].site
    with sqlite3.connect(site.var / "data" / "mailman.db") as database:
        database.execute("UPDATE template SET uri = replace(uri, ?, '')", (f"file://{site.directory}",))
    database.execute("VACUUM")
    database.close()
    about = {**made_with(site.python), "samples": samples_digest()}
    path = _archive(version)
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        lzma.open(path, "wb", preset=9 | lzma.PRESET_EXTREME) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        _add(archive, _MADE_WITH, about)
        for item in delivered:
            _add(archive, f"{item.site.directory.name}.json", _told(item))
        for name in _KEPT:
            archive.add(site.directory / name, f"site/{name}", filter=_anonymous)
    return path


def opened(version: str, directory: Path) -> list[Delivered]:
    """Both sites as they were recorded, below this directory, with what Mailman delivered."""
    with tarfile.open(_archive(version)) as archive:
        archive.extractall(directory, filter="data")
    site = Site(directory / "site", mailman_python(version), wide.MTA_SETTINGS, wide.EXTRA_CONFIG)
    with sqlite3.connect(site.var / "data" / "mailman.db") as database:
        database.execute("UPDATE template SET uri = ? || uri", (f"file://{site.directory}",))
    database.close()
    site = Site.found(site.directory, site.python)
    signing = signing_copy(site, directory / "signing")
    return [_delivered(site), _delivered(signing, wide.ARC)]


async def compare(version: str, directory: Path) -> list[Comparison]:
    """All that was recorded, answers remembered; and some of it with nothing remembered, which takes ten times as long.

    Where something differs and what writes here is not what was recorded, a share of it with the Mailman there is.
    """
    python = mailman_python(version)
    here, then = made_with(python), recorded_with(version)
    if here["mailman"] == then["mailman"]:
        delivered = await asyncio.to_thread(opened, version, directory / "recorded")
        found = [
            await compare_with(version, delivered, REMEMBER_S),
            await compare_with(version, delivered, 0.0, ANEW_EVERY),
        ]
        if here.items() <= then.items() or not any(comparison.unwanted() for comparison in found):
            return found
    return await compare_genuine(version, directory / "genuine", ANEW_EVERY)


def _archive(version: str) -> Path:
    return _ARCHIVES / f"mailman-{version}.tar.xz"


def _told(item: Delivered) -> dict[str, Any]:
    numbers: dict[bytes, int] = {}
    deliveries = {
        filebase: sorted([*key[:4], numbers.setdefault(key[4], len(numbers)), count] for key, count in of_entry.items())
        for filebase, of_entry in sorted(item.deliveries.items())
    }
    contents = [content.decode("latin-1") for content in numbers]
    return {"shunted": sorted(item.shunted), "deliveries": deliveries, "contents": contents}


def _delivered(site: Site, group: str = "") -> Delivered:
    recorded = json.loads(site.directory.with_suffix(".json").read_text())
    contents = [content.encode("latin-1") for content in recorded["contents"]]
    deliveries = {
        filebase: Counter(dict(_counted(of_entry, contents))) for filebase, of_entry in recorded["deliveries"].items()
    }
    return Delivered(site, deliveries, frozenset(recorded["shunted"]), group)


def _counted(of_entry: list[list[Any]], contents: list[bytes]) -> Iterator[tuple[Delivery, int]]:
    for reverse_path, address, parameters, size, number, count in of_entry:
        yield (reverse_path, address, tuple(parameters), size, contents[number]), count


def _add(archive: tarfile.TarFile, name: str, value: object) -> None:
    octets = json.dumps(value, indent=0).encode()
    member = tarfile.TarInfo(name)
    member.size = len(octets)
    archive.addfile(member, io.BytesIO(octets))


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    return member


async def _record_all(directory: Path) -> None:
    for version in VERSIONS:
        path = record(version, await genuine(version, directory / version, SHARE))
        print(f"{path}: {path.stat().st_size:,} octets, {recorded_with(version)}")


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="drainer-wire-") as directory:
        asyncio.run(_record_all(Path(directory)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
