"""The mark of a handover, and the lists that Mailman delivers for."""

from __future__ import annotations

from drainer.queuedir.entry import Flavour
from drainer.via_mailman.whereabouts import HandoverMark, handover_mark, is_released_list
from tests.via_mailman.site import NAME


def test_mark_survives_the_ledger_and_no_reverse_path_is_taken_for_one() -> None:
    mark = HandoverMark(NAME, "0123456789abcdef", (b"\x01" * 16, b"\x02" * 16))
    assert handover_mark(mark.text()) == mark
    for reverse_path in ("", "choir-bounces@example.org", "mailman:x@example.org", "mailman::zz:y"):
        assert handover_mark(reverse_path) is None


def test_release_lists_name_lists_as_people_do() -> None:
    assert is_released_list("choir.example.org", Flavour.MAILMAN3, ("choir@example.org",))
    assert is_released_list("choir.example.org", Flavour.MAILMAN3, ("choir.example.org",))
    assert is_released_list("choir", Flavour.MAILMAN2, ("Choir@example.org",))
    assert not is_released_list("choir2", Flavour.MAILMAN2, ("choir@example.org",))
