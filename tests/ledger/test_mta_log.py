"""What Postfix's log proves about one transaction, and what it does not."""

from __future__ import annotations

import gzip
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drainer.ledger.mta_log import Answer, MtaEvidence, parse_line
from drainer.ledger.mta_log_file import read_mta_log

AT = datetime(2026, 3, 5, 12, 0, 0, tzinfo=UTC).timestamp()
YES, NO, CANNOT_SAY = Answer.YES, Answer.NO, Answer.CANNOT_SAY
ANN, BOB, EVE = "ann@example.org", "bob@example.org", "eve@example.net"


def line(after_s: float, service: str, text: str, *, traditional: bool = False) -> str:
    moment = datetime.fromtimestamp(AT + after_s, UTC)
    stamp = f"{moment:%b} {moment.day:2d} {moment:%H:%M:%S}" if traditional else moment.isoformat()
    return f"{stamp} mail postfix/{service}[4711]: {text}\n"


BEFORE = line(-60, "postfix-script", "starting the Postfix mail system")
AFTER = line(120, "anvil", "statistics: max connection rate 1/60s for (smtp:127.0.0.1)")


def mail(
    queue_id: str, recipients: int, *shown: str, reverse_path: str = "list-bounces@example.org", after_s: float = 1
) -> list[str]:
    return [
        line(after_s, "smtpd", f"{queue_id}: client=localhost[127.0.0.1]"),
        line(after_s, "cleanup", f"{queue_id}: message-id=<one@example.org>"),
        line(after_s, "qmgr", f"{queue_id}: from=<{reverse_path}>, size=1044, nrcpt={recipients} (queue active)"),
        *(
            line(
                after_s + 1,
                "smtp",
                f"{queue_id}: to=<{to}>, relay=mx[192.0.2.1]:25, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (250 ok)",
            )
            for to in shown
        ),
    ]


def answers(
    lines: list[str], *recipients: str, reverse_path: str | None = "list-bounces@example.org", **known: bool
) -> set[Answer]:
    evidence = MtaEvidence(AT + 86_400)
    evidence.feed(lines)
    return set(evidence.answers("<one@example.org>", reverse_path, recipients, AT, **known).values())


def test_recipients_shown_were_accepted() -> None:
    assert answers([BEFORE, *mail("4ABCD1", 2, ANN, BOB), AFTER], ANN, BOB) == {YES}


def test_silent_log_that_covers_the_moment_says_no() -> None:
    assert answers([BEFORE, AFTER], ANN) == {NO}


@pytest.mark.parametrize(
    "lines",
    [[], [BEFORE], [AFTER], [line(3, "anvil", "x"), AFTER], [BEFORE, line(10, "anvil", "x")]],
    ids=["empty", "ends_before", "begins_after", "begins_too_late", "ends_too_soon"],
)
def test_log_that_does_not_cover_the_moment_cannot_say(lines: list[str]) -> None:
    assert answers(lines, ANN) == {CANNOT_SAY}


def test_logger_that_dropped_lines_cannot_say() -> None:
    dropped = "2026-03-05T12:00:20+00:00 mail rsyslogd[9]: imuxsock: 123 messages lost due to rate-limiting\n"
    assert answers([BEFORE, dropped, AFTER], ANN) == {CANNOT_SAY}


def test_content_that_reached_cleanup_but_not_the_queue_manager_cannot_be_told() -> None:
    assert answers([BEFORE, line(1, "cleanup", "4ABCD1: message-id=<one@example.org>"), AFTER], ANN) == {CANNOT_SAY}


def test_other_chunk_with_the_same_reverse_path_is_told_apart_by_its_recipients() -> None:
    other = mail("4ABCD1", 2, BOB, EVE)
    assert answers([BEFORE, *other, AFTER], ANN) == {NO}
    assert answers([BEFORE, *other, *mail("4ABCD2", 1, ANN), AFTER], ANN) == {YES}


def test_other_chunk_not_shown_in_full_may_be_this_one() -> None:
    assert answers([BEFORE, *mail("4ABCD1", 2, BOB), AFTER], ANN) == {CANNOT_SAY}


def test_alias_does_not_make_a_mail_look_complete() -> None:
    alias = (
        f"4ABCD1: to=<real@inside>, orig_to=<{BOB}>, relay=local, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (ok)"
    )
    lines = [BEFORE, *mail("4ABCD1", 2), line(2, "local", alias), AFTER]
    assert answers(lines, ANN) == {CANNOT_SAY}
    assert answers(lines, BOB) == {YES}


