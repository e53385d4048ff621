"""The tables of `make wire`, held to 100 % besides the differences named there; and the README to the tables."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.mailman3 import wide
from tests.mailman3.site import VERSIONS
from tests.wire import mailman2
from tests.wire.__main__ import IN_THE_SUITE, compare_all
from tests.wire.table import Compared, Comparison, differences, summary

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture(scope="module")
def comparisons(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Comparison]:
    """Every Mailman; of Mailman 3 a share of the kinds of content for each list, all of them for one list."""
    found = asyncio.run(compare_all(tmp_path_factory.mktemp("wire"), IN_THE_SUITE))
    return {comparison.mailman: comparison for comparison in found}


def test_nothing_differs_but_what_is_meant_to(comparisons: dict[str, Comparison]) -> None:
    wrong = [(mailman, entry.kind, entry.detail) for mailman, item in comparisons.items() for entry in item.unwanted()]
    assert wrong == []


@pytest.mark.parametrize("python", ["2.7.18", "2.7.3"])
def test_every_difference_that_is_named_is_there(comparisons: dict[str, Comparison], python: str) -> None:
    """Else a reason would stand for a difference long gone, or hide a new one."""
    assert comparisons[f"2.1.39, Python {python}"].differing_kinds() == set(mailman2.WANTED[python])


@pytest.mark.parametrize("version", VERSIONS)
def test_every_kind_of_content_and_every_kind_of_list_is_compared(
    comparisons: dict[str, Comparison], version: str
) -> None:
    entries = comparisons[version].entries
    kinds = {entry.kind for entry in entries}
    contents = {entry.kind.partition(": ")[2] for entry in entries if entry.group == "header and footer"}
    assert len(contents & set(wide.CONTENT_KINDS)) >= 75
    assert set(wide.LIST_KINDS) <= {entry.group for entry in entries}
    assert {"digests", "notices", wide.ARC} <= {entry.group for entry in entries}
    assert {post.kind for post in wide.UNUSUAL} <= kinds


@pytest.mark.parametrize("version", VERSIONS)
def test_digests_of_both_kinds_are_compared(comparisons: dict[str, Comparison], version: str) -> None:
    digests = [entry for entry in comparisons[version].entries if entry.group == "digests"]
    assert sorted(entry.kind.rpartition(", ")[2] for entry in digests) == ["MIME", "MIME", "plain text", "plain text"]
    assert all(entry.deliveries == 2 for entry in digests)


@pytest.mark.parametrize("version", VERSIONS)
def test_what_mailman_shunts_is_refused_with_a_reason_and_nothing_else_is(
    comparisons: dict[str, Comparison], version: str
) -> None:
    """That each refusal meets a shunted entry, and the other way round, is part of being equal."""
    undelivered = {entry.kind for entry in comparisons[version].entries if not entry.deliveries}
    no_message_id = set() if version == "3.3.8" else {"no Message-ID, VERP"}
    assert {"list that is gone", "SMTPUTF8 recipient", "SMTPUTF8 recipient, VERP", "no recipients"} <= undelivered
    assert no_message_id <= undelivered


def test_readme_shows_the_rows_of_mailman_2_1_and_every_difference(comparisons: dict[str, Comparison]) -> None:
    """Of Mailman 3 the README shows the longer comparison of `make wire`; these rows are the same in both."""
    of_2 = [item for mailman, item in comparisons.items() if mailman.startswith("2.1")]
    told = README.read_text()
    for row in summary(of_2).splitlines()[2:]:
        assert _cells(row) in [_cells(line) for line in told.splitlines()]
    for line in differences(of_2).splitlines():
        assert line in told


def _cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.split("|")]


def test_a_difference_nobody_wanted_is_told() -> None:
    comparison = Comparison("x", wanted={"known": "it is better so"})
    comparison.entries = [
        Compared("g", "known", False, 1),
        Compared("g", "new", False, 1),
        Compared("g", "ok", True, 1),
    ]
    assert [entry.kind for entry in comparison.unwanted()] == ["new"]
    assert _cells(summary([comparison]).splitlines()[2])[1:-1] == ["x", "3", "3", "1", "3", "1", "1"]
