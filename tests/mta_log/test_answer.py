"""What Postfix's log proves about one transaction, and what it does not."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import random
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drainer.errors import MtaLogUnreadable
from drainer.mta_log.answer import Answer, MtaEvidence
from drainer.mta_log.file import read_mta_log
from drainer.mta_log.lines import log_lines, parse_line

AT = datetime(2026, 3, 5, 12, 0, 0, tzinfo=UTC).timestamp()
YES, NO, CANNOT_SAY = Answer.YES, Answer.NO, Answer.CANNOT_SAY
ANN, BOB, EVE = "ann@example.org", "bob@example.org", "eve@example.net"


def line(after_s: float, service: str, text: str, *, traditional: bool = False) -> str:
    moment = datetime.fromtimestamp(AT + after_s, UTC)
    stamp = f"{moment:%b} {moment.day:2d} {moment:%H:%M:%S}" if traditional else moment.isoformat()
    return f"{stamp} mail postfix/{service}[4711]: {text}\n"


BEFORE = (
    line(-61, "cleanup", "4ABCD9: message-id=<nine@example.org>")
    + line(-60, "qmgr", "4ABCD9: from=<eve@example.net>, size=1044, nrcpt=1 (queue active)")
)  # fmt: skip
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


def answers(lines: list[str], *recipients: str, reverse_path: str | None = "list-bounces@example.org") -> set[Answer]:
    return set(fed(lines).answers("<one@example.org>", reverse_path, recipients, AT).values())


def fed(lines: list[str]) -> MtaEvidence:
    evidence = MtaEvidence()
    evidence.feed(log_lines("".join(lines).encode("utf-8", "surrogateescape").splitlines(keepends=True), AT + 86_400))
    return evidence


def test_recipients_shown_were_accepted() -> None:
    assert answers([BEFORE, *mail("4ABCD1", 2, ANN, BOB), AFTER], ANN, BOB) == {YES}


@pytest.mark.parametrize("message_id", ["<" + "x" * 70_000 + "@example.org>", "<caf\xe9@example.org>"])
def test_message_id_that_no_log_has_whole_proves_nothing_by_not_being_found(message_id: str) -> None:
    """Else the mail would be sent again that the MTA has under what was left of it."""
    evidence = fed([BEFORE, AFTER])
    assert set(evidence.answers(message_id, "list-bounces@example.org", [ANN], AT).values()) == {CANNOT_SAY}
    assert "Message-ID" in evidence.why_silent(message_id, AT)


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


def test_content_that_reached_cleanup_but_not_the_queue_manager_stays_unknown() -> None:
    assert answers([BEFORE, line(1, "cleanup", "4ABCD1: message-id=<one@example.org>"), AFTER], ANN) == {CANNOT_SAY}


def test_other_chunk_with_the_same_reverse_path_differs_by_its_recipients() -> None:
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


def test_mail_that_shows_no_recipient_yet_may_be_this_one() -> None:
    assert answers([BEFORE, *mail("4ABCD1", 2), AFTER], ANN, BOB) == {CANNOT_SAY}


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
    assert (parsed.at_s, parsed.program, parsed.pid, parsed.text) == (AT, "postfix/qmgr", "4711", "4ABCD1: removed")
    january = datetime(2026, 1, 1, 0, 5, tzinfo=UTC).timestamp()
    before = parse_line("Dec 31 23:59:00 mail postfix/qmgr[1]: x", january)
    assert before is not None
    assert before.at_s == datetime(2025, 12, 31, 23, 59, tzinfo=UTC).timestamp()


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
    answers = evidence.answers("<one@example.org>", "list-bounces@example.org", (ANN,), AT)
    assert answers == {ANN: YES}


def test_rotated_log_that_cannot_be_read_leaves_a_gap(tmp_path: Path) -> None:
    log = tmp_path / "mail.log"
    log.write_text(BEFORE + AFTER)
    (tmp_path / "mail.log.1.gz").write_bytes(b"\x1f\x8b broken")
    evidence = read_mta_log(log, AT, AT + 200, zone=UTC)
    assert evidence.answers("<one@example.org>", "b@x", (ANN,), AT) == {ANN: CANNOT_SAY}
    assert "mail.log.1.gz cannot be read: damaged" in evidence.why_silent("<one@example.org>", AT)


@pytest.mark.parametrize("ending", ["", ".1", ".2.gz", "-20260305", "-20260305.xz", ".3.bz2", "-20260305-1.zst"])
def test_every_name_logrotate_gives_is_found_and_read(tmp_path: Path, ending: str) -> None:
    text = "".join([BEFORE, *mail("4ABCD1", 1, ANN)]).encode()
    packers: dict[str, Callable[[bytes], bytes]] = {
        ".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress, ".zst": zstd,
    }  # fmt: skip
    file = tmp_path / f"mail.log{ending}"
    file.write_bytes(packers.get(file.suffix, bytes)(text))
    log = tmp_path / "mail.log"
    with log.open("a") as appended:
        appended.write(AFTER)
    answers = read_mta_log(log, AT, AT + 200, zone=UTC).answers(
        "<one@example.org>", "list-bounces@example.org", (ANN,), AT
    )
    assert answers == {ANN: YES}


def zstd(octets: bytes) -> bytes:
    return subprocess.run(["zstd", "-q"], input=octets, capture_output=True, check=True).stdout


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([], "no line of Postfix's or Exim's"),
        ([line(-60, "anvil", "x"), AFTER], "shows no mail being accepted"),
        ([BEFORE], "postfix ends in it at 2026-03-05 11:59:00 UTC, too early"),
        ([*mail("4ABCD9", 1, EVE, after_s=3), AFTER], "postfix begins in it at 2026-03-05 12:00:03 UTC, after"),
        ([BEFORE.replace("11:5", "11:3"), AFTER], "postfix has no line in it from 2026-03-05 11:39:00 UTC to"),
        ([BEFORE, line(2000, "anvil", "x")], "postfix has no line in it from 2026-03-05 11:59:00 UTC to"),
        ([BEFORE, line(40, "master", "daemon started -- version 3.7"), AFTER], "started again without having been stopped"),
        ([BEFORE, BEFORE.replace("postfix/", "postfix-in/"), AFTER], "postfix-in ends in it"),
    ],
    ids=["empty", "nobody_accepts", "ends", "begins", "silent_before", "silent_after", "crashed", "other_instance"],
)  # fmt: skip
def test_why_silence_proves_nothing_is_said(lines: list[str], why: str) -> None:
    assert why in fed(lines).why_silent("<one@example.org>", AT)
    assert answers(lines, ANN) == {CANNOT_SAY}


def test_stop_in_order_before_a_start_loses_nothing() -> None:
    stop = [line(35, "master", "terminating on signal 15"), line(40, "master", "daemon started -- version 3.7")]
    assert answers([BEFORE, *stop, AFTER], ANN) == {NO}


def test_warnings_alone_are_no_life() -> None:
    """A file for mail.warn gets these and nothing else."""
    warning = line(120, "smtpd", "warning: hostname x does not resolve to address 192.0.2.1")
    assert answers([BEFORE, warning], ANN) == {CANNOT_SAY}


def test_same_queue_id_in_two_instances_is_two_mails() -> None:
    other = [text.replace("postfix/", "postfix-in/").replace("one@", "two@") for text in mail("4ABCD1", 1, EVE)]
    mixed = [text for pair in zip(mail("4ABCD1", 1, BOB), other, strict=True) for text in pair]
    around = [BEFORE, BEFORE.replace("postfix/", "postfix-in/")], [AFTER, AFTER.replace("postfix/", "postfix-in/")]
    assert answers([*around[0], *mixed, *around[1]], ANN) == {NO}
    assert answers([*around[0], *mixed, *around[1]], BOB) == {YES}


def test_long_queue_ids_are_read() -> None:
    assert answers([BEFORE, *mail("4XyZ9k0sLPz5Tn8", 1, ANN), AFTER], ANN) == {YES}


def test_line_torn_at_the_end_of_the_file_is_left_alone() -> None:
    torn = mail("4ABCD1", 2, ANN)
    torn[-1] = torn[-1][:60]
    assert answers([BEFORE, *torn], ANN) == {CANNOT_SAY}
    assert answers([BEFORE, AFTER.rstrip("\n")], ANN) == {CANNOT_SAY}


def test_binary_garbage_between_the_lines_does_no_harm() -> None:
    garbage = "\0" * 200 + "\udcff\udc80 {__CURSOR= \n"
    assert answers([BEFORE, garbage, *mail("4ABCD1", 1, ANN), garbage, AFTER], ANN) == {YES}
    assert answers([BEFORE, garbage, AFTER], ANN) == {NO}


@pytest.mark.parametrize(
    ("text", "at_s"),
    [
        ("2026-03-05T13:00:00.5+01:00 h postfix/qmgr[1]: x", AT + 0.5),
        ("2026-03-05T12:00:00Z h postfix/qmgr[1]: x", AT),
        ("2026-03-05T12:00:00+0000 h postfix/qmgr[1]: x", AT),
        ("Thu 2026-03-05 12:00:00 UTC h postfix/qmgr[1]: x", AT),
        ("Thu 2026-03-05 13:00:00 CET h postfix/qmgr[1]: x", AT),
        ("Mar  5 13:00:00 h postfix/qmgr[1]: x", AT),
        ("2026-03-05 13:00:00 1abcde-000001-AB Completed", AT),
        ("2026-03-05 12:00:00.250 +0000 [7] 1abcde-000001-AB Completed", AT + 0.25),
        ("2026-03-05 07:00:00 -0500 1abcde-000001-AB Completed", AT),
    ],
    ids=["rfc3339", "zulu", "short_iso", "short_full", "short_full_local", "rfc3164", "exim", "exim_millisec", "exim_zone"],
)  # fmt: skip
def test_clocks_of_every_kind_tell_the_same_moment(text: str, at_s: float) -> None:
    parsed = parse_line(text, AT, timezone(timedelta(hours=1)))
    assert parsed is not None and parsed.at_s == at_s


TOKENS = st.sampled_from(
    """
    Mar 5 12:00:00 2026-03-05T12:00:00Z h postfix/qmgr[1]: postfix/cleanup[2]: exim[3]: 4ABCD1: 1abcde-000001-AB <= => == **
    from=<a@x>, size=1, nrcpt=1 nrcpt=99999999999999 (queue active) to=<b@x>, relay=, status=sent message-id=<1@x> id=1@x for
    removed Completed __CURSOR=x __REALTIME_TIMESTAMP=1 MESSAGE={ MESSAGE {"MESSAGE":[1],"__REALTIME_TIMESTAMP":"1"}
    """.split()
) | st.text(max_size=5)  # fmt: skip


@given(
    st.lists(
        st.binary(max_size=40)
        | st.lists(TOKENS, max_size=12).map(lambda parts: " ".join(parts).encode("utf-8", "replace")),
        max_size=20,
    )
)
def test_any_octets_are_lines_or_passed_over(pieces: list[bytes]) -> None:
    evidence = MtaEvidence()
    evidence.feed(log_lines([piece + b"\n" for piece in pieces], AT))
    assert set(evidence.answers("<1@x>", "a@x", ("b@x",), AT)) == {"b@x"}


def test_log_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(MtaLogUnreadable, match=r"mail\.log cannot be read: No such file"):
        read_mta_log(tmp_path / "mail.log", AT, AT)


@pytest.mark.parametrize(
    ("ending", "packer", "shown"),
    [("gz", gzip.compress, YES), ("xz", lzma.compress, YES), ("bz2", bz2.compress, CANNOT_SAY)],
    ids=["gz", "xz", "bz2"],
)
def test_packed_log_that_ends_in_the_middle_leaves_a_gap_and_keeps_what_it_shows(
    tmp_path: Path, ending: str, packer: Callable[[bytes], bytes], shown: Answer
) -> None:
    """As on a disk that filled up while logrotate packed it. Of bzip2, a block of 900 kB that is not whole shows nothing."""
    octets = random.Random(2014)
    noise = "".join(line(-50, "smtpd", f"connect from {octets.randbytes(400).hex()}") for _ in range(300))
    packed = packer("".join([BEFORE, *mail("4ABCD1", 1, ANN), noise]).encode())
    (tmp_path / f"mail.log.1.{ending}").write_bytes(packed[: len(packed) * 3 // 4])
    log = tmp_path / "mail.log"
    log.write_text(BEFORE + AFTER)
    evidence = read_mta_log(log, AT, AT + 200, zone=UTC)
    answers = evidence.answers("<one@example.org>", "list-bounces@example.org", (BOB,), AT)
    assert answers == {BOB: CANNOT_SAY}
    assert f"mail.log.1.{ending} cannot be read: damaged" in evidence.why_silent("<one@example.org>", AT)
    assert evidence.answers("<one@example.org>", "list-bounces@example.org", (ANN,), AT) == {ANN: shown}


def test_log_over_new_year_is_read_in_the_right_year(tmp_path: Path) -> None:
    """Stamps without a year: December lies behind January, in a file rotated in between and in one that was not."""
    at_s = datetime(2025, 12, 31, 23, 59, 50, tzinfo=UTC).timestamp()

    def stamped(text: str, after_s: float) -> str:
        moment = datetime.fromtimestamp(at_s + after_s, UTC)
        return f"{moment:%b} {moment.day:2d} {moment:%H:%M:%S} mail {text.partition(' mail ')[2]}"

    before = "".join(stamped(text, -60) for text in BEFORE.splitlines(keepends=True))
    taken = "".join(stamped(text, 20) for text in mail("4ABCD1", 1, ANN))
    after = stamped(AFTER, 120)
    for old, new in ((before, taken + after), (before + taken, after), ("", before + taken + after)):
        (tmp_path / "mail.log.1").write_text(old)
        (tmp_path / "mail.log").write_text(new)
        evidence = read_mta_log(tmp_path / "mail.log", at_s, at_s + 300, zone=UTC)
        answers = evidence.answers("<one@example.org>", "list-bounces@example.org", (ANN, BOB), at_s)
        assert answers == {ANN: YES, BOB: CANNOT_SAY}
        assert evidence.answers("<two@example.org>", "list-bounces@example.org", (ANN,), at_s) == {ANN: NO}


def test_hosts_that_share_a_log_are_distinguished() -> None:
    """A log host's: queue ids of two hosts are two mails, and each host has to have written at that moment."""
    other = [text.replace(" mail postfix", " mx2 postfix").replace("one@", "two@") for text in mail("4ABCD1", 1, EVE)]
    mixed = [text for pair in zip(mail("4ABCD1", 1, BOB), other, strict=True) for text in pair]
    around = [part.replace(" mail postfix", " mx2 postfix") for part in (BEFORE, AFTER)]
    assert answers([BEFORE, around[0], *mixed, around[1], AFTER], BOB) == {YES}
    assert answers([BEFORE, around[0], *mixed, around[1], AFTER], ANN) == {NO}
    lines = [BEFORE, around[0], *mixed, around[1]]
    assert answers(lines, ANN) == {CANNOT_SAY}
    assert "postfix@mail ends in it" in fed(lines).why_silent("<one@example.org>", AT)


def test_log_still_being_written_says_no_only_once_it_has_gone_on(tmp_path: Path) -> None:
    log = tmp_path / "mail.log"
    for written, answer in ((BEFORE, CANNOT_SAY), (line(5, "anvil", "x"), CANNOT_SAY), (AFTER[:-9], CANNOT_SAY),
                          (AFTER[-9:], NO)):  # fmt: skip
        with log.open("a") as file:
            file.write(written)
        evidence = read_mta_log(log, AT, AT + 200, zone=UTC)
        assert evidence.answers("<one@example.org>", "b@x", (ANN,), AT) == {ANN: answer}, written


def test_log_its_reader_may_not_open_is_named_with_the_reason(tmp_path: Path) -> None:
    log = tmp_path / "mail.log"
    log.write_text(BEFORE + AFTER)
    log.chmod(0)
    if os.geteuid() == 0:  # root may read in spite of the mode
        log.unlink()
        log.mkdir()
    with pytest.raises(MtaLogUnreadable, match=r"mail\.log cannot be read: (Permission denied|it is a directory)"):
        read_mta_log(log, AT, AT)
