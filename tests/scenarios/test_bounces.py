"""Recipients that fail are reported to the list's bounce address: once, through the same MTA, never to an empty address."""

from __future__ import annotations

import asyncio
import email
from collections import Counter
from dataclasses import dataclass, replace
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

from drainer.demo.misbehaviour import Behaviour, Rule, SinkStep, answer
from drainer.demo.sample_queue import Outage, write_plain
from drainer.demo.sink import Sink, SinkOptions, SinkThread
from drainer.demo.taken import Taken
from drainer.ledger.records import DsnBacklog, Totals
from drainer.ledger.sqlite import SqliteLedger
from drainer.queuedir.read import read_entry
from tests.scenarios.running import running_service
from tests.scenarios.test_safety_valves import settings_for

COPIED, NO_ALIAS = "harbour", "jetty"
LISTS = (COPIED, NO_ALIAS, "announce", "quay", "mole", "pier")
RULES = (
    f"rcpt 550 5.1.1 no such user recipient=*1.{COPIED}@*",
    f"rcpt 550 5.1.1 no such user recipient=*1.{NO_ALIAS}@*",
    "rcpt 550 5.1.1 no such user recipient=*1.announce@*",
    "mail 550 5.7.1 this reverse-path is not welcome sender=announce-bounces@* first=1",
    "data 554 5.5.1 no valid recipients sender=quay-bounces@*",
    "dot 554 5.7.1 content refused sender=mole-bounces@*",
    "rcpt 451 4.2.1 mailbox busy recipient=*1.pier@*",
    f"rcpt 550 5.1.1 no such alias recipient={NO_ALIAS}-bounces@*",
)


class FirstDsnDeferred:
    """Script: the first DSN is answered 451 after its final dot."""

    def __init__(self) -> None:
        self.deferred = ""

    def __call__(self, step: SinkStep) -> Behaviour | None:
        if step.stage != "dot" or step.reverse_path or self.deferred:
            return None
        (self.deferred,) = step.recipients
        return answer("451 4.3.0 try later")


def dsns(taken: list[Taken]) -> list[tuple[Taken, Message]]:
    return [(one, email.message_from_bytes(one.content)) for one in taken if not one.reverse_path]


def reported(report: Message) -> list[tuple[str, str, str]]:
    """(Final-Recipient, Status, Diagnostic-Code) of each recipient of a DSN."""
    status_part = report.get_payload(1)
    assert isinstance(status_part, Message) and status_part.get_content_type() == "message/delivery-status"
    blocks = status_part.get_payload()
    assert isinstance(blocks, list)
    found = []
    for block in blocks[1:]:
        assert isinstance(block, Message) and block["Action"] == "failed"
        fields = (block["Final-Recipient"], block["Status"], block["Diagnostic-Code"])
        found.append(tuple(" ".join(str(field).split()).partition("; ")[2] or str(field) for field in fields))
    return [(address, code, words) for address, code, words in found]


def all_told(taken: list[Taken]) -> Counter[tuple[str, str]]:
    """(reverse-path, recipient) = how often a DSN named it."""
    return Counter((one.recipients[0], who[0]) for one, report in dsns(taken) for who in reported(report))


def ended(log: Path, outcome: str) -> list[dict[str, str]]:
    """The fields of the log's lines of an outcome, up to the first in quotes."""
    start = f"outcome={outcome} "
    lines = [line.partition(start)[2] for line in log.read_text().splitlines() if start in line]
    return [dict(field.split("=", 1) for field in line.partition('="')[0].split() if "=" in field) for line in lines]


@dataclass(frozen=True)
class Drained:
    """taken: what the sink owns; totals: the ledger's counters afterwards; failed, held: the log's lines;
    deferred: the recipient of the first DSN."""

    outage: Outage
    taken: list[Taken]
    totals: Totals
    failed: list[dict[str, str]]
    held: list[dict[str, str]]
    deferred: str = ""


def drained(home: Path, outage: Outage, sink: Sink, **sections: dict[str, Any]) -> Drained:
    """A run of the service to the end."""
    settings = settings_for(home, outage, sink.port, **sections)
    with running_service(settings, home / "drainer.log", "--until-empty") as service:
        assert service.wait() == 0, service.log_text()[-4000:]
    totals, backlog = asyncio.run(counted(home / "ledger.sqlite"))
    assert backlog == DsnBacklog()
    return Drained(
        outage, list(sink.taken), totals, ended(home / "drainer.log", "failed"), ended(home / "drainer.log", "held")
    )


async def counted(path: Path) -> tuple[Totals, DsnBacklog]:
    ledger = SqliteLedger(path)
    await ledger.open()
    try:
        return await ledger.totals(), await ledger.dsn_backlog()
    finally:
        await ledger.close()


