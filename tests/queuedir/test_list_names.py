"""Which list a text names: one meaning, whoever asks."""

from __future__ import annotations

import pytest

from drainer.errors import AmbiguousList, UnknownList
from drainer.queuedir.entry import Flavour
from drainer.queuedir.list_names import MailingList, in_order, list_of, lists_meant, lists_named, trouble_with

HOST = "lists.choir.example"
OF_3 = [list_of(f"{name}.{HOST}", Flavour.MAILMAN3) for name in ("choir", "choir-board", "tenor", "members")]
ELSEWHERE = list_of("tenor.archive.example", Flavour.MAILMAN3)
OF_2 = [
    MailingList("choir", "choir", HOST),
    MailingList("choir.board", "choir.board", ""),
    MailingList("tenor", "tenor"),
]


def ids(asked: str, known: list[MailingList]) -> list[str]:
    return [one.list_id for one in lists_named(asked, known)]


@pytest.mark.parametrize("asked", ["choir", "CHOIR", f"choir@{HOST}", f"choir.{HOST}", f"Choir@{HOST.upper()}"])
def test_name_address_and_list_id_name_exactly_that_list(asked: str) -> None:
    assert ids(asked, OF_3) == [f"choir.{HOST}"]
    assert ids(asked, OF_2) == ["choir"]


@pytest.mark.parametrize(
    "asked", ["cho", "oir", HOST, f"@{HOST}", "choir@", "choir@elsewhere.example", "choir-", "", "."]
)
def test_part_of_a_name_or_a_host_names_no_list(asked: str) -> None:
    assert ids(asked, OF_3) == ids(asked, OF_2) == []


def test_star_names_several_and_stands_for_nothing_else() -> None:
    assert ids("choir*", OF_3) == [f"choir.{HOST}", f"choir-board.{HOST}"]
    assert ids(f"*@{HOST}", [*OF_3, ELSEWHERE]) == [one.list_id for one in OF_3]
    assert ids("*", [*OF_3, ELSEWHERE]) == [one.list_id for one in (*OF_3, ELSEWHERE)]
    assert ids("te?or*", OF_3) == ids("[ct]*", OF_3) == []


def test_host_that_is_not_known_fits_a_name_of_mailman_2_but_no_wildcard() -> None:
    assert ids(f"tenor@{HOST}", OF_2) == ["tenor"]
    assert ids(f"*@{HOST}", OF_2) == ["choir"]


def test_one_name_on_two_hosts_is_ambiguous_and_both_addresses_are_said() -> None:
    with pytest.raises(AmbiguousList) as refused:
        lists_meant("tenor", [*OF_3, ELSEWHERE])
    assert str(refused.value) == (
        f"2 lists are known as tenor: say tenor@archive.example or tenor@{HOST}; nothing was done"
    )
    assert lists_meant("tenor@archive.example", [*OF_3, ELSEWHERE]) == (ELSEWHERE,)


def test_list_id_that_is_a_name_elsewhere_still_means_its_list() -> None:
    mixed = [*OF_2, *OF_3]
    assert ids("choir", mixed) == ["choir"]


def test_unknown_list_is_refused_with_the_nearest_names_first() -> None:
    with pytest.raises(UnknownList) as refused:
        lists_meant("chior", OF_3)
    assert str(refused.value) == f"no list is known as chior; near to it: choir@{HOST}; nothing was done"
    with pytest.raises(UnknownList, match=f"near to it: choir-board@{HOST}; nothing"):
        lists_meant("board", OF_3)
    with pytest.raises(UnknownList, match=f"known are choir-board@{HOST}, choir@{HOST}, members@.*; nothing was done"):
        lists_meant("zz", OF_3)
    with pytest.raises(UnknownList, match="no list is known here yet"):
        lists_meant("choir", [])


def test_where_one_list_is_wanted_a_star_is_refused() -> None:
    with pytest.raises(AmbiguousList, match=r"one list has to be named here, without \*"):
        lists_meant("*", OF_3, several=False)


def test_settings_may_name_lists_that_do_not_exist_yet() -> None:
    known = [*OF_3, ELSEWHERE]
    assert in_order(["members", "gone", "tenor", "c*", "members"], known) == (
        f"members.{HOST}", f"tenor.{HOST}", "tenor.archive.example", f"choir.{HOST}", f"choir-board.{HOST}"
    )  # fmt: skip
    assert trouble_with("members", known) == ""
    assert trouble_with("gone", known).startswith("no list is known as gone; ")
    assert trouble_with("tenor", known) == f"2 lists are known as tenor: say tenor@archive.example or tenor@{HOST}"
