"""Every command line on the pages is run here, or its mark says which test runs it, or why none does."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.docs.pages import PROJECT, Command, blocks, commands, pages
from tests.docs.sandbox import PROGRAMS, Sandbox, sandbox

FOUND = [command for page, text in pages().items() for command in commands(page, text)]


def ends_it(command: Command) -> bool:
    """Handing back empties the custody: it comes last."""
    return command.words[1:2] == ["handback"] and "--yes" in command.words


TO_RUN = sorted([command for command in FOUND if command.mark is None], key=ends_it)


def name_of(command: Command) -> str:
    return f"{command.page}:{command.line} {command.text}"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with sandbox(tmp_path_factory.mktemp("pages")) as place:
        yield place


def test_lines_of_the_shown_status_are_those_that_status_prints(place: Sandbox) -> None:
    """The samples on the page are old figures under names that must not be."""
    assert place.run(["drainer", "pause", "--for", "30m"]).status == 0
    printed = labels(place.run(["drainer", "status"]).out.splitlines())
    page = pages()["docs/operating.md"]
    samples = [lines for _, language, lines in blocks(page) if language == "text" and "since" in lines[0]]
    assert len(samples) == 2
    for lines in samples:
        assert labels(lines) <= printed


def labels(lines: list[str]) -> set[str]:
    return {match[0] for line in lines[1:] if (match := re.match(r"[A-Z][a-z]+( [a-z]+)?(?=  )|MTA|Duplicates", line))}


@pytest.mark.parametrize("command", TO_RUN, ids=name_of)
def test_command_on_a_page_does_what_the_page_says_without_an_error(place: Sandbox, command: Command) -> None:
    done = place.run(command.words)
    right = {0, 1, 2} if command.words[1:2] == ["check"] else {0}
    assert done.status in right, done.out + done.err
    assert "Traceback" not in done.err and done.out.strip()


def test_commands_are_found_and_most_are_run() -> None:
    assert {"README.md", "docs/operating.md", "docs/monitoring.md"} <= {command.page for command in TO_RUN}
    assert len(TO_RUN) >= 30


@pytest.mark.parametrize(
    "command",
    [command for command in FOUND if command.mark and command.mark.file],
    ids=name_of,
)
def test_file_that_is_said_to_run_a_command_has_its_words(command: Command) -> None:
    assert command.mark
    file = PROJECT / command.mark.file
    assert file.is_file(), command.mark
    text = file.read_text("utf-8")
    if f'"{command.page}"' in text:
        return  # it reads the line from the page and runs that
    options = [word for word in command.words if word.startswith("-")]
    first = command.words[1] if command.words[0] != "python3" else command.words[0]
    for word in [first, *options]:
        if re.fullmatch(r"--?[a-z-]+|[a-z-]+", word):
            assert word in text, f"{command.mark.file} has no {word}"


def test_only_known_programs_are_run() -> None:
    programs = {command.words[0].rpartition("/")[2] for command in TO_RUN}
    assert programs <= {"drainer", *PROGRAMS}, "run it in the sandbox, or mark it"
