"""Mailman's own log: what it proves about who was accepted, and what it does not."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drainer.mta_log.mailman_smtp_log import SmtpLog, delivery_times, ends_beside, in_order

LOGS = Path(__file__).parents[1] / "samples" / "mailman_logs"
EVERYTHING = 20_000

COMPLETED = "<1@x> smtp to choir for 3 recips, completed in 0.200 seconds"
SUCCESS = "post to choir from ann@x, size=900, message-id=<1@x>, success"
FAILURES = "post to choir from ann@x, size=900, message-id=<1@x>, 2 failures"
REFUSED = "<1@x> delivery to {} failed with code {}: no"


def line(text: str, second: int = 0, process: int = 812) -> str:
    return f"Mar 03 04:00:{second:02} 2026 ({process}) {text}\n"


def known(*lines: str) -> SmtpLog:
    log = SmtpLog(everything=True)
    log.feed(lines)
    return log


def test_genuine_log_of_an_mta_that_was_down_has_deliveries_and_nobody_accepted() -> None:
    times = delivery_times((LOGS / "mailman3-mta-down.log").read_text().splitlines(), EVERYTHING)
    assert (times.deliveries, times.failed, times.failing, times.unclear) == ((), 40, 40, 0)
    assert times.last_refusal == "444 [Errno 111] Connection refused"


def test_genuine_log_of_an_mta_that_refused_some_counts_as_many_as_the_mta_took() -> None:
    lines = (LOGS / "mailman3-partly-refused.log").read_text().splitlines()
    times = delivery_times(lines, EVERYTHING)
    assert sum(past.recipients for past in times.deliveries) == 193, "what the sink captured"
    assert (len(times.deliveries), times.failed, times.failing) == (39, 1, 0)
    assert all(told.names_all_refused for _, told in known(*lines).deliveries())


def test_log_that_ends_in_failures_says_since_when_the_mta_accepts_nobody() -> None:
    both = ["mailman3-partly-refused.log", "mailman3-mta-down.log"]
    lines = [text for name in both for text in (LOGS / name).read_text().splitlines()]
    times = delivery_times(lines, EVERYTHING)
    assert (len(times.deliveries), times.failing, times.failed) == (39, 40, 41)
    assert times.failing_since_s is not None and times.until_s is not None


def test_delivery_of_21_counts_as_its_post_log_says_and_not_without() -> None:
    smtp, post = [line(COMPLETED), line(COMPLETED.replace("<1@x>", "<2@x>"), 1)], [line(FAILURES)]
    times = delivery_times(in_order(smtp, post), EVERYTHING)
    assert [past.recipients for past in times.deliveries] == [1]
    assert times.unclear == 1
    alone = delivery_times(smtp, EVERYTHING)
    assert (alone.deliveries, alone.failed, alone.unclear) == ((), 0, 2)


def test_two_deliveries_of_one_second_keep_their_own_ends() -> None:
    smtp = [line(COMPLETED), line(COMPLETED.replace("<1@x>", "<2@x>"))]
    post = [line(FAILURES), line(SUCCESS.replace("<1@x>", "<2@x>"))]
    assert sorted(past.recipients for past in delivery_times(in_order(smtp, post), EVERYTHING).deliveries) == [1, 3]


def test_content_refused_for_good_by_the_mta_of_21_is_no_success() -> None:
    failure = line("SMTP session failure: 554, 5.6.0 bad content, msgid: <1@x>")
    for lines in ([failure, line(COMPLETED), line(SUCCESS)], [line(COMPLETED), line(SUCCESS), failure]):
        times = delivery_times(lines, EVERYTHING)
        assert (times.deliveries, times.failed) == ((), 1)
        assert known(*lines).delivery("<1@x>", "choir", 3, 0.0) is None
    for_now = [failure.replace("554", "451"), line(COMPLETED), line(FAILURES)]
    assert [past.recipients for past in delivery_times(for_now, EVERYTHING).deliveries] == [1]


@pytest.mark.parametrize(
    ("lines", "accepted"),
    [
        ([COMPLETED], None),
        ([COMPLETED, SUCCESS], 3),
        ([COMPLETED, FAILURES], 1),
        ([COMPLETED, REFUSED.format("bob@x", 550)], 2),
        ([COMPLETED, SUCCESS.replace("choir", "board")], None),
        ([COMPLETED, SUCCESS.replace("<1@x>", "<2@x>")], None),
        ([COMPLETED, SUCCESS.replace(", success", ", held")], None),
    ],
    ids=["no end", "success", "failures", "refused only", "other list", "other message", "other template"],
)
def test_only_a_told_end_says_how_many_were_accepted(lines: list[str], accepted: int | None) -> None:
    ((_, told),) = known(*map(line, lines)).deliveries()
    assert told.accepted == accepted


def test_end_of_another_delivery_is_not_taken_for_this_one() -> None:
    before, another_process = line(SUCCESS, 0), line(SUCCESS, 1, process=813)
    ((_, told),) = known(before, line(COMPLETED, 1), another_process).deliveries()
    assert told.accepted is None


def test_who_was_accepted_is_known_only_if_everybody_refused_is_named() -> None:
    some = known(line(COMPLETED), line(FAILURES), line(REFUSED.format("bob@x", 451)))
    assert some.delivery("<1@x>", "choir", 3, 0.0) is None
    whole = known(*map(line, [COMPLETED, FAILURES, REFUSED.format("bob@x", 451), REFUSED.format("eve@x", 550)]))
    told = whole.delivery("<1@x>", "choir", 3, 0.0)
    assert told is not None and {name: one.is_final for name, one in told.refusals.items()} == {
        "bob@x": False,
        "eve@x": True,
    }
    assert [one.recipient for one in whole.refused_last("<1@x>", "choir", 0.0)] == ["bob@x"]
    whole.feed(map(line, [COMPLETED.replace("3 recips", "1 recips"), SUCCESS], [9, 9]))
    assert whole.refused_last("<1@x>", "choir", 0.0) == [], "it was accepted later"


def test_recipient_refused_and_accepted_within_one_second_was_accepted_last() -> None:
    once = [COMPLETED, FAILURES, REFUSED.format("bob@x", 451)]
    again = [COMPLETED.replace("3 recips", "1 recips"), SUCCESS]
    assert known(*map(line, once + again)).refused_last("<1@x>", "choir", 0.0) == []
    assert [one.recipient for one in known(*map(line, again + once)).refused_last("<1@x>", "choir", 0.0)] == ["bob@x"]


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("smtp", ["post", "smtp-failure"]),
        ("smtp.1", ["post.1", "smtp-failure.1"]),
        ("smtp-20260303.gz", ["post-20260303.gz", "smtp-failure-20260303.gz"]),
        ("smtp.log", []),
        ("smtp.log.1", []),
        ("smtp-failure", []),
        ("post", []),
        ("mail.log", []),
    ],
)
def test_logs_of_21_that_belong_together_are_rotated_alike(name: str, ends: list[str]) -> None:
    assert [end.name for end in ends_beside(Path("/var/log/mailman") / name)] == ends


WORDS = """<1@x>|smtp to a@b for 3 recips, completed in |0.1|1.2.3| seconds|post to a@b from c, 3 bytes|, 2 failures|
delivery to d failed with code |550|, no|SMTP session failure: 554, x, msgid: <1@x>| """.replace("\n", "").split("|")


@given(st.lists(st.one_of(st.lists(st.sampled_from(WORDS)).map("".join), st.text(max_size=40)), max_size=12))
def test_any_lines_give_counts_within_what_was_tried(texts: list[str]) -> None:
    lines = [line(text, number % 60) for number, text in enumerate(texts)]
    for _, told in known(*lines, *texts).deliveries():
        assert told.accepted is None or 0 <= told.accepted <= told.recipients
    times = delivery_times(in_order(lines, lines), EVERYTHING)
    assert all(past.recipients > 0 and past.took_s >= 0 for past in times.deliveries)


def test_mailmans_log_tells_refusals_for_good_and_completed_deliveries_of_wanted_messages_only() -> None:
    told = SmtpLog()
    told.wanted.add("<one@example.org>")
    told.feed(
        [
            "Nov 22 07:00:00 2026 (77) <one@example.org> smtp to choir@example.org for 3 recips, completed in 0.1 seconds\n",
            "Nov 22 07:00:00 2026 (77) <one@example.org> post to choir@example.org from a@b.org, 9 bytes, 2 failures\n",
            "Nov 22 07:00:00 2026 (77) <one@example.org> delivery to ann@example.org failed with code 550, b'no'\n",
            "Nov 22 07:00:00 2026 (77) <one@example.org> delivery to bob@example.org failed with code 451, b'later'\n",
            "Nov 22 07:00:00 2026 (77) <two@example.org> delivery to eve@example.net failed with code 550, b'no'\n",
            "rubbish\n",
        ]
    )
    assert [refusal.recipient for refusal in told.refusals("<one@example.org>", 0.0)] == ["ann@example.org"]
    assert told.refusals("<two@example.org>", 0.0) == []
    assert told.delivery("<one@example.org>", "choir.example.org", 3, 0.0)
    assert not told.delivery("<one@example.org>", "choir.example.org", 2, 0.0)
    assert not told.delivery("<one@example.org>", "choir.example.org", 3, 4e9)
