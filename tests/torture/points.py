"""Every commit point of the order of writes, by name; test_short_form.py holds it against the code.

In    nothing
Out   POINTS: where doomed.py can end the service, and what has to happen for it to come there
Pure  values only

A write to the ledger has three moments: it is asked for; its rows are written and COMMIT has not run; COMMIT has returned
and the caller has not gone on. A move of a file has two: before and after the rename or unlink.
"""

from __future__ import annotations

from dataclasses import dataclass

ASKED, WRITTEN, DURABLE = "asked for", "written", "durable"
BEFORE_RENAME, AFTER_RENAME = "before rename", "after rename"
BEFORE_UNLINK, AFTER_UNLINK = "before unlink", "after unlink"

LEDGER_WRITES = {
    "claim": "drain",
    "begin_attempt": "drain",
    "open_attempt": "via mailman",
    "close_attempt": "drain",
    "record": "drain",
    "finish_entry": "drain",
    "defer": "drain",
    "move_dsns": "drain",
    "resolve": "after an open attempt",
    "hold": "hold",
    "release": "release",
    "set_operator_state": "pause",
    "write_journal": "hold",
    "end_action": "hold",
    "put_back": "undo",
    "expire": "prune",
    "split_attempt": "via mailman",
    "write_event": "drain",
    "keep": "drain",
    "write_baseline": "drain",
}
"""Ledger calls that write, and what an operator, Mailman or time has to do for them."""

UNUSED = frozenset({"count"})
"""Part of the contract, called by nothing in the service."""

ELSEWHERE = frozenset({"take_in", "learn", "unlearn", "rewrite", "try_again", "undo_failures", "redate_sent"})
"""Not come to by a drain: entries lent away for want of an inode (tests/queuedir/test_loan.py), logs imported by an
operator, one commit with no file that has to agree with it, the first half of hand_back_rewritten for copies that go
back together (tests/scenarios/test_mistakes_handback.py), what becomes of entries refused by an MTA in doubt
(stages/reversible_failures.py), and what a clock set anew makes of what was sent (tests/stages/test_capped.py)."""

MOVES = {
    "take": "drain",
    "promote_bak": "drain",
    "finish": "drain",
    "suppress": "drain",
    "preserve_bad": "drain",
    "hold": "hold",
    "release": "release",
    "drop": "drop",
    "restore": "undo",
    "hand_back": "handback",
    "hand_back_rewritten": "handback",
    "expire_duplicates": "prune",
    "take_back": "via mailman",
}
"""Methods of Custody that rename or unlink."""

_UNLINKS = frozenset({"finish", "expire_duplicates"})
_OFTEN = frozenset({"begin_attempt", "close_attempt", "take", "finish"})


@dataclass(frozen=True, slots=True)
class Point:
    """name   "ledger.open_attempt written", "custody.take after rename"
    needs  what has to be done to the service for it to come there
    often  it is come to that many times in every run at least
    """

    name: str
    needs: str
    often: int = 1


def _points() -> tuple[Point, ...]:
    found = [
        Point(f"ledger.{write} {moment}", needs, 3 if write in _OFTEN else 1)
        for write, needs in LEDGER_WRITES.items()
        for moment in (ASKED, WRITTEN, DURABLE)
    ]
    for move, needs in MOVES.items():
        moments: tuple[str, ...] = (BEFORE_UNLINK, AFTER_UNLINK) if move in _UNLINKS else (BEFORE_RENAME, AFTER_RENAME)
        if move == "hand_back_rewritten":
            moments = ("rewritten", *moments, "replaced")
        found += [Point(f"custody.{move} {moment}", needs, 3 if move in _OFTEN else 1) for moment in moments]
    found += [Point(f"custody.sync {moment}", "drain") for moment in (ASKED, DURABLE)]
    return tuple(found)


POINTS = _points()
