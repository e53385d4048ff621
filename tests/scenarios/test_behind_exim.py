"""A genuine Exim accepts everything, and one provider behind it refuses by rate."""

from __future__ import annotations

from pathlib import Path

from tests.exim import needed
from tests.scenarios.behind import LIMITED, RECEIVING_RATE, behind_exim, until_slowed_down
from tests.scenarios.running import drainer


def test_only_the_domain_that_refuses_waits_and_not_in_exim_and_an_operator_holds_it_back_and_lets_it_go(
    open_directory: Path, tmp_path: Path
) -> None:
    needed()
    with behind_exim(open_directory / "mta", f"{RECEIVING_RATE} rate=4") as behind:
        site = behind.site(tmp_path, 60, 5, 5, mta={"sessions": 5}, feed={"adaptive": True})
        with site.run() as service:
            until_slowed_down(behind, site, "450-4.2.1 The user you are trying to contact is receiving mail at a rate")
            behind.until_others_are_done(site)
            assert drainer("domain", LIMITED, "--config", site.settings, "--pause", "30m").returncode == 0
            behind.limit.lifted = True
            site.until("Exim has nothing left", lambda: not behind.look_at_queue())
            held_back = behind.limited.taken_recipients
            assert held_back < 60 * 5 and behind.most_queued[LIMITED] < 200

            assert drainer("domain", LIMITED, "--config", site.settings, "--rate", "unlimited").returncode == 0
            behind.until_all_are_done(site)
            assert service.terminate() == 0
        assert behind.given() == behind.owed(site)
