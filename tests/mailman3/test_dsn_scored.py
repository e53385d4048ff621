"""A genuine Mailman 3 scores the right members for our DSNs: through its own LMTP server and its own bounce runner."""

from __future__ import annotations

from collections.abc import Collection

from drainer.compose.mailman3 import Mailman3Composer
from drainer.compose.wire import ComposedMessage, Envelope
from drainer.feed.dsn import EXPIRED, dsn_message, owed_dsn
from drainer.ledger.records import MessageRecord, Outcome
from drainer.ledger.states import DsnState, State
from drainer.queuedir.entry import QueueEntry
from tests.ledger.memory import MemoryLedger
from tests.mailman3.site import Site

UNKNOWN = "550 5.1.1 no such user\r\nFinal-Recipient: rfc822; poster@example.org"
PLAIN, INDIVIDUAL, VERP = (f"{name}.lists.example.org" for name in ("plain", "individual", "verp"))


async def composed(site: Site, *entries: QueueEntry) -> dict[str, list[ComposedMessage]]:
    """What goes out for each of these entries, by list-id."""
    composer = Mailman3Composer(site.python, site.config, 1, 0, 60.0)
    await composer.start()
    try:
        return {
            entry.list_id: [message async for message in composer.compose(entry, entry.recipients)] for entry in entries
        }
    finally:
        await composer.close()


async def dsns_for(
    entry: QueueEntry, sent: list[ComposedMessage], failed: Collection[str], reply: str, status: str = ""
) -> list[tuple[str, bytes]]:
    """(recipient, content) of the DSNs owed when these recipients of an entry fail: written to a ledger and read back."""
    ledger = MemoryLedger()
    record = MessageRecord((b"one",), entry.list_id, "<1@posts.example.org>")
    for message in sent:
        failures = {address: reply for address in message.owed_for if address in failed}
        if failures:
            dsns = owed_dsn(message, entry.filebase, record, failures, 1.7e9, status)
            await ledger.record(entry.filebase, record, [Outcome(State.FAILED, tuple(failures), reply, 1.7e9)], dsns)
    found = []
    for owed in await ledger.dsns(DsnState.OWED, 100):
        dsn = dsn_message(owed, "lists.example.org", "127.0.0.1", smtputf8=True)
        assert dsn.envelope.reverse_path == ""
        found.append((dsn.envelope.recipients[0], dsn.content))
    return found


async def test_only_members_named_in_a_dsn_are_scored_and_only_once(
    mailman3_copy: Site, entries: dict[str, list[QueueEntry]]
) -> None:
    site = mailman3_copy
    sent = await composed(site, *(entries[list_id][0] for list_id in (PLAIN, INDIVIDUAL, VERP)))
    expected: set[tuple[str, str, str]] = set()
    mails: list[tuple[str, bytes]] = []
    for list_id, reply, status in ((PLAIN, UNKNOWN, ""), (INDIVIDUAL, "451 4.2.0 busy", EXPIRED), (VERP, UNKNOWN, "")):
        entry = entries[list_id][0]
        members = [address for address in entry.recipients if address.startswith(f"{list_id.partition('.')[0]}.m")]
        failed = members[:3] if list_id == PLAIN else members[:2]
        found = await dsns_for(entry, sent[list_id], failed, reply, status)
        expected |= {(list_id, address, "normal") for address in failed}
        mails += found
        if list_id == VERP:
            assert {path for path, _ in found} == {
                f"verp-bounces+{a.replace('@', '=')}@lists.example.org" for a in failed
            }
    probed = next(address for address in entries[VERP][0].recipients if address.startswith("verp.m3"))
    probe_path = site.probe("verp@lists.example.org", probed)
    probe = ComposedMessage(Envelope(probe_path, (probed,)), b"Subject: probe\r\n\r\nAre you there?\r\n", (probed,))
    mails += await dsns_for(entries[VERP][0], [probe], [probed], UNKNOWN)
    expected.add((VERP, probed, "probe"))
    said = site.bounce(mails)
    assert {reply[:3] for reply in said["lmtp"]} == {"250"}
    assert sorted(map(tuple, said["events"])) == sorted(expected)
    disabled = f"{probed} {VERP}"
    assert said["scores"].pop(disabled)[1] == "by_bounces"
    assert said["scores"] == {f"{address} {list_id}": [1, ""] for list_id, address, how in expected if how == "normal"}
