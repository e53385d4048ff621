"""What an operator selects: by any selector, and as lines that are fit to be shown."""

from __future__ import annotations

import pytest

from drainer.backlog.index import BacklogIndex
from drainer.backlog.selection import Selectors
from drainer.backlog.states import EntryState
from drainer.duplicates.classes import DuplicateClass
from drainer.text.foreign import clean
from tests.backlog.entries import NOW_S, described, fill, listed


def test_selectors(index: BacklogIndex) -> None:
    fill(
        index,
        described("999000.5+a", list_id="birds.example.org", subject="Häher IM 100%_Garten", sender="Ann@example.org"),
        described("999900.5+b", list_id="ships.example.org", subject="Re: hulls", duplicate=DuplicateClass.EXACT,
                  of="999000.5+a", covered=2),
    )  # fmt: skip
    index.add_listed(listed("999999.5+c"))
    index.set_state("999000.5+a", EntryState.HELD, "resend")

    def matching(**selectors: object) -> str:
        wanted = Selectors.model_validate(selectors)
        selection = index.lines.select(wanted, NOW_S, 10)
        found = index.lines.matching(wanted, NOW_S)
        assert [line.entry for line in selection.lines] == found and selection.total == len(found)
        return "".join(filebase[-1] for filebase in found)

    assert matching() == "abc"
    assert matching(list="birds.example.org") == "a"
    assert matching(list="birds") == ""
    both = {"birds.example.org", "ships.example.org"}
    assert index.lines.matching(Selectors(list="*.example.org"), NOW_S, both) == ["999000.5+a", "999900.5+b"]
    assert matching(list="nowhere") == ""
    assert matching(subject="häHER") == "a"
    assert matching(subject="100%_") == "a"
    assert matching(subject="%") == "a"
    assert matching(subject="im") == "a"
    assert matching(sender="ANN@", list="ships.example.org") == "b"
    assert matching(message_id="<999900.5+b@") == "b"
    assert matching(duplicate="exact") == "b"
    assert matching(duplicate="none") == "a"
    assert matching(state="waiting") == "bc"
    assert matching(state="held") == "a"
    assert matching(older_than_s=500) == "a"
    assert matching(younger_than_s=500) == "bc"
    assert matching(entry="9999") == "bc"
    assert matching(state="waiting", entry="999900.5+b") == "b"


def test_lines_say_what_the_operator_needs(index: BacklogIndex) -> None:
    fill(index, described("999900.5+b", list_id="ships", subject="hulls", duplicate=DuplicateClass.PARTIAL,
                          of="1.5+a", covered=1))  # fmt: skip
    index.set_state("999900.5+b", EntryState.DEFERRED, "451 later", NOW_S + 5)
    index.add_listed(listed("999990.5+c"))
    selection = index.lines.select(Selectors(), NOW_S, 1)
    assert (selection.total, selection.recipients, len(selection.lines)) == (2, 2, 1)
    line = selection.lines[0]
    assert (line.entry, line.state, line.list, line.subject) == ("999900.5+b", "deferred", "ships", "hulls")
    assert (line.recipients, line.bytes, line.age_s, line.due) == (2, 100, 99.5, NOW_S + 5)
    assert (line.duplicate, line.of, line.reason) == ("partial", "1.5+a", "451 later")
    (unread,) = index.lines.select(Selectors(entry="999990"), NOW_S, 1).lines
    assert (unread.state, unread.recipients) == ("waiting", None)


@pytest.mark.parametrize("text", ["caf\udce9", "\ud800", "a\x00b", "\u202e", "🐦"])
def test_any_text_of_a_mail_can_be_kept_as_it_is_and_is_shown_clean(index: BacklogIndex, text: str) -> None:
    fill(index, described("1.5+a", list_id=text, subject=text, sender=text))
    (row,) = index.order.next_waiting("oldest", NOW_S)
    assert row.list_id == text
    index.set_state("1.5+a", EntryState.HELD, text)
    (line,) = index.lines.select(Selectors(), NOW_S, 1).lines
    assert line.subject == line.reason == clean(text if text != "\ud800" else "?")
