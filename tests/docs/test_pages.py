"""What the pages name is there: files, headings, settings, commands with their options, metrics."""

from __future__ import annotations

import re
import shlex

import pytest
import typer

from drainer.cli.main import COMMANDS, application
from drainer.settings import Settings
from drainer.settings.section import fields_of
from tests.docs.pages import (
    LANGUAGES,
    PROJECT,
    anchors,
    blocks,
    code_in_prose,
    commands,
    links,
    marks_before,
    pages,
    without_environment,
)
from tests.report.test_alerts import exposed

PAGES = pages()
_PATH = re.compile(r"(?<![\w/.-])((?:drainer|tests|config|docs|systemd|\.ci)/[\w./-]*|Makefile|[A-Z]+\.md)")
_SETTING = re.compile(rf"({'|'.join(Settings.model_fields)})\.([a-z_0-9]+)( = .*)?\Z")
_NO_SETTINGS = frozenset({"mailman.cfg", "mailman.stopped"})
"""A file, and a name of `drainer check`."""
_COMMAND_IN_TEXT = re.compile(rf"(?:drainer (?:{'|'.join(COMMANDS)})\b(?!ed)|\$ |make |systemctl )")

each_page = pytest.mark.parametrize("page", sorted(PAGES))


@each_page
def test_every_file_a_page_names_is_there(page: str) -> None:
    named = set(_PATH.findall(PAGES[page]))
    assert [name for name in named if not (PROJECT / name).exists()] == []


@each_page
def test_every_link_leads_to_a_file_and_a_heading_that_are_there(page: str) -> None:
    for link in links(PAGES[page]):
        if link.startswith("https://"):
            continue
        name, _, heading = link.partition("#")
        target = ((PROJECT / page).parent / name).resolve() if name else PROJECT / page
        assert target.is_file(), link
        assert not heading or heading in anchors(target.read_text("utf-8")), link


@each_page
def test_every_setting_a_page_names_is_one(page: str) -> None:
    for code in code_in_prose(PAGES[page]):
        named = _SETTING.match(code)
        if named and code not in _NO_SETTINGS:
            assert named[2] in fields_of(type(getattr(Settings(), named[1]))), code


@each_page
def test_every_drainer_command_in_the_text_has_its_name_and_options(page: str) -> None:
    text = PAGES[page]
    found = [code for code in code_in_prose(text) if code.startswith("drainer ")]
    found += [command.text for command in commands(page, text)]
    for line in found:
        program, *words = without_environment(shlex.split(line))
        if program.rpartition("/")[2] != "drainer":
            continue
        if words and words[0] in COMMANDS:
            given = {word.partition("=")[0] for word in words[1:] if word.startswith("-")}
            assert given <= options_of(words[0]) | {"--help"}, line
        else:
            assert words[:1] in (["version"], ["--version"], ["--help"], ["--config"], ["COMMAND"]), line


def options_of(name: str) -> set[str]:
    group = typer.main.get_command(application([name]))
    command = group.commands[name]  # type: ignore[attr-defined]
    return {option for parameter in command.params for option in parameter.opts}


def test_every_metric_a_page_names_is_exposed() -> None:
    named = {code for text in PAGES.values() for code in code_in_prose(text) if re.fullmatch(r"drainer_[a-z_]+", code)}
    assert "drainer_state" in named
    assert named <= exposed()


@each_page
def test_commands_are_in_blocks_marked_as_such_and_every_mark_belongs_to_one(page: str) -> None:
    text = PAGES[page]
    marks = 0
    for first, language, lines in blocks(text):
        assert language in LANGUAGES, f"line {first}: a block of what?"
        if language == "sh":
            before = marks_before(text, first)
            marks += len(before)
            for mark in before:
                assert [line for line in lines if line.startswith(mark.command)], mark
        else:
            assert not [line for line in lines if _COMMAND_IN_TEXT.match(line)], f"line {first}: commands not in `sh`"
    assert marks == len(re.findall(r"<!-- (?:run by|not run)", text))
    indented = re.findall(r"\n\n {4,}(?![-*0-9])\S.*", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    assert not indented, "a block without a fence"


def test_every_reason_and_event_a_page_names_is_in_the_source() -> None:
    source = "".join(path.read_text("utf-8") for path in (PROJECT / "drainer").rglob("*.py"))
    operators = [page for page in sorted(PAGES) if page.startswith("docs/") or page == "README.md"]
    named = {
        code for page in operators for code in code_in_prose(PAGES[page]) if re.fullmatch(r"[a-z]+(_[a-z]+)+", code)
    }
    assert {"no_control_socket", "too_large_for_mta", "other_mailman", "guard_cannot_tell"} <= named
    theirs = {"multi_instance_directories", "alternate_config_directories", "queue_dir", "duplicate_recips"}
    made_of_parts = {"odd_recips", "undelivered_multi_chunk_with_verp"}
    assert {name for name in named - theirs - made_of_parts - exposed() if name not in source} == set()


def test_what_the_runbook_says_one_sees_is_what_the_program_says() -> None:
    runbook = PAGES["README.md"].partition("| you see |")[2].partition("\n\n")[0]
    seen = re.findall(r'^\| (?:`([A-Z ]+)`|"([^"]+)")', runbook, re.MULTILINE)
    assert len(seen) >= 6
    source = "".join(path.read_text("utf-8") for path in (PROJECT / "drainer").rglob("*.py"))
    for state, words in seen:
        assert (words or f'"{state}"') in source, state or words