def test_mail_that_shows_nobody_is_told_by_number_only_if_there_was_no_other_transaction() -> None:
    lines = [BEFORE, *mail("4ABCD1", 2), AFTER]
    assert answers(lines, ANN, BOB) == {CANNOT_SAY}
    assert answers(lines, ANN, BOB, is_only_transaction=True) == {YES}
    assert answers(lines, ANN, BOB, EVE, is_only_transaction=True) == {CANNOT_SAY}


def test_recipients_not_shown_yet_share_the_fate_of_those_shown() -> None:
    assert answers([BEFORE, *mail("4ABCD1", 2, ANN), AFTER], ANN, BOB) == {YES}
    assert answers([BEFORE, *mail("4ABCD1", 5, ANN), AFTER], ANN, BOB) == {YES, CANNOT_SAY}


def test_other_reverse_path_is_another_transaction_under_verp() -> None:
    lines = [BEFORE, *mail("4ABCD1", 1, reverse_path="list-bounces+bob=example.org@example.org"), AFTER]
    assert answers(lines, ANN, reverse_path="list-bounces+ann=example.org@example.org") == {NO}


def test_unknown_reverse_path_never_gives_a_no() -> None:
    assert answers([BEFORE, AFTER], ANN, reverse_path=None) == {CANNOT_SAY}
    assert answers([BEFORE, *mail("4ABCD1", 1, ANN), AFTER], ANN, reverse_path=None) == {YES}


def test_delivery_of_an_hour_before_is_not_this_attempt() -> None:
    assert answers([*mail("4ABCD1", 1, ANN, after_s=-3600), BEFORE, AFTER], ANN) == {NO}


def test_queue_id_used_again_does_not_mix_two_mails() -> None:
    foreign = [text.replace("one@", "two@") for text in mail("4ABCD1", 1, ANN, after_s=5)]
    assert answers([BEFORE, *mail("4ABCD1", 1, BOB), line(3, "qmgr", "4ABCD1: removed"), *foreign, AFTER], ANN) == {NO}


def test_traditional_stamps_get_the_latest_year_that_fits() -> None:
    parsed = parse_line(line(0, "qmgr", "4ABCD1: removed", traditional=True), AT + 5)
    assert parsed is not None
    assert (parsed.at_s, parsed.service, parsed.text) == (AT, "qmgr", "4ABCD1: removed")
    january = datetime(2026, 1, 1, 0, 5, tzinfo=UTC).timestamp()
    before = parse_line("Dec 31 23:59:00 mail postfix/qmgr[1]: x", january)
    assert before is not None
    assert before.at_s == datetime(2025, 12, 31, 23, 59, tzinfo=UTC).timestamp()


@given(st.text() | st.from_regex(r"[A-Z][a-z]{2} [ 0-9]{2} [0-9:]{8} h postfix/qmgr\[1\]: .*", fullmatch=True))
def test_any_text_is_a_line_or_none(text: str) -> None:
    evidence = MtaEvidence(AT)
    evidence.feed([text])
    assert (evidence.covers is None) == (parse_line(text, AT) is None)


def test_rotated_and_compressed_logs_are_read_and_old_ones_are_not(tmp_path: Path) -> None:
    log = tmp_path / "mail.log"
    log.write_text(AFTER)
    with gzip.open(tmp_path / "mail.log.1.gz", "wt") as file:
        file.writelines([BEFORE, *mail("4ABCD1", 1, ANN)])
    old = tmp_path / "mail.log.2"
    old.write_text("".join(mail("4ABCD2", 1, BOB)))
    for name, changed_s in (("mail.log", AT + 120), ("mail.log.1.gz", AT + 60), ("mail.log.2", AT - 86_400)):
        os.utime(tmp_path / name, (changed_s, changed_s))
    evidence = read_mta_log(log, AT, AT + 200, ["<one@example.org>"], UTC)
    assert evidence is not None
    assert evidence.covers == (AT - 60, AT + 120)
    told = evidence.answers("<one@example.org>", "list-bounces@example.org", (ANN,), AT)
    assert told == {ANN: YES}


def test_rotated_log_that_cannot_be_read_leaves_a_gap(tmp_path: Path) -> None:
    log = tmp_path / "mail.log"
    log.write_text(BEFORE + AFTER)
    (tmp_path / "mail.log.1.gz").write_bytes(b"\x1f\x8b broken")
    evidence = read_mta_log(log, AT, AT + 200, zone=UTC)
    assert evidence is not None
    assert evidence.answers("<one@example.org>", "b@x", (ANN,), AT) == {ANN: CANNOT_SAY}


def test_log_that_cannot_be_read_gives_no_evidence(tmp_path: Path) -> None:
    assert read_mta_log(tmp_path / "mail.log", AT, AT) is None
