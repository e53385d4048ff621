"""Handing an entry over: for the recipients it owes, with an open attempt."""

from __future__ import annotations

import asyncio

import pytest

from drainer.errors import ComposeError
from drainer.ledger.records import MessageRecord
from drainer.ledger.states import State
from drainer.queuedir.read import read_entry
from tests.via_mailman.site import ANN, BOB, EVE, OTHER, Site


async def test_entry_handed_over_is_in_out_for_those_owed_only_and_its_attempt_is_open(site: Site) -> None:
    record = await site.handed_over(ANN, BOB)
    assert set(read_entry(site.out()).recipients) == {ANN, BOB}
    assert await site.followed(record) == {State.ATTEMPTING: {ANN, BOB}}
    assert site.at_mailman.entries == 1
    assert not list(site.custody.backlog.iterdir())


async def test_handover_counts_against_the_caps_until_mailman_is_done_with_it(site: Site) -> None:
    throttle = site.handover._throttle
    throttle.cap(2, 0)
    await site.handed_over(ANN, BOB)
    (cap,) = throttle.caps
    assert (cap.used, cap.leaving) == (2, ()), "nobody knows yet when Mailman sends them"
    site.out().unlink()
    for handover in site.at_mailman.all:
        site.at_mailman.forget(handover)
    (cap,) = throttle.caps
    assert (cap.used, sum(number for _, number in cap.leaving)) == (2, 2)


async def test_entry_with_more_recipients_than_a_cap_ever_allows_is_not_handed_over(site: Site) -> None:
    site.handover._throttle.cap(1, 0)
    with pytest.raises(ComposeError, match=r"for 2 recipients .* a cap allows 1; right would be"):
        await site.handed_over(ANN, BOB)
    assert not site.out().exists()
    assert site.at_mailman.all == []


async def waiting_for_a_cap(site: Site) -> asyncio.Task[MessageRecord]:
    """A handover of two recipients, where the hourly cap has room for one."""
    throttle = site.handover._throttle
    throttle.cap(3, 0)
    throttle.restore([(0.0, 2)])
    waiting = asyncio.create_task(site.handed_over(ANN, BOB))
    for _ in range(9):
        await asyncio.sleep(0)
    assert throttle.waits_for == "hourly"
    return waiting


async def test_fresh_mail_is_handed_over_while_the_backlogs_waits_for_a_cap_with_the_last_place_of_the_window(
    site: Site,
) -> None:
    backlog = await waiting_for_a_cap(site)
    await site.handed_over(EVE, name=OTHER, is_fresh=True)
    assert site.out(name=OTHER).exists()
    assert not backlog.done() and not site.out().exists()
    backlog.cancel()
    await asyncio.gather(backlog, return_exceptions=True)
    for handover in site.at_mailman.all:
        site.at_mailman.forget(handover)
    async with asyncio.timeout(5), site.at_mailman.window.place(is_fresh=False):
        assert site.at_mailman.entries == 0


async def test_cap_that_is_lowered_below_an_entry_that_waits_for_it_holds_up_nothing_else(site: Site) -> None:
    large = await waiting_for_a_cap(site)
    site.handover._throttle.cap(1, 0)
    with pytest.raises(ComposeError, match="a cap allows 1"):
        await large
    site.handover._throttle.cap(0, 0)
    async with asyncio.timeout(5):
        await site.handed_over(EVE, name=OTHER)
    assert site.out(name=OTHER).exists()
