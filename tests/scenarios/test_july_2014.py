"""July 2014 again: the MTA is down, and everything that can go wrong after that goes wrong, on a genuine Mailman 3.

Mailman's own runner puts the backlog into retry/, decorated; senders submit the same mails again; an administrator restores
a backup; the queue's filesystem has no inode left; Postfix comes back; Mailman is restarted in the middle, and new mail
arrives, one of it a text that its author sent before. From the first look to the report: nothing is lost, no recipient has a
mail twice, and the report agrees with Postfix.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from drainer.control.client import ControlClient
from drainer.report.snapshot import Snapshot
from tests.mailman3 import sample
from tests.mailman3.site import Post, Site
from tests.postfix import needed, running_postfix
from tests.scenarios.running import Service, drainer, eventually, running_service, site_settings, status
from tests.scenarios.test_beside_runner import OTHERS, runners, started
from tests.scenarios.test_mailman3_into_postfix import owed_by
from tests.scenarios.test_mta_trouble_full_disk import fill_inodes, small_filesystem

RUNNERS = frozenset({"in", "pipeline", "retry"})
"""Of Mailman, in the middle: those that bring new mail, and the one that moves retry/ to out/; not the one of out/."""

POSTS = [post for post in sample.POSTS if post.recipients is None]
AGAIN = POSTS[0]


def later(message_id: str, first_words: str) -> Post:
    """A mail like AGAIN to the same list, written an hour later."""
    text = AGAIN.octets.decode().replace("post-0@", f"{message_id}@").replace("10:00:00", "11:00:00")
    return Post(AGAIN.mailing_list, text.replace("Line one", first_words).encode())


LATE = [later("late-1", "News"), later("late-2", "More news"), later("sent-again", "Line one")]


def queued(site: Site, *queues: str) -> int:
    return sum(len(list((site.var / "queue" / name).glob("*.pck"))) for name in queues)


def said(settings: Path, *command: str) -> dict[str, Any]:
    done = drainer(*command, "--config", settings)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


async def asked(socket: Path) -> Snapshot:
    async with ControlClient(socket) as client:
        return await client.status()


@contextmanager
def mailman_at_work(site: Site) -> Iterator[None]:
    """Mailman's master with RUNNERS."""
    with site.config.open("a") as config:
        config.writelines(f"[runner.{name}]\nstart: no\n" for name in {*OTHERS, "out", "virgin"} - RUNNERS)
    with started(site) as master:
        try:
            eventually(lambda: set(runners(site)) == RUNNERS)
            yield
        finally:
            master.terminate()
            master.wait(60)


def after_the_outage(site: Site) -> Counter[tuple[str, str]]:
    """Make the queue as the operator finds it. Returns (Message-ID, recipient) owed, each once."""
    originals, owed = dict(site.entries), owed_by(site)
    retry = site.var / "queue" / "retry"
    site.run_outgoing_without_mta()
    assert (queued(site, "retry"), queued(site, "out")) == (len(originals), 0)
    site.populate([], POSTS, post_ids=sample.POST_IDS, into="pipeline")
    assert queued(site, "out") == len(POSTS)
    for name in [*originals][::4]:
        (site.out / name).write_bytes(originals[name])
    for path in sorted(retry.glob("*.pck"))[::8]:
        shutil.copy2(path, site.out / f"{float(path.name.partition('+')[0]) + 60!r}+{'0' * 40}.pck")
    return owed


def drained_while_mailman_is_restarted(site: Site, settings: Path, service: Service, entries: int) -> dict[str, Any]:
    """Some is sent; there are inodes again, and Mailman comes back, with new mail; the rest is sent.

    Returns what `status` says at the end.
    """

    def rate(messages: str) -> None:
        assert drainer("rate", "--messages", messages, "--config", settings).returncode == 0

    def now() -> Snapshot:
        return asyncio.run(asked(settings.with_name("control.sock")))

    def known() -> int:
        done, backlog = now().done, now().backlog
        return backlog.entries + backlog.held_entries + done.delivered_entries + done.suppressed_entries

    eventually(lambda: now().done.delivered_entries >= 5, service.log_text)
    rate("0")
    for ballast in site.directory.parent.glob("inode*"):  # Mailman itself can do nothing without an inode
        ballast.unlink()
    with mailman_at_work(site):
        site.arrive(LATE)
        eventually(lambda: known() == entries + len(LATE), service.log_text)
    rate("unlimited")
    eventually(lambda: now().state == "idle", service.log_text)
    return status(settings)


def test_outage_of_july_2014_loses_nothing_sends_nothing_twice_and_is_reported_as_it_was(
    mailman3_site: Site, open_directory: Path, tmp_path: Path
) -> None:
    needed()
    with (
        small_filesystem(tmp_path / "small", "size=64m,nr_inodes=3000") as small,
        running_postfix(open_directory / "postfix") as postfix,
    ):
        site = mailman3_site.copy_to(small / "site")
        owed = after_the_outage(site)
        entries = queued(site, "out", "retry")
        settings = site_settings(
            tmp_path, postfix.port,
            {
                "flavour": "mailman3", "queue_dir": site.var / "queue", "python": site.python, "config": site.config,
                "coprocesses": 1,
            },
            custody={"queues": ["out", "retry"]},
            feed={"messages": "8/s"},
        )  # fmt: skip
        fill_inodes(small)

        looked = said(settings, "scan", "--json")
        assert sum(line["entries"] for line in looked["lists"]) == looked["backlog"]["entries"] == entries
        assert {line["queue"]: line["is_taken"] for line in looked["by_queue"]} == {"out": True, "retry": True}
        assert looked["forecast"]["log_failed_deliveries"] > 0 == looked["forecast"]["log_deliveries"]

        with running_service(settings, tmp_path / "drainer.log") as service:
            at_the_end = drained_while_mailman_is_restarted(site, settings, service, entries)
            assert service.terminate() == 0
        members = {recipient for message_id, recipient in owed if message_id == "<post-0@posts.example.org>"}
        owed.update((f"<late-{number}@posts.example.org>", member) for number in (1, 2) for member in members)
        eventually(lambda: postfix.deliveries().total() >= owed.total(), postfix.log_file.read_text)
        assert postfix.deliveries() == owed
        assert set(owed.values()) == {1}

        report = said(settings, "report", "--format", "json")
        originals = len(mailman3_site.entries) + 2
        assert report["found"]["entries"] == entries + len(LATE)
        for done in (report["done"], at_the_end["done"]):
            assert (done["delivered_entries"], done["delivered_recipients"]) == (originals, owed.total())
            assert done["suppressed_entries"] == entries + 2 - originals
            assert done["bounced_recipients"] == done["unreadable_entries"] == done["dropped_entries"] == 0
        assert report["suppressed"]["total"] == entries + 2 - originals
        assert report["backlog"]["entries"] == at_the_end["backlog"]["entries"] == 0
        (held,) = report["held"]["lines"]
        assert "<sent-again@posts.example.org>" in json.dumps(held) and "resend" in json.dumps(held)
