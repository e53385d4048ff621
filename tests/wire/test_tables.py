"""The tables of `make wire`, held to 100 % besides the differences named there; docs/wire.md held to them.

Of Mailman 3 every delivery is compared with what recording.py kept of the genuine one.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tests.mailman3 import wide
from tests.mailman3.site import VERSIONS
from tests.wire import mailman2, recording
from tests.wire.mailman3 import REMEMBER_S, as_delivered, compare_with
from tests.wire.table import Compared, Comparison, by_group, differences, summary

PROJECT = Path(__file__).parents[2]
SHOWN = PROJECT / "docs/wire.md"


@pytest.fixture(scope="module")
def comparisons(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Comparison]:
    """Every Mailman, under its name in the table."""

    async def compared() -> list[list[Comparison]]:
        directory = tmp_path_factory.mktemp("wire")
        return await asyncio.gather(*(recording.compare(version, directory / version) for version in VERSIONS))

    of_3 = asyncio.run(compared())
    return {item.mailman: item for of_mailman in (mailman2.compare_all(), *of_3) for item in of_mailman}


def test_only_intended_differences_are_found(comparisons: dict[str, Comparison]) -> None:
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


@pytest.mark.parametrize("version", VERSIONS)
def test_lists_and_mails_of_every_kind_are_composed_without_the_cache_too(
    comparisons: dict[str, Comparison], version: str
) -> None:
    anew = comparisons[f"{version}, nothing remembered"].entries
    assert {*wide.LIST_KINDS, wide.ARC} <= {entry.group for entry in anew}
    assert len({entry.kind.rpartition(": ")[2] for entry in anew}) >= 40


@pytest.mark.parametrize("version", VERSIONS)
def test_recording_is_of_this_version_and_of_the_samples_as_they_are(version: str) -> None:
    """Else what is compared is not what wide.py and contents.py say: `make wire-recording` makes a new one."""
    made_with = recording.recorded_with(version)
    assert made_with["mailman"] == version
    assert made_with["samples"] == recording.samples_digest()


async def test_one_octet_that_differs_is_found_in_every_delivery(tmp_path: Path) -> None:
    (version, *_) = VERSIONS
    _, signing = recording.opened(version, tmp_path)
    altered = {
        filebase: Counter({(*key[:4], key[4][:-3] + b"?\r\n"): count for key, count in deliveries.items()})
        for filebase, deliveries in signing.deliveries.items()
    }
    comparison = await compare_with(version, [replace(signing, deliveries=altered)], REMEMBER_S, every=40)
    delivered = [entry for entry in comparison.entries if entry.deliveries]
    assert len(delivered) >= 4
    assert comparison.unwanted() == delivered


def test_page_shows_every_row_and_every_difference(comparisons: Mapping[str, Comparison], tmp_path: Path) -> None:
    of_2 = [item for mailman, item in comparisons.items() if mailman.startswith("2.1")]
    of_3 = [as_delivered(version, recording.opened(version, tmp_path / version)) for version in reversed(VERSIONS)]
    text = SHOWN.read_text()
    shown = [_cells(line) for line in text.splitlines()]
    for row in [*summary([*of_2, *of_3]).splitlines()[2:], *by_group(of_3).splitlines()[2:]]:
        assert _cells(row) in shown
    for line in differences(of_2).splitlines():
        assert line in text


def _cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.split("|")]


def test_unintended_difference_is_reported() -> None:
    comparison = Comparison("x", wanted={"known": "it is better so"})
    comparison.entries = [
        Compared("g", "known", False, 1),
        Compared("g", "new", False, 1),
        Compared("g", "ok", True, 1),
    ]
    assert [entry.kind for entry in comparison.unwanted()] == ["new"]
    assert _cells(summary([comparison]).splitlines()[2])[1:-1] == ["x", "3", "3", "1", "3", "1", "1"]
