"""Handing an entry over: for the recipients it owes, with an open attempt."""

from __future__ import annotations

from drainer.ledger.states import State
from drainer.queuedir.read import read_entry
from tests.via_mailman.site import ANN, BOB, Site


async def test_entry_handed_over_is_in_out_for_those_owed_only_and_its_attempt_is_open(site: Site) -> None:
    record = await site.handed_over(ANN, BOB)
    assert set(read_entry(site.out()).recipients) == {ANN, BOB}
    assert await site.followed(record) == {State.ATTEMPTING: {ANN, BOB}}
    assert site.at_mailman.entries == 1
    assert not list(site.custody.backlog.iterdir())