@pytest.fixture(scope="module")
def drain(tmp_path_factory: pytest.TempPathFactory) -> Drained:
    """One drain that meets everything: each list has a trouble of its own."""
    home = tmp_path_factory.mktemp("bounces")
    outage = write_plain(home / "site", 9, 4, lists=LISTS)
    original = min((outage.queue_dir / "out").glob("*.pck"))
    received_s, _, digest = original.name.partition("+")
    (original.parent / f"{float(received_s) + 0.1:.6f}+{digest}").write_bytes(original.read_bytes())
    feed = {"retry_first": "200ms", "retry_longest": "400ms", "give_up_after": "500ms"}
    script = FirstDsnDeferred()
    with SinkThread(SinkOptions(keep_content=True), script, *map(Rule.parse, RULES)) as sink:
        found = drained(home, outage, sink, feed=feed, mta={"sessions": 1})
    return replace(found, deferred=script.deferred)


def test_refusal_of_a_recipient_is_reported_once_to_the_bounce_address_of_the_list(drain: Drained) -> None:
    told_lists = [line for line in drain.failed if line["list"] not in (COPIED, NO_ALIAS)]
    expected = Counter((f"{line['list']}-bounces@lists.example.org", line["recipient"]) for line in told_lists)
    found = all_told(drain.taken)
    assert {key: times for key, times in found.items() if not key[0].startswith(COPIED)} == expected
    assert {line["list"] for line in told_lists} == {"announce", "pier"}
    assert drain.totals.get("bounced_recipients") == len(drain.failed)
    assert drain.totals.get("dsns_sent") == len(dsns(drain.taken))
    words = {words for _, report in dsns(drain.taken) for _, _, words in reported(report)}
    assert words == {
        "550 5.1.1 no such user",
        "451 4.2.1 mailbox busy",
    }


def test_refusal_of_the_message_is_reported_of_no_recipient_and_its_entry_is_held(drain: Drained) -> None:
    """As Mailman 2.1 has it; what Mailman 3 has is in tests/feed/test_deliver.py."""
    held = (drain.outage.queue_dir / "drainer/held").iterdir()
    assert {read_entry(path).list_id for path in held} == {"announce", "quay", "mole"}
    assert {line["reason"] for line in drain.held} == {"content_refused"}


def test_dsn_goes_to_the_reverse_path_and_contains_the_header_of_the_mail(drain: Drained) -> None:
    identities = {message_id for _, message_id in drain.outage.owed}
    assert dsns(drain.taken)
    for one, report in dsns(drain.taken):
        header = report.get_payload(2)
        assert report["To"] == one.recipients[0] and report["Auto-Submitted"] == "auto-replied"
        assert isinstance(header, Message) and any(name in str(header.get_payload()) for name in identities)


def test_recipient_given_up_after_deferrals_is_reported_with_the_last_reply(drain: Drained) -> None:
    found = [
        who for one, report in dsns(drain.taken) if one.recipients[0].startswith("pier-") for who in reported(report)
    ]
    assert {(code, words) for _, code, words in found} == {("4.4.7", "451 4.2.1 mailbox busy")}
    assert len(found) == sum(line["list"] == "pier" for line in drain.failed) > 0


def test_copies_of_one_mail_refused_for_the_same_recipient_are_reported_once(drain: Drained) -> None:
    found = {key: times for key, times in all_told(drain.taken).items() if key[0].startswith(COPIED)}
    assert list(found.values()) == [1]
    assert sum(line["list"] == COPIED for line in drain.failed) == 2


def test_dsn_refused_for_good_is_dropped_and_one_deferred_goes_later(drain: Drained) -> None:
    assert not any(one.recipients[0].startswith(NO_ALIAS) for one, _ in dsns(drain.taken))
    refused = [line for line in drain.failed if line["list"] == NO_ALIAS]
    assert drain.deferred in {one.recipients[0] for one, _ in dsns(drain.taken)}
    assert drain.totals.get("dsns_dropped") == len({line["filebase"] for line in refused}) > 0


def test_no_dsn_is_sent_if_the_operator_wants_none(tmp_path: Path) -> None:
    outage = write_plain(tmp_path / "site", 2, 2)
    with SinkThread(SinkOptions(keep_content=True), Rule.parse("rcpt 550 5.1.1 unknown recipient=*1.*")) as sink:
        off = drained(tmp_path, outage, sink, feed={"dsn": False})
    assert dsns(off.taken) == []
    assert off.totals.get("bounced_recipients") == 2
    assert (off.totals.get("dsns_sent"), off.totals.get("dsns_dropped")) == (0, 0)
