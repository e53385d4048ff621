"""A genuine Postfix accepts everything, and one provider behind it refuses by rate."""

from __future__ import annotations

from pathlib import Path

from tests.postfix import needed
from tests.scenarios.behind import LIMITED, UNUSUAL_RATE, behind_postfix, until_slowed_down
from tests.scenarios.running import drainer


def test_only_the_domain_that_refuses_waits_and_not_in_postfix_and_an_operators_word_overrules(
    open_directory: Path, tmp_path: Path
) -> None:
    needed()
    with behind_postfix(open_directory / "mta", f"{UNUSUAL_RATE} rate=4") as behind:
        site = behind.site(tmp_path, 60, 5, 5, mta={"sessions": 5}, feed={"adaptive": True})
        with site.run() as service:
            until_slowed_down(behind, site, "421-4.7.28 Gmail has detected an unusual rate")
            behind.until_others_are_done(site)
            assert behind.limited.taken_recipients < 60 * 5, "the domain that refuses still waits"
            assert behind.most_queued[LIMITED] < 200

            behind.limit.lifted = True
            assert drainer("domain", LIMITED, "--config", site.settings, "--rate", "unlimited").returncode == 0
            behind.until_all_are_done(site)
            assert service.terminate() == 0
        assert behind.given() == behind.owed(site)
