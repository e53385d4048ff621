"""Entries of a genuine Mailman 3, made by its own runners, drained by the real service into a genuine Postfix."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

from drainer.pickles.restricted import load_pair
from drainer.queuedir.content import header_text
from drainer.queuedir.entry import entry_from_pickles
from tests.mailman3.site import Site
from tests.postfix import needed, running_postfix
from tests.scenarios.running import eventually, running_service, site_settings, status


def owed_by(site: Site) -> Counter[tuple[str, str]]:
    """(Message-ID, recipient) of every entry in the site's out/."""
    owed: Counter[tuple[str, str]] = Counter()
    for name, raw in site.entries.items():
        entry = entry_from_pickles(name[:-4], raw, load_pair(raw))
        message_id = (header_text(entry.message, "message-id") or "").strip()
        owed.update((message_id, recipient) for recipient in entry.recipients)
    return owed


def test_postfix_delivers_every_entry_to_every_recipient_once(
    mailman3_copy: Site, open_directory: Path, tmp_path: Path
) -> None:
    needed()
    site = mailman3_copy
    site.restore_entries()
    for name in list(site.entries)[:3]:  # restored from a backup under another name: no recipient may get a second copy
        shutil.copy2(site.out / name, site.out / f"{float(name.partition('+')[0]) + 60!r}+{'0' * 40}.pck")
    owed = owed_by(site)
    assert len(owed) > 300

    with running_postfix(open_directory / "postfix") as postfix:
        settings = site_settings(
            tmp_path, postfix.port,
            {"flavour": "mailman3", "queue_dir": site.var / "queue", "python": site.python, "config": site.config},
        )  # fmt: skip
        with running_service(settings, tmp_path / "drainer.log") as service:
            eventually(lambda: status(settings)["state"] == "idle", service.log_text)
            done = status(settings)["done"]
            assert service.terminate() == 0
        eventually(lambda: postfix.deliveries().total() >= len(owed), postfix.log_file.read_text)
        delivered = postfix.deliveries()

    assert delivered == owed
    assert set(owed.values()) == {1}
    assert done["delivered_recipients"] == len(owed)
    assert done["suppressed_entries"] == 3
    assert not list(site.out.iterdir())
