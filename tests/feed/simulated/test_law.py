"""The law against MTAs that bear little, each in its own way: what it finds, and what it costs to find it."""

from __future__ import annotations

import pytest

from drainer.feed.adaptive_rate import first_pace
from tests.feed.simulated.mtas import (
    BadDomain,
    Banning,
    ByRate,
    FewSessions,
    FewWorkers,
    Filling,
    Flaky,
    FlakyAfterDot,
    Greylisting,
    GroupCommit,
    HangingUp,
    Overloaded,
    RefusingAll,
    Remote,
    Tarpit,
)
from tests.feed.simulated.simulation import Message, Mta, Simulation

DOMAINS = ("a.example", "b.example", "c.example", "bad.example")


def of_domains(number: int) -> Message:
    return Message(DOMAINS[number % len(DOMAINS)])


def test_open_mta_gets_500_per_second_within_ten_seconds() -> None:
    simulation = Simulation(Mta())
    result = simulation.run(10)
    assert result.per_s(8, 10) >= 500 and simulation.pace.reason == "" and result.downs == 0


def test_flaky_mta_loses_no_speed_for_losses_that_any_rate_has() -> None:
    result = Simulation(Flaky(), ceiling_per_s=100).run(60)
    assert result.per_s(10, 60) >= 0.9 * 100 and result.downs == 0


def test_token_bucket_is_filled_to_the_brim_and_hardly_over_it() -> None:
    simulation = Simulation(ByRate(lambda _: 60.0))
    result = simulation.run(240)
    assert result.per_s(0, 25) >= 0.85 * 60 and result.share("deferred", 0, 25) <= 0.10
    assert result.per_s(30, 240) >= 0.9 * 60 and result.share("deferred", 30, 240) <= 0.03
    assert "451 said the MTA" in simulation.pace.reason


@pytest.mark.parametrize("sessions", [1, 3, 8])
def test_session_limit_is_settled_at_by_itself(sessions: int) -> None:
    result = Simulation(FewSessions(lambda _: sessions)).run(120)
    assert result.per_s(10, 120) >= 0.9 * sessions / 0.215
    assert sessions <= result.sessions_at(100) <= sessions + 1 and result.refused_sessions < 20


def test_session_limit_that_is_lifted_and_lowered_is_followed() -> None:
    result = Simulation(FewSessions(lambda now_s: 8 if now_s < 100 else 16 if now_s < 300 else 4)).run(400)
    assert result.per_s(220, 300) >= 0.9 * 16 / 0.215
    assert result.per_s(340, 400) >= 0.9 * 4 / 0.215 and result.refused_sessions < 40


@pytest.mark.parametrize(("number", "each_s", "spread"), [(4, 0.1, 0.0), (4, 0.1, 0.5), (1, 0.2, 0.2), (10, 0.3, 0.5)])
def test_workers_are_kept_busy_and_hardly_anything_waits_for_them(number: int, each_s: float, spread: float) -> None:
    result = Simulation(FewWorkers(number, each_s, spread)).run(200)
    assert result.per_s(20, 200) >= 0.85 * number / each_s
    assert result.reply_s(20, 200) <= 2 * each_s + 0.05


def test_flaky_token_bucket_is_found_among_its_losses() -> None:
    result = Simulation(Flaky(ByRate(lambda _: 60.0))).run(200)
    assert result.per_s(0, 25) >= 0.8 * 60 and result.per_s(30, 200) >= 0.85 * 60
    assert result.share("deferred", 30, 200) <= 0.04


def test_capacity_that_falls_and_rises_is_followed() -> None:
    result = Simulation(ByRate(lambda now_s: 60.0 if now_s < 60 else 15.0 if now_s < 180 else 90.0, burst=15)).run(360)
    assert result.per_s(70, 180) >= 0.8 * 15 and result.share("deferred", 75, 180) <= 0.05
    assert result.per_s(270, 360) >= 0.85 * 90


def test_ban_of_ten_minutes_is_waited_for_and_left_behind_within_a_minute() -> None:
    result = Simulation(Banning(20.0, 620.0), ceiling_per_s=50).run(760)
    tries = [at_s for at_s, ended, _ in result.events if ended == "lost"]
    assert result.per_s(5, 20) >= 45 and len(tries) + result.refused_sessions < 60
    assert result.per_s(690, 760) >= 0.9 * 50


