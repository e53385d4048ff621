"""The same questions, put to logs that genuine MTAs and a genuine journald wrote (tests/samples/mta_logs)."""

from __future__ import annotations

import gzip
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from drainer.mta_log.answer import Answer, MtaEvidence
from drainer.mta_log.file import file_lines
from drainer.mta_log.lines import LogLine, log_lines

SAMPLES = Path(__file__).parents[1] / "samples" / "mta_logs"
BOUNCES = "choir-bounces@lists.test"
ONE = "<one@example.test>"
A, B, C = "a@relay.test", "b@relay.test", "c@local.test"
FIRST, SECOND = (A, B, C), ("d@fails.test", "f@alias.test", "A.Upper@Relay.TEST")
YES, NO, CANNOT_SAY = Answer.YES, Answer.NO, Answer.CANNOT_SAY
LATEST_S = datetime(2026, 12, 1, tzinfo=UTC).timestamp()
EXIM = ["exim-plain.log", "exim-recipients.log", "exim-all.log"]
FORMS = ["export", "json", "short", "short-precise", "short-iso", "short-iso-precise", "short-full", "short-unix"]


def lines_of(name: str) -> list[LogLine]:
    return list(file_lines(SAMPLES / name, LATEST_S, UTC))


class Log:
    """A sample that begins earlier and goes on longer: the MTA was at work before, and has more to do."""

    def __init__(self, lines: list[LogLine]) -> None:
        taken = [line for line in lines if " <= " in line.text or "(queue active)" in line.text]
        self.at_s = taken[0].at_s
        around = [replace(taken[0], at_s=self.at_s + after_s, text="about something else") for after_s in (-60, 100)]
        self.evidence = MtaEvidence()
        self.evidence.feed([around[0], *(line for line in lines if "daemon started" not in line.text), around[1]])

    def answers(
        self, message_id: str, *recipients: str, reverse_path: str | None = BOUNCES, after_s: float = 0.0
    ) -> set[Answer]:
        answers = self.evidence.answers(message_id, reverse_path, recipients, self.at_s + after_s)
        return set(answers.values())


@pytest.mark.parametrize("name", ["postfix.log", *EXIM])
def test_every_recipient_the_mta_accepted_is_found(name: str) -> None:
    log = Log(lines_of(name))
    assert log.answers(ONE, *FIRST) == {YES}
    assert log.answers(ONE, *SECOND) == {YES}
    assert log.answers(
        "<forty@example.test>", *(f"long{number:03d}.local.part@relay.test" for number in range(40))
    ) == {YES}
    assert log.answers("<part@example.test>", "x@relay.test") == {YES}


@pytest.mark.parametrize("name", ["postfix.log", *EXIM])
def test_verp_copies_of_one_message_differ_by_the_reverse_path(name: str) -> None:
    log = Log(lines_of(name))
    for address in (A, B):
        own, other = (
            f"choir-bounces+{local[0]}=relay.test@lists.test" for local in ((A, B) if address == A else (B, A))
        )
        assert log.answers("<verp@example.test>", address, reverse_path=own) == {YES}
        assert log.answers("<verp@example.test>", address, reverse_path=other) <= {NO, CANNOT_SAY}
    third = "choir-bounces+e=relay.test@lists.test"
    assert log.answers("<verp@example.test>", "e@relay.test", reverse_path=third) == {NO}


@pytest.mark.parametrize("name", ["postfix.log", "exim-recipients.log", "exim-all.log"])
def test_what_it_never_accepted_is_a_no(name: str) -> None:
    log = Log(lines_of(name))
    assert log.answers("<never@example.test>", "z@relay.test") == {NO}
    assert log.answers(ONE, "z@relay.test") == {NO}


def test_exim_mail_without_a_message_id_in_the_log_may_be_ours() -> None:
    log = Log(lines_of("exim-plain.log"))
    assert log.answers("<never@example.test>", A) == {CANNOT_SAY}
    assert log.answers("<no at sign and spaces>", A) == {CANNOT_SAY}
    assert log.answers("<never@example.test>", "z@relay.test") == {NO}, "those mails show all their recipients"


def test_exim_log_without_message_ids_proves_nothing() -> None:
    log = Log(lines_of("exim-least.log"))
    assert log.answers(ONE, *FIRST) == {CANNOT_SAY}
    assert log.answers("<never@example.test>", A) == {CANNOT_SAY}


@pytest.mark.parametrize("name", EXIM)
def test_exim_throws_away_the_mail_of_a_client_that_hung_up_after_the_final_dot(name: str) -> None:
    assert Log(lines_of(name)).answers("<hung@example.test>", "hung@relay.test") == {NO}


def test_subject_that_looks_like_an_arrival_is_none() -> None:
    log = Log(lines_of("exim-all.log"))
    assert log.answers("<part@example.test>", B) == {NO}
    assert log.answers("<never@example.test>", "x@relay.test") == {NO}


def test_postfix_keeps_what_hung_up_after_the_final_dot_and_drops_what_broke_off_in_the_content() -> None:
    lines = lines_of("postfix.log")
    assert Log(lines).answers("<hung@example.test>", "hung@relay.test") == {YES}
    taken = next(line.text.split(":")[0] for line in lines if "to=<hung@relay.test>" in line.text)
    broken = [line for line in lines if not line.text.startswith(taken)]
    assert any("lost connection after DATA" in line.text for line in broken)
    assert any("message-id=<hung@example.test>" in line.text for line in broken)
    assert Log(broken).answers("<hung@example.test>", "hung@relay.test") == {NO}


@pytest.mark.parametrize("form", FORMS)
def test_what_journalctl_prints_is_read_alike_in_every_form(form: str) -> None:
    lines = lines_of(f"journal.{form}.gz")
    for line, wanted in zip(lines, lines_of("journal.export.gz"), strict=True):
        assert (line.program, line.pid, line.text.split()) == (wanted.program, wanted.pid, wanted.text.split())
        assert abs(line.at_s - wanted.at_s) <= 1.0
    for program in ("postfix-out", "exim"):
        log = Log([line for line in lines if line.program.partition("/")[0] == program])
        assert log.answers(ONE, *FIRST) == log.answers(ONE, *SECOND) == {YES}
        assert log.answers("<never@example.test>", "z@relay.test") == {NO}


def test_exim_message_ids_of_23_characters_are_read_as_well() -> None:
    """As 4.97 and later write them; made of the shorter ones here."""
    text = (SAMPLES / "exim-all.log").read_text()
    longer = re.sub(r" ([0-9A-Za-z]{6})-([0-9A-Za-z]{6})-([0-9A-Za-z]{2}) ", r" \1-00000\2-00\3 ", text)
    assert longer != text
    log = Log(list(log_lines(longer.encode().splitlines(keepends=True), LATEST_S)))
    assert log.answers(ONE, *FIRST) == log.answers(ONE, *SECOND) == {YES}
    assert log.answers(ONE, "z@relay.test") == {NO}


def test_binary_field_of_a_journal_export_is_passed_with_its_lines() -> None:
    octets = gzip.decompress((SAMPLES / "journal.export.gz").read_bytes())
    raw = b"two\nlines=\n\n"
    strange = octets.replace(b"_TRANSPORT=syslog\n", b"RAW\n" + len(raw).to_bytes(8, "little") + raw + b"\n")
    assert strange != octets
    assert list(log_lines(strange.splitlines(keepends=True), LATEST_S)) == lines_of("journal.export.gz")
