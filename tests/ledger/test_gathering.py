"""Whether a group waits for those who are about to write: by what earlier waits brought."""

from __future__ import annotations

import pytest

from drainer.ledger.gathering import AT_MOST_S, LOOK_EVERY_S, Gathering

COMMIT_S = 8 * LOOK_EVERY_S


def looks(gathering: Gathering, queued: int, now_s: float = 0.0) -> int:
    """How often an idle loop looks until the group begins, though nobody comes."""
    count = 1
    while gathering.goes_on(queued, now_s + count * LOOK_EVERY_S):
        count += 1
    return count


@pytest.mark.parametrize("commits", [1, 50])
def test_who_writes_alone_never_waits(commits: int) -> None:
    gathering = Gathering()
    assert not any(gathering.waits(1, 0, COMMIT_S, float(number)) for number in range(commits))


def test_group_begins_as_soon_as_most_of_those_who_write_now_are_there() -> None:
    gathering = Gathering()
    assert gathering.waits(16, 4, COMMIT_S, 0.0)
    assert next(number for number in range(5, 21) if gathering.is_complete(number)) == 15
    assert not gathering.waits(5, 15, COMMIT_S, 1.0), "they are there already"


def test_few_in_one_commit_are_not_taken_for_all_who_write() -> None:
    gathering = Gathering()
    gathering.waits(20, 0, COMMIT_S, 0.0)
    assert gathering.waits(2, 3, COMMIT_S, 1.0) and not gathering.is_complete(10)


def test_idle_wait_ends_with_the_length_of_a_commit() -> None:
    gathering = Gathering()
    gathering.waits(16, 4, COMMIT_S, 0.0)
    assert looks(gathering, 4) == pytest.approx(COMMIT_S / LOOK_EVERY_S, abs=1)


def test_looks_of_a_busy_loop_and_those_at_which_more_are_queued_do_not_count_as_idle() -> None:
    gathering = Gathering()
    gathering.waits(20, 0, COMMIT_S, 0.0)
    late_s = 4 * LOOK_EVERY_S
    assert all(gathering.goes_on(0, number * late_s) for number in range(1, int(AT_MOST_S / late_s)))
    gathering.waits(20, 0, COMMIT_S, 0.0)
    assert all(gathering.goes_on(number, number * LOOK_EVERY_S) for number in range(1, 14))


def test_no_wait_is_longer_than_an_operator_would_notice() -> None:
    gathering = Gathering()
    gathering.waits(20, 0, 100 * AT_MOST_S, 0.0)
    assert not gathering.goes_on(1, AT_MOST_S)


def test_waits_that_bring_nobody_become_rare_and_a_trial_is_made_now_and_then() -> None:
    """As behind a slow MTA. 2,000 commits."""
    gathering, waited = Gathering(), []
    for number in range(2_000):
        now_s = float(number)
        if gathering.waits(10, 10, COMMIT_S, now_s):
            waited.append(looks(gathering, 10, now_s))
    assert 0 < len(waited) < 200
    assert max(waited[10:]) <= COMMIT_S / LOOK_EVERY_S / 4


def test_waits_that_bring_the_others_at_once_go_on() -> None:
    gathering = Gathering()
    for number in range(100):
        now_s = float(number)
        assert gathering.waits(15, 5, COMMIT_S, now_s)
        assert gathering.goes_on(5, now_s + LOOK_EVERY_S)
        assert gathering.is_complete(15)


def test_disk_that_commits_at_once_is_not_waited_for() -> None:
    assert not Gathering().waits(20, 0, LOOK_EVERY_S / 10, 0.0)
