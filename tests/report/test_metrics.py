"""Prometheus gets the figures of the snapshot, in a bounded number of series."""

from __future__ import annotations

import math

from drainer.estimate.eta import Eta
from drainer.guards.mailman import QueueCount
from drainer.report.metrics import LISTS_SHOWN, exposition
from drainer.report.snapshot import Backlog, CapUsed, ListBacklog, Mta, Rate, Snapshot, Stop
from tests.promtool import needs_promtool, promtool, series


def snapshot(**parts: object) -> Snapshot:
    given = {
        "version": "1.2",
        "at": 1_772_536_000.25,
        "pid": 7,
        "state": "draining",
        "since": 1_772_530_000.0,
        "eta": Eta(state="measuring"),
        "mta": Mta(host="127.0.0.1", port=25),
    }
    return Snapshot.model_validate({**given, **parts})


def lists(names: list[str]) -> list[ListBacklog]:
    return [
        ListBacklog(list=name, entries=place + 1, recipients=10 * place, oldest_age_s=float(place))
        for place, name in enumerate(names)
    ]


def test_lists_beyond_the_largest_are_added_up() -> None:
    many = lists([f"list{number}@example.org" for number in range(LISTS_SHOWN + 30)])
    found = series(exposition(snapshot(lists=many)))
    recipients = {key[1][0][1]: value for key, value in found.items() if key[0] == "drainer_list_backlog_recipients"}
    assert len(recipients) == LISTS_SHOWN + 1
    assert recipients["other"] == sum(10 * place for place in range(30))
    assert recipients[f"list{LISTS_SHOWN + 29}@example.org"] == 10 * (LISTS_SHOWN + 29)
    assert found["drainer_list_backlog_entries", (("list", "other"),)] == sum(range(1, 31))
    assert found["drainer_list_oldest_age_seconds", (("list", "other"),)] == 29


@needs_promtool
def test_names_that_read_the_same_or_are_no_text_stay_a_valid_page() -> None:
    names = ["a\udce9@example.org", "a\udcea@example.org", 'quo"te\n@example.org', "other"]
    many = lists([*names, *(f"list{number}@example.org" for number in range(LISTS_SHOWN + 5))])
    page = exposition(snapshot(lists=many, mailman={"queues": [QueueCount(name="sh\udcffunt", entries=3)]}))
    found = series(page)
    assert sum(value for key, value in found.items() if key[0] == "drainer_list_backlog_entries") == sum(
        one.entries for one in many
    )
    promtool("check", "metrics", given=page)


def test_what_nobody_can_know_yet_has_no_sample_and_no_limit_is_infinite() -> None:
    found = series(exposition(snapshot(rate=Rate(limit_recipients_per_s=0.5))))
    assert found["drainer_limit_messages_per_second", ()] == math.inf
    assert found["drainer_limit_recipients_per_second", ()] == 0.5
    names = {name for name, _ in found}
    assert not names & {
        "drainer_eta_seconds",
        "drainer_backlog_oldest_age_seconds",
        "drainer_service_messages_per_second",
    }


def test_caps_and_what_is_left_out_have_their_figures() -> None:
    caps = [
        CapUsed(name="hourly", limit=300, used=300, next_at=1_772_536_900.0),
        CapUsed(name="daily", limit=5000, used=7),
    ]
    found = series(exposition(snapshot(rate=Rate(caps=caps), backlog=Backlog(not_served_recipients=60))))
    hourly, daily = (("cap", "hourly"),), (("cap", "daily"),)
    assert (found["drainer_cap_recipients", hourly], found["drainer_cap_used_recipients", hourly]) == (300, 300)
    assert found["drainer_cap_next_timestamp_seconds", hourly] == 1_772_536_900.0
    assert ("drainer_cap_next_timestamp_seconds", daily) not in found, "it is not reached: the next may go now"
    assert found["drainer_backlog_not_served_recipients", ()] == 60


def test_exactly_one_word_of_each_state_holds() -> None:
    found = series(
        exposition(
            snapshot(state="mta_down", rate=Rate(binding="12 % of recipients deferred"), stops=[Stop(name="ledger")])
        )
    )
    held = {key for key, value in found.items() if value == 1 and key[0] != "drainer_build_info"}
    assert held == {
        ("drainer_state", (("state", "mta_down"),)),
        ("drainer_eta_state", (("state", "measuring"),)),
        ("drainer_mta_state", (("state", "unknown"),)),
        ("drainer_rate_bound_by", (("limit", "other"),)),
        ("drainer_feeding_stopped", (("cause", "ledger"),)),
    }
