"""What a page of Markdown has: fenced blocks, command lines with their marks, code in the text, links.

In    the text of a page
Out   Command, Mark and names as plain values
Pure  the one function that reads files is `pages`

A fenced block marked `sh` has command lines; a comment after two blanks and `#` is no part of them. A mark is an HTML
comment before the block, which a reader does not see:

    <!-- run by tests/FILE.py, how: COMMAND -->    another test runs it
    <!-- not run, WHY: COMMAND -->                 no test runs it

COMMAND is the beginning of the command line.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[2]
LANGUAGES = frozenset({"sh", "text", "toml", "python"})
_FENCE = re.compile(r"```(\w*)\s*\Z")
_MARK = re.compile(r"<!-- (?:run by (?P<file>[\w/.-]+)(?:, [^:]*)?|not run, (?P<why>[^:]+)): (?P<command>.+) -->\Z")
_COMMENT = re.compile(r"\s{2,}#.*\Z")


@dataclass(frozen=True, slots=True)
class Mark:
    """file: the test that runs the command, or empty; why: the reason that none does, or empty."""

    command: str
    file: str
    why: str


@dataclass(frozen=True, slots=True)
class Command:
    """One command line; `line` is its number on the page."""

    page: str
    line: int
    text: str
    mark: Mark | None

    @property
    def words(self) -> list[str]:
        return without_environment(shlex.split(self.text))


def without_environment(words: list[str]) -> list[str]:
    """The words of a command line from its program on, without NAME=VALUE before it."""
    while words and re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    return words


def pages() -> dict[str, str]:
    """Every page for people by its path: those on top and those in docs/."""
    found = sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/*.md")])
    return {path.relative_to(PROJECT).as_posix(): path.read_text("utf-8") for path in found}


def blocks(text: str) -> Iterator[tuple[int, str, list[str]]]:
    """(number of its first line, language, lines) of each fenced block."""
    language: str | None = None
    lines: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        fence = _FENCE.match(line.strip())
        if language is None and fence:
            language, lines = fence[1], []
        elif language is not None and fence:
            yield number - len(lines), language, lines
            language = None
        elif language is not None:
            lines.append(line.strip() if language == "sh" else line)
    assert language is None, "a fenced block without an end"


def prose(text: str) -> str:
    """The page without its fenced blocks and its comments."""
    return re.sub(r"<!--.*?-->", "", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def code_in_prose(text: str) -> list[str]:
    """What stands between single backticks."""
    return re.findall(r"`([^`]+)`", prose(text).replace("\n", " "))


def commands(page: str, text: str) -> Iterator[Command]:
    for first, language, lines in blocks(text):
        if language != "sh":
            continue
        marks = marks_before(text, first)
        for number, line in enumerate(lines, first):
            command = _COMMENT.sub("", line)
            mark = next((mark for mark in marks if command.startswith(mark.command)), None)
            yield Command(page, number, command, mark)


def marks_before(text: str, first: int) -> list[Mark]:
    """The marks on the lines right before the fence of a block whose first line has that number."""
    found: list[Mark] = []
    for line in reversed(text.splitlines()[: first - 2]):
        if not line.startswith("<!--"):
            break
        mark = _MARK.match(line)
        assert mark, f"not a mark: {line}"
        found.append(Mark(mark["command"], mark["file"] or "", mark["why"] or ""))
    return found


def anchors(text: str) -> set[str]:
    """The names by which GitHub and others link to the headings."""
    headings = re.findall(r"^#+ +(.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def links(text: str) -> list[str]:
    return re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", prose(text))
