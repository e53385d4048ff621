"""One drain over everything hostile that a queue may hold, into a sink that keeps what it gets: each entry ends where it
belongs, with its reason; nothing is run, nothing injected; and the good mail beside it is delivered."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from drainer.demo.sink import Sink, SinkOptions, SinkThread
from tests.pickles.hostile import CANARY
from tests.scenarios.hostile_queue import Fates, fates, hostile_pickles, mail, meant_for, odd_messages, put
from tests.scenarios.troubled import Outbreak, given, once, outbreak

FOR_NOBODY = {"empty", "truncated", "garbage"}
FOR_SOME_MAILMAN = {"unsafe_pickle", "not_understood"}
GOOD = "good@example.org"

ADDRESSES = {
    "control character": ("a\x01b@example.org", "553 5.1.3 the address has a control character"),
    "NUL": ("a\0b@example.org", "553 5.1.3 the address has a control character"),
    "line end and another command": (
        "a@example.org>\r\nRCPT TO:<victim@example.org",
        "553 5.1.3 the address has a control character",
    ),
    "bare line feed": ("a@example.org\nDATA", "553 5.1.3 the address has a control character"),
    "next line in latin-1": ("a@example.org\x85RSET", "553 5.1.3 "),
    "64 KB": ("a" * 65_536 + "@example.org", "553 5.1.3 the address is 65548 octets long"),
    "64 KB of domain": ("a@" + "b." * 32_768 + "org", "553 5.1.3 the address is"),
    "umlaut": ("j\xfcrgen@example.org", "553 5.1.3 "),
    "umlaut in the domain": ("a@m\xfcller.example", "553 5.1.3 "),
}
"""Recipients no server can be given, as pickled by Python 2, and what is said of each."""

SENT_AS = {
    "a b@example.org": "ab@example.org",
    '"a b"@example.org': '"a b"@example.org',
    '"a\\"b"@example.org': '"a\\"b"@example.org',
    "Ann Example <ann@example.org>": "ann@example.org",
    "no-domain": "no-domain",
    "xn--jrgen-kva@xn--mller-kva.example": "xn--jrgen-kva@xn--mller-kva.example",
    "o'neil@example.org": "o'neil@example.org",
    "%s%d${x}@example.org": "%s%d${x}@example.org",
    "a(comment)@example.org": "a@example.org",
    "-froot@example.org": "-froot@example.org",
    "|/bin/sh@example.org": "|/bin/sh@example.org",
    "a@[192.0.2.1]": "a@[192.0.2.1]",
}
"""Odd, but Mailman 2.1 writes them into RCPT like this, and a server may take them."""

SENDERS = {
    "line end": "x@example.org>\r\nRCPT TO:<victim@example.org",
    "bare line feed": "x@example.org\nRSET",
    "NUL": "x\0@example.org",
    "64 KB": "x" * 65_536 + "@example.org",
    "umlaut": "\xfc@example.org",
}

BODIES = {
    "end of data with bare line feeds": "one\n.\nMAIL FROM:<victim@example.org>\nRCPT TO:<victim@example.org>\nDATA\n.\n",
    "end of data with bare returns": "one\r.\rMAIL FROM:<victim@example.org>\rRCPT TO:<victim@example.org>\rDATA\r.\r",
    "end of data mixed": "one\r\n.\rMAIL FROM:<victim@x>\r.\nRCPT TO:<victim@x>\n\r.\r\nQUIT\r\n.\r\n..\r\n",
    "dots": ".\n..\n...\n.a\n" * 100,
    "NUL bytes": "a\0b\n\0\n" * 100,
    "a line of 1 MB": "x" * 2**20,
    "no line end": "x",
    "eight bits": "".join(map(chr, range(1, 256))),
}


@dataclass(frozen=True, slots=True)
class Drained:
    site: Outbreak
    sink: Sink
    fates: Fates
    pickles: dict[str, str]
    odd: dict[str, str]
    filebases: dict[str, str]
    directory: Path

    def taken(self, message_id: str) -> list[tuple[str, ...]]:
        return [taken.recipients for taken in self.sink.taken if taken.message_id == message_id]


@pytest.fixture(scope="module")
def drained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drained]:
    home = tmp_path_factory.mktemp("hostile")
    options = SinkOptions(
        capture=home / "capture.jsonl", keep_content=True, extensions=("PIPELINING", "SIZE 3000000", "8BITMIME")
    )
    with SinkThread(options) as sink:
        site = outbreak(home, sink.port, 3)
        queue_dir = site.outage.queue_dir
        pickles = {name: put(queue_dir, *pair) for name, pair in hostile_pickles().items()}
        odd = {
            name: put(queue_dir, raw, meant_for(f"odd{number}@example.org", _parsemsg=0))
            for number, (name, raw) in enumerate(odd_messages().items())
        }
        others: dict[str, str] = {}

        def other(name: str, message: bytes, metadata: bytes) -> None:
            others[name] = put(queue_dir, message, metadata)

        for name, (address, _) in ADDRESSES.items():
            for one_by_one in (0, 1):
                key = f"<{name.replace(' ', '-')}.{one_by_one}@x>"
                other(f"to: {name} {one_by_one}", mail(key), meant_for(address, GOOD, verp=one_by_one))
        for number, address in enumerate(SENT_AS):
            other(f"odd: {address}", mail(f"<odd.{number}@x>"), meant_for(address))
        for number, sender in enumerate(SENDERS.values()):
            for one_by_one in (0, 1):
                key = f"<from.{number}.{one_by_one}@x>"
                other(f"from: {number} {one_by_one}", mail(key), meant_for(GOOD, envsender=sender, verp=one_by_one))
        for number, body in enumerate(BODIES.values()):
            other(f"body: {number}", mail(f"<body.{number}@x>", body), meant_for(GOOD))
        long_header = "X-Long: " + "x" * 2**20 + "\n"
        other("header", mail("<header@x>", headers=long_header), meant_for(GOOD))
        other("too large", mail("<large@x>", "x" * 70 + "\n" + "y" * 3_000_001), meant_for(GOOD))
        parameter = "x@example.org> BODY=8BITMIME <"
        other("parameter", mail("<parameter@x>"), meant_for(GOOD, envsender=parameter))
        other("no such list", mail("<nolist@x>"), meant_for(GOOD, list_name="../../etc"))
        site.drain()
        yield Drained(site, sink, fates(queue_dir, site.log), pickles, odd, others, home)


def test_hostile_pickle_is_held_with_its_reason_or_in_bad_if_no_mailman_can_open_it(
    drained: Drained,
) -> None:
    found = {}
    for name, filebase in drained.pickles.items():
        outcome = "unreadable" if "unreadable" in drained.fates.outcomes(filebase) else "held"
        reason = drained.fates.line(filebase, outcome)["reason"]
        is_right = reason in (FOR_NOBODY if outcome == "unreadable" else FOR_SOME_MAILMAN)
        where = drained.fates.where.get(filebase)
        if not is_right or where != ["bad" if outcome == "unreadable" else "drainer/held"]:
            found[name] = (where, outcome, reason)
    assert found == {}


def test_hostile_pickle_runs_nothing(drained: Drained) -> None:
    assert not [path for path in (Path.cwd() / CANARY, drained.directory / CANARY) if path.exists()]


def test_message_of_impossible_values_is_sent_or_set_aside_with_a_reason(drained: Drained) -> None:
    for name, filebase in drained.odd.items():
        outcomes = drained.fates.outcomes(filebase)
        assert outcomes & {"finished", "held", "unreadable"}, (name, outcomes)
        assert ("finished" in outcomes) == (filebase not in drained.fates.where), name
        if "held" in outcomes:
            assert drained.fates.line(filebase, "held")["reason"] == "composer_failed", name


def test_good_mail_beside_it_is_delivered_to_every_recipient_once(drained: Drained) -> None:
    good = Counter(
        {key: times for key, times in given(drained.directory / "capture.jsonl").items() if "@x" not in key[1]}
    )
    ours = {key: times for key, times in good.items() if key[1].endswith("@example.org>")}
    once("beside hostile entries", drained.site.owed(), Counter(ours))


@pytest.mark.parametrize("one_by_one", [0, 1])
@pytest.mark.parametrize("name", ADDRESSES)
def test_recipient_no_server_can_be_given_fails_alone_and_with_its_reason(
    drained: Drained, name: str, one_by_one: int
) -> None:
    assert drained.taken(f"<{name.replace(' ', '-')}.{one_by_one}@x>") == [(GOOD,)]
    failed = drained.fates.line(drained.filebases[f"to: {name} {one_by_one}"], "failed")
    assert failed["reply"].startswith(ADDRESSES[name][1])


def test_odd_recipient_goes_out_as_mailman_would_write_it(drained: Drained) -> None:
    found = {address: drained.taken(f"<odd.{number}@x>") for number, address in enumerate(SENT_AS)}
    assert found == {address: [(sent,)] for address, sent in SENT_AS.items()}


@pytest.mark.parametrize("one_by_one", [0, 1])
@pytest.mark.parametrize("number", range(len(SENDERS)), ids=SENDERS)
def test_reverse_path_that_would_end_the_command_holds_the_entry(
    drained: Drained, number: int, one_by_one: int
) -> None:
    assert drained.taken(f"<from.{number}.{one_by_one}@x>") == []
    filebase = drained.filebases[f"from: {number} {one_by_one}"]
    assert drained.fates.line(filebase, "held")["reason"] in ("composer_failed", "unsafe_address", "needs_smtputf8")
    assert drained.fates.where[filebase] == ["drainer/held"]


def test_parameter_behind_the_reverse_path_goes_as_with_mailman(drained: Drained) -> None:
    (taken,) = (taken for taken in drained.sink.taken if taken.message_id == "<parameter@x>")
    assert taken.reverse_path == "x@example.org"


def test_no_command_is_injected(drained: Drained) -> None:
    assert set(drained.sink.commands) <= {"EHLO", "MAIL", "RCPT", "DATA", "RSET", "QUIT"}
    assert not [taken for taken in drained.sink.taken if "victim" in taken.reverse_path + "".join(taken.recipients)]
    assert {parameter.partition("=")[0] for taken in drained.sink.taken for parameter in taken.parameters} == {"SIZE"}


@pytest.mark.parametrize("number", range(len(BODIES)), ids=BODIES)
def test_body_arrives_whole_and_ends_no_mail_early(drained: Drained, number: int) -> None:
    (content,) = (taken.content for taken in drained.sink.taken if taken.message_id == f"<body.{number}@x>")
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", content), "a server that takes either for a line end sees another mail"
    body = list(BODIES.values())[number].encode("latin-1")
    assert re.sub(rb"\r\n|\r|\n", b"\r\n", body).rstrip(b"\r\n") in content


def test_header_line_of_a_megabyte_is_sent(drained: Drained) -> None:
    assert drained.taken("<header@x>") == [(GOOD,)]


def test_mail_larger_than_the_server_takes_is_held_unsent_with_both_sizes(drained: Drained) -> None:
    filebase = drained.filebases["too large"]
    assert drained.taken("<large@x>") == [] and drained.fates.where[filebase] == ["drainer/held"]
    (held,) = [fields for fields in drained.fates.said[filebase] if fields.get("outcome") == "held"]
    assert held["reason"] == "too_large_for_mta" and "the MTA takes 3000000" in held["detail"]


def test_name_of_a_list_leads_to_no_other_directory(drained: Drained) -> None:
    assert drained.fates.line(drained.filebases["no such list"], "held")["reason"] == "no_such_list"


def test_log_is_lines_of_ours_only(drained: Drained) -> None:
    lines = drained.site.log.read_text().splitlines()
    assert not [line for line in lines if not re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+ [A-Z]+ ", line)]
    assert not [line for line in lines if "Traceback" in line or "internal_error" in line]
