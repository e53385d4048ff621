"""`drainer journal` and `drainer undo`."""

from __future__ import annotations

import json

from tests.cli.conftest import CommandLine
from tests.control.small_service import SmallService


def test_journal_says_who_did_what_and_how_to_take_it_back_until_when(cli: CommandLine, service: SmallService) -> None:
    shown = cli.process("journal").out.splitlines()
    assert [line.split()[0] for line in shown[::2]] == ["1", "2"]
    assert "bob  drop  5 entries: list=orchard spam" in shown[2]
    assert "\x1b" not in shown[2]
    assert shown[1].strip() == "`drainer undo 1` takes it back"
    assert shown[3].strip().startswith("`drainer undo 2` takes it back until 2026-03-10 ")
    (last,) = json.loads(cli("journal", "--limit", "1", "--json").out)["actions"]
    assert (last["number"], last["by"], last["entries"], last["undoable"]) == (2, "bob", 5, True)


def test_undo_is_a_dry_run_unless_yes_and_says_what_is_left_and_how_to_undo_it(
    cli: CommandLine, service: SmallService
) -> None:
    dry = cli("undo").out
    assert "not undone for 1 entry: finished since (1772438466.0116487+aaaaaa)" in dry
    assert "Dry run: nothing was changed. With --yes: 4 entries put back." in dry
    done = cli.process("undo", "2", "--yes", "--reason", "wrong list").out.splitlines()
    assert done[-2:] == ["Undone: 4 entries put back.", "`drainer undo 3 --yes` takes the undo back."]
    assert [(request.number, request.yes, request.reason) for _, _, request in service.seen] == [
        (None, False, ""),
        (2, True, "wrong list"),
    ]
    refused = cli("undo", "7")
    assert (refused.code, refused.err) == (1, "drainer: there is no action 7\n")
    dropped = cli("drop", "--sender", "ann", "--yes").out
    assert "`drainer undo 2 --yes` takes this back until 2026-03-10 " in dropped