@pytest.mark.parametrize("each_s", [0.0, 0.5], ids=["at_once", "after_half_a_second"])
def test_mta_that_hangs_up_after_each_final_dot_gets_one_mail_after_those_that_were_under_way(each_s: float) -> None:
    mta = HangingUp(20.0, 80.0, each_s)
    result = Simulation(mta, ceiling_per_s=20).run(160)
    began_s = result.in_doubt_s[0]
    together = [at_s for at_s in result.in_doubt_s if at_s <= began_s + each_s + 0.05]
    assert len(together) <= 2 + 20 * each_s, "no more than had been begun"
    probes = [at_s for at_s in result.in_doubt_s if at_s > began_s + each_s + 0.05]
    assert len(probes) <= 7, "1, 2, 4 ... seconds apart"
    assert result.per_s(120, 160) >= 0.9 * 20


def test_few_losses_after_the_final_dot_cost_no_speed() -> None:
    result = Simulation(FlakyAfterDot(0.015), ceiling_per_s=100).run(60)
    assert result.per_s(10, 60) >= 0.9 * 100 and result.downs <= 2


def test_ban_by_refusals_of_everybody_is_no_death_spiral() -> None:
    result = Simulation(RefusingAll(20.0, 120.0), ceiling_per_s=50).run(200)
    assert result.per_s(130, 200) >= 0.9 * 50


def test_greylisting_of_everybody_is_walked_through_at_full_speed() -> None:
    result = Simulation(Greylisting(), ceiling_per_s=100, retry_s=60).run(120)
    tried = [at_s for at_s, _, _ in result.events if 15 <= at_s < 60]
    assert len(tried) >= 0.9 * 45 * 100 and result.per_s(75, 115) >= 0.9 * 100


def test_one_bad_domain_costs_the_others_nothing() -> None:
    result = Simulation(BadDomain(), ceiling_per_s=100, messages=of_domains, retry_s=1e9).run(60)
    assert result.per_s(10, 60) >= 0.95 * 75


def test_a_long_run_of_one_bad_domain_does_not_slow_what_follows() -> None:
    def in_blocks(number: int) -> Message:
        return Message("bad.example" if 1000 <= number < 1500 else "a.example")

    result = Simulation(BadDomain(), ceiling_per_s=100, messages=in_blocks, retry_s=1e9).run(60)
    assert result.per_s(0, 60) >= 0.75 * (6000 - 500) / 60


def test_a_queue_that_fills_is_fed_as_fast_as_it_empties_and_does_not_grow_for_ever() -> None:
    mta = Filling(60.0)
    result = Simulation(mta).run(300)
    assert result.per_s(30, 300) >= 0.9 * 60 and mta.longest < 200


def test_remote_mta_gets_all_sessions_since_each_brings_throughput() -> None:
    result = Simulation(Remote()).run(60)
    assert result.sessions_at(50) == 20 and result.per_s(10, 60) >= 0.9 * 20 / 0.17


def test_a_disk_that_commits_in_groups_gets_all_sessions_since_each_brings_throughput() -> None:
    result = Simulation(GroupCommit(0.1)).run(120)
    alone = Simulation(GroupCommit(0.1), most=1).run(60).per_s(10, 60)
    assert result.per_s(20, 120) >= 12 * alone


def test_tarpit_is_left_before_it_holds() -> None:
    result = Simulation(Tarpit(), ceiling_per_s=100, messages=of_domains, retry_s=1e9).run(60)
    assert result.per_s(10, 60) >= 0.9 * 75


def test_losses_that_our_load_does_cause_slow_us_down() -> None:
    result = Simulation(Overloaded(40.0)).run(200)
    assert result.per_s(20, 200) >= 0.80 * 40 and result.share("lost", 30, 200) <= 0.05


@pytest.mark.parametrize(("borne", "is_limit"), [(60.0, True), (600.0, True), (600.0, False)])
def test_start_from_what_was_borne_last_time_needs_no_slow_start_and_survives_its_being_wrong(
    borne: float, is_limit: bool
) -> None:
    pace = first_pace(0, None, borne, is_limit=is_limit)
    result = Simulation(ByRate(lambda _: 60.0, burst=10), pace=pace).run(60)
    assert result.per_s(1, 30) >= 0.85 * 60 and result.share("deferred", 10, 60) <= 0.05
