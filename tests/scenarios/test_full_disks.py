"""Disks full from the start: the queue's with all that can become of an entry, and those of socket, log and temp files."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path

from drainer.backlog.selection import Selectors
from drainer.control.client import ControlClient
from drainer.control.messages.entries import SelectReply, SelectRequest
from drainer.demo.misbehaviour import Rule
from drainer.demo.sink import SinkOptions, SinkThread
from tests.scenarios.running import drainer
from tests.scenarios.test_mistakes_handback import mailmans
from tests.scenarios.test_mta_trouble_full_disk import fill_bytes, fill_inodes, small_filesystem
from tests.scenarios.troubled import Outbreak, given, outbreak

BROKEN = f"1700000000.5+{'ab' * 20}"


def fill(directory: Path) -> None:
    fill_bytes(directory / "ballast")
    fill_inodes(directory)


def empty(directory: Path) -> None:
    for ballast in (directory / "ballast", *directory.glob("inode*")):
        ballast.unlink()


async def handed_back(site: Outbreak) -> SelectReply:
    """All that is deferred."""
    async with ControlClient(site.home / "control.sock") as service:
        return await service.handback(SelectRequest(selectors=Selectors(state="deferred"), yes=True))


async def deferred_entries(site: Outbreak) -> list[str]:
    async with ControlClient(site.home / "control.sock") as service:
        return [line.entry for line in (await service.entries(Selectors(state="deferred"), 100)).entries]


def test_every_end_of_an_entry_is_reached_on_a_full_queue_filesystem(tmp_path: Path) -> None:
    """Delivered, suppressed, held, unreadable; a part-delivered one goes back once there is room to rewrite it."""
    capture = tmp_path / "capture.jsonl"
    deferring = Rule.parse("rcpt 450 4.2.0 later recipient=ada0.harbour@*")
    with (
        small_filesystem(tmp_path / "small", "size=8m,nr_inodes=2000") as small,
        SinkThread(SinkOptions(capture=capture), deferring) as sink,
    ):
        site = outbreak(small / "site", sink.port, 60, members_each=3)
        queue_dir = site.outage.queue_dir
        (queue_dir / "out" / f"{BROKEN}.pck").write_bytes(b"no pickle")
        settings = site.settings.read_text().replace(f"{site.home}/ledger", f"{tmp_path}/ledger")
        site.settings = tmp_path / "drainer.toml"
        site.settings.write_text(settings.replace(f"{site.home}/control", f"{tmp_path}/control"))
        site.home = tmp_path
        fill(small)
        assert not (queue_dir / "drainer").exists()
        with site.run() as service:
            done = site.status_when(
                "all that can be done is done",
                lambda said: said.state == "draining" and said.backlog.recipients == said.backlog.deferred_recipients,
            )
            assert (
                done.done.unreadable_entries == 1 and (queue_dir / "bad" / f"{BROKEN}.psv").read_bytes() == b"no pickle"
            )
            assert done.done.suppressed_entries == len(site.files("drainer/duplicates")) > 0
            assert done.backlog.held_entries == len(site.files("drainer/held")) == len(site.outage.held) > 0
            part_delivered = asyncio.run(deferred_entries(site))
            fill(small)
            refused = asyncio.run(handed_back(site))
            assert (refused.changed, len(refused.skipped)) == (0, len(part_delivered))
            assert "No space left" in refused.skipped[0] and site.files("out") == []
            empty(small)
            back = asyncio.run(handed_back(site))
            assert (back.skipped, back.changed + back.gone) == ([], len(part_delivered))
            theirs = mailmans(site)
            assert theirs == site.owed() - given(capture), "each copy that is owed, once"
            assert service.terminate() == 0, service.log_text()[-4000:]
    missing = site.owed() - given(capture)
    assert {recipient.partition("@")[0] for _, _, recipient in missing} == {"ada0.harbour"}
    assert given(capture) - site.owed() == {}


def test_no_room_for_socket_log_or_temporary_files_stops_no_mail(tmp_path: Path) -> None:
    """The log goes to a file, as with StandardOutput=append:; the commands get an answer once there is room."""
    capture = tmp_path / "capture.jsonl"
    with ExitStack() as stack:
        small = stack.enter_context(small_filesystem(tmp_path / "small", "size=1m,nr_inodes=200"))
        sink = stack.enter_context(SinkThread(SinkOptions(capture=capture)))
        site = outbreak(tmp_path / "site", sink.port, 30, members_each=3)
        socket, log = small / "control.sock", small / "drainer.log"
        settings = site.settings.read_text().replace(str(site.home / "control.sock"), str(socket))
        site.settings.write_text(settings)
        log.touch()
        site.log.symlink_to(log)
        fill(small)
        service = stack.enter_context(site.run(under=["env", f"TMPDIR={small}"]))
        site.until("every recipient has it", lambda: sum(given(capture).values()) == sum(site.owed().values()))
        assert log.read_bytes() == b"" and not socket.exists()
        empty(small)
        site.until("the socket is there", socket.exists)
        assert service.terminate() == 0
        assert "event=listening" in log.read_text()
    assert given(capture) == site.owed()


def test_ledger_filesystem_without_a_free_inode_stops_no_mail_and_ends_the_start_by_name(tmp_path: Path) -> None:
    """What a running service writes there it has open; a start needs some, and says so."""
    capture = tmp_path / "capture.jsonl"
    with (
        small_filesystem(tmp_path / "small", "size=16m,nr_inodes=200") as small,
        SinkThread(SinkOptions(capture=capture)) as sink,
    ):
        site = outbreak(
            tmp_path / "site", sink.port, 20, members_each=3, feed={"messages": "0"},
            ledger={"path": small / "ledger.sqlite"}, guards={"min_free_inodes": 0, "min_free_bytes": "0B"},
        )  # fmt: skip
        with site.run() as service:
            site.status_when("all is read", lambda said: said.backlog.entries > 0 == said.backlog.unread_entries)
            fill_inodes(small)
            assert drainer("rate", "--messages", "unlimited", "--config", site.settings).returncode == 0
            site.status_when("nothing waits", lambda said: said.state == "idle" and not said.backlog.entries)
            assert service.terminate() == 0, service.log_text()[-4000:]
        fill_inodes(small)
        done = drainer("run", "--until-empty", "--config", site.settings)
        assert done.returncode == 1 and "Traceback" not in done.stderr
        assert f"cannot write {small}/ledger.sqlite: " in done.stderr
        assert f"the filesystem of {small} has no free inode" in done.stderr
    assert given(capture) == site.owed()
