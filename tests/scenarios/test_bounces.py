"""Recipients that fail are reported to the list's bounce address: once, through the same MTA, never to nobody."""

from __future__ import annotations

import email
from collections import Counter
from email.message import Message
from pathlib import Path
from typing import Any

from drainer.demo.sample_queue import Outage, write_plain
from drainer.demo.sink import Rule, SinkOptions, SinkThread, Taken
from tests.scenarios.running import running_service, status
from tests.scenarios.test_safety_valves import settings_for

LISTS = ("harbour", "announce", "quay", "mole")
REFUSALS = (
    "rcpt 550 5.1.1 no such user recipient=*1.*",
    "mail 550 5.7.1 this reverse-path is not welcome sender=announce-bounces@*",
    "data 554 5.5.1 no valid recipients sender=quay-bounces@*",
    "dot 554 5.7.1 content refused sender=mole-bounces@*",
)


def dsns(taken: list[Taken]) -> list[tuple[Taken, Message]]:
    return [(one, email.message_from_bytes(one.content)) for one in taken if not one.reverse_path]


def told(report: Message) -> list[tuple[str, str, str]]:
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
    return Counter((one.recipients[0], who[0]) for one, report in dsns(taken) for who in told(report))


def failed(log: Path) -> list[dict[str, Any]]:
    lines = [line.partition("outcome=failed ")[2] for line in log.read_text().splitlines() if "outcome=failed" in line]
    return [dict(field.split("=", 1) for field in line.split('reply="')[0].split()) for line in lines]


def drained(home: Path, outage: Outage, port: int, **sections: dict[str, Any]) -> dict[str, Any]:
    """Run to the end with these settings; the last status the journal of the ledger can give is its totals."""
    settings = settings_for(home, outage, port, **sections)
    with running_service(settings, home / "drainer.log", "--until-empty") as service:
        assert service.wait() == 0, service.log_text()[-4000:]
    with running_service(settings, home / "after.log") as service:
        said = status(settings)
        assert service.terminate() == 0
    return said


def test_refusal_at_any_step_is_told_once_to_the_bounce_address_of_the_list(tmp_path: Path) -> None:
    outage = write_plain(tmp_path / "site", 8, 4, lists=LISTS)
    rules = [Rule.parse(line) for line in REFUSALS]
    with SinkThread(SinkOptions(keep_content=True), *rules) as sink:
        said = drained(tmp_path, outage, sink.port)
        taken = list(sink.taken)
    lost = failed(tmp_path / "drainer.log")
    expected = Counter((f"{line['list']}-bounces@lists.example.org", line["recipient"]) for line in lost)
    # The same person fails on several mails of one list; each failure is told of.
    assert all_told(taken) == expected and {line["list"] for line in lost} == set(LISTS)
    assert said["done"]["bounced_recipients"] == len(lost)
    assert (said["done"]["dsns_sent"], said["backlog"]["dsns_owed"]) == (len(dsns(taken)), 0)
    codes = {words for _, report in dsns(taken) for _, _, words in told(report)}
    assert codes == {
        "550 5.1.1 no such user",
        "550 5.7.1 this reverse-path is not welcome",
        "554 5.5.1 no valid recipients",
        "554 5.7.1 content refused",
    }
    identities = {message_id for _, message_id in outage.owed}
    for one, report in dsns(taken):
        assert report["To"] == one.recipients[0] and report["Auto-Submitted"] == "auto-replied"
        header = report.get_payload(2)
        assert isinstance(header, Message) and any(name in str(header.get_payload()) for name in identities)


def test_recipient_given_up_after_deferrals_is_told_with_the_last_answer(tmp_path: Path) -> None:
    outage = write_plain(tmp_path / "site", 2, 2)
    feed = {"retry_first": "200ms", "retry_longest": "400ms", "give_up_after": "500ms"}
    with SinkThread(SinkOptions(keep_content=True), Rule.parse("rcpt 451 4.2.1 mailbox busy recipient=*1.*")) as sink:
        drained(tmp_path, outage, sink.port, feed=feed)
        taken = list(sink.taken)
    found = [who for _, report in dsns(taken) for who in told(report)]
    assert [(code, words) for _, code, words in found] == [("4.4.7", "451 4.2.1 mailbox busy")] * 2
    assert len({one.recipients for one, _ in dsns(taken)}) == 1


def test_copies_of_one_mail_refused_for_the_same_recipient_are_told_of_once(tmp_path: Path) -> None:
    outage = write_plain(tmp_path / "site", 2, 3)
    original = min((outage.queue_dir / "out").glob("*.pck"))
    received_s, _, digest = original.name.partition("+")
    (original.parent / f"{float(received_s) + 1:.1f}+{digest}").write_bytes(original.read_bytes())
    with SinkThread(SinkOptions(keep_content=True), Rule.parse("rcpt 550 5.1.1 unknown recipient=*1.*")) as sink:
        said = drained(tmp_path, outage, sink.port, mta={"sessions": 1})
        taken = list(sink.taken)
    assert said["done"]["bounced_recipients"] == 3
    assert sum(all_told(taken).values()) == 2


def test_dsn_refused_for_good_is_dropped_and_one_deferred_goes_later(tmp_path: Path) -> None:
    outage = write_plain(tmp_path / "site", 2, 2, lists=("harbour", "announce"))
    rules = [
        Rule.parse("rcpt 550 5.1.1 no such user recipient=*1.*"),
        Rule.parse("rcpt 550 5.1.1 no such alias recipient=harbour-bounces@*"),
        Rule.parse("dot 451 4.3.0 try later sender= first=1"),
    ]
    feed = {"retry_first": "200ms", "retry_longest": "400ms"}
    with SinkThread(SinkOptions(keep_content=True), *rules) as sink:
        said = drained(tmp_path, outage, sink.port, feed=feed)
        taken = list(sink.taken)
    assert {one.recipients for one, _ in dsns(taken)} == {("announce-bounces@lists.example.org",)}
    assert (said["done"]["dsns_sent"], said["done"]["dsns_dropped"]) == (1, 1)


def test_nobody_is_told_where_the_operator_wants_no_dsns(tmp_path: Path) -> None:
    outage = write_plain(tmp_path / "site", 2, 2)
    with SinkThread(SinkOptions(keep_content=True), Rule.parse("rcpt 550 5.1.1 unknown recipient=*1.*")) as sink:
        said = drained(tmp_path, outage, sink.port, feed={"dsn": False})
        assert dsns(sink.taken) == []
    assert said["done"]["bounced_recipients"] == 2
    assert (said["done"]["dsns_sent"], said["done"]["dsns_dropped"]) == (0, 0)
