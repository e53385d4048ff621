"""The backlog index: who is next, who came earlier, and totals that are true after any sequence of changes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drainer.backlog.index import BacklogIndex
from drainer.backlog.selection import Selectors
from drainer.backlog.states import EntryState
from drainer.backlog.values import BacklogTotals, Description, Order, tie_order
from drainer.duplicates.classes import DuplicateClass
from drainer.duplicates.fingerprint import Fingerprint
from drainer.duplicates.summary import EntrySummary, fifo_key
from drainer.errors import IndexUnusable
from drainer.ledger.records import recipient_key
from drainer.queuedir.entry import Flavour
from drainer.queuedir.filebase import QueueFile, Suffix
from drainer.queuedir.scan import scan_queue
from drainer.text.foreign import clean

NOW_S = 1_000_000.0


def digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).digest()


def described(
    filebase: str,
    *,
    list_id: str = "birds.example.org",
    identity: tuple[str, ...] = (),
    recipients: int = 2,
    duplicate: DuplicateClass = DuplicateClass.NONE,
    of: str | None = None,
    covered: int = 0,
    subject: str = "",
    sender: str = "ann@example.org",
    resend: str | None = None,
    message_id: str | None = None,
) -> Description:
    fingerprint = Fingerprint(
        identity=tuple(digest(text) for text in identity or (filebase,)),
        resend=digest(resend) if resend else None,
        message_id=digest(message_id) if message_id else None,
        copy=digest("copy " + filebase),
    )
    when_s = float(filebase.partition("+")[0])
    keys = filebase.encode().ljust(10)[:10] * recipients
    summary = EntrySummary(
        filebase, when_s, Flavour.MAILMAN2, list_id, f"<{filebase}@example.org>", sender, subject, 100, recipients,
        keys, False, fingerprint,
    )  # fmt: skip
    return Description(summary, duplicate, of, covered)


TIE = tie_order(described("1.5+any").summary)


def listed(*filebases: str) -> list[tuple[QueueFile, int]]:
    return [(QueueFile(float(name.partition("+")[0]), name, Suffix.WAITING), 100) for name in filebases]


@pytest.fixture
def index(tmp_path: Path) -> Iterator[BacklogIndex]:
    made = BacklogIndex(tmp_path / "index.sqlite")
    yield made
    made.close()


def fill(index: BacklogIndex, *descriptions: Description) -> None:
    index.add_listed(listed(*(description.summary.filebase for description in descriptions)))
    index.describe(descriptions)


def following(
    index: BacklogIndex, order: Order = "fifo", limit: int = 100, paused: frozenset[str] = frozenset(), **more: object
) -> list[str]:
    priority = more.get("priority", ())
    assert isinstance(priority, tuple)
    return [row.filebase for row in index.order.next_waiting(order, NOW_S, paused, limit, priority)]


def test_genuine_directory_is_to_be_read_oldest_first(genuine_queue_dir: Path, index: BacklogIndex) -> None:
    files = list(scan_queue(genuine_queue_dir / "out"))
    for start in range(0, len(files), 50):
        index.add_listed((file.file, file.size_bytes) for file in files[start : start + 50])
    assert index.unread(1000) == [file.file.filebase for file in sorted(files, key=lambda file: file.file)]
    totals = index.totals.overall()
    assert (totals.entries, totals.unread_entries, totals.recipients) == (184, 184, 0)
    assert totals.bytes == sum(file.size_bytes for file in files)
    assert totals.oldest_s == min(file.file.when_s for file in files)


def test_listing_the_same_files_again_changes_nothing(index: BacklogIndex) -> None:
    fill(index, described("1.5+a"))
    index.set_state("1.5+a", EntryState.ACTIVE)
    assert index.add_listed(listed("1.5+a", "2.5+b")) == 1
    assert index.state_of("1.5+a") is EntryState.ACTIVE
    assert index.totals.overall().entries == 2


def test_entries_are_not_delivered_before_they_were_read(index: BacklogIndex) -> None:
    index.add_listed(listed("1.5+a", "2.5+b"))
    index.set_state("1.5+a", EntryState.WAITING)
    assert following(index) == []
    index.describe([described("2.5+b")])
    assert following(index) == ["2.5+b"]


def test_orders(index: BacklogIndex) -> None:
    fill(
        index,
        described("1000.5+a", list_id="birds"),
        described("999.5+b", list_id="birds"),
        described("1001.5+c", list_id="birds"),
        described("1002.5+d", list_id="ships"),
        described("1003.5+e", list_id="clocks"),
    )
    assert following(index, "fair") == ["999.5+b", "1002.5+d", "1003.5+e", "1000.5+a", "1001.5+c"]
    assert following(index, "fair", limit=2) == ["1002.5+d", "1003.5+e"], "the list served last waits for its turn"
    assert following(index, "fifo") == ["999.5+b", "1000.5+a", "1001.5+c", "1002.5+d", "1003.5+e"]
    assert following(index, "fresh") == ["1003.5+e", "1002.5+d", "1001.5+c", "1000.5+a", "999.5+b"]
    assert following(index, "priority", priority=("clocks", "none", "ships")) == [
        "1003.5+e",
        "1002.5+d",
        "999.5+b",
        "1000.5+a",
        "1001.5+c",
    ]


def test_fair_order_gives_each_list_a_turn_also_when_asked_for_one_at_a_time(index: BacklogIndex) -> None:
    fill(index, *(described(f"{number}.5+a", list_id="flood") for number in range(20)))
    fill(index, described("90.5+b", list_id="small"), described("91.5+b", list_id="tiny"))
    lists = []
    for _ in range(6):
        (row,) = index.order.next_waiting("fair", NOW_S, limit=1)
        index.set_state(row.filebase, EntryState.ACTIVE)
        lists.append(row.list_id)
    assert set(lists[:3]) == {"flood", "small", "tiny"}
    assert lists[3:] == ["flood"] * 3


def test_paused_lists_are_passed_over_in_every_order(index: BacklogIndex) -> None:
    fill(
        index, described("1.5+a", list_id="birds"), described("2.5+b", list_id="ships"), described("3.5+c", list_id="x")
    )
    orders: tuple[Order, ...] = ("fifo", "fresh", "fair", "priority")
    for order in orders:
        assert set(following(index, order, paused=frozenset({"birds", "unknown"}), priority=("birds",))) == {
            "2.5+b",
            "3.5+c",
        }


def test_same_message_is_never_active_twice_at_once(index: BacklogIndex) -> None:
    fill(
        index,
        described("1.5+a", identity=("body", "id one")),
        described("2.5+b", identity=("body", "id two")),
        described("3.5+c", identity=("id two",)),
        described("4.5+d"),
    )
    assert following(index) == ["1.5+a", "3.5+c", "4.5+d"]
    index.set_state("1.5+a", EntryState.ACTIVE)
    assert following(index, limit=1) == ["3.5+c"]
    index.set_state("3.5+c", EntryState.ACTIVE)
    index.remove("1.5+a")
    assert following(index) == ["4.5+d"]
    index.set_state("3.5+c", EntryState.DEFERRED, "451 try later", NOW_S + 10)
    assert following(index) == ["2.5+b", "4.5+d"]


def test_deferred_entries_go_again_when_due_and_not_before(index: BacklogIndex) -> None:
    fill(index, described("1.5+a"), described("2.5+b"))
    index.set_state("1.5+a", EntryState.DEFERRED, "451 later", NOW_S + 60)
    assert following(index) == ["2.5+b"]
    assert index.order.next_due_s() == NOW_S + 60
    assert [row.filebase for row in index.order.next_waiting("fifo", NOW_S + 60, limit=9)] == ["1.5+a", "2.5+b"]
    assert index.totals.overall().deferred_recipients == 2, "due, but still one that was deferred"
    assert index.state_of("1.5+a") is EntryState.DEFERRED
    index.set_state("1.5+a", EntryState.ACTIVE)
    assert index.totals.overall().deferred_recipients == 0
    assert index.order.next_due_s() is None


def test_deferral_known_from_the_ledger_waits_for_its_time_although_not_read_yet(index: BacklogIndex) -> None:
    index.add_listed(listed("1.5+a"))
    index.set_state("1.5+a", EntryState.DEFERRED, "451", NOW_S - 1)
    assert following(index) == []
    index.describe([described("1.5+a")])
    assert following(index) == ["1.5+a"]


def test_deferral_without_a_time_is_refused(index: BacklogIndex) -> None:
    fill(index, described("1.5+a"))
    with pytest.raises(ValueError, match="due"):
        index.set_state("1.5+a", EntryState.DEFERRED)


def test_held_entries_are_read_and_counted_apart_and_come_back_when_released(index: BacklogIndex) -> None:
    index.add_listed(listed("1.5+a"), EntryState.HELD)
    fill(index, described("2.5+b", recipients=3))
    assert index.unread(9) == ["1.5+a"]
    index.describe([described("1.5+a", recipients=5)])
    totals = index.totals.overall()
    assert (totals.entries, totals.recipients, totals.oldest_s) == (1, 3, 2.5)
    assert (totals.held_entries, totals.held_recipients, totals.held_bytes) == (1, 5, 100)
    assert following(index) == ["2.5+b"]
    index.set_state("1.5+a", EntryState.WAITING)
    assert following(index) == ["1.5+a", "2.5+b"]
    assert index.totals.overall().oldest_s == 1.5


def test_earlier_entries_with_a_shared_identity_are_found_in_order(index: BacklogIndex) -> None:
    fill(
        index,
        described("3.5+c", identity=("x",)),
        described("1.5+b", identity=("x", "y")),
        described("1.5+a", identity=("y",)),
        described("2.5+z", identity=("z",)),
    )
    found = index.related.earlier_with((digest("x"), digest("y")), (3.5, TIE, "3.5+c"))
    assert [row.filebase for row in found] == ["1.5+a", "1.5+b"]
    assert found[0].recipient_keys == b"1.5+a     " * 2
    assert [row.filebase for row in index.related.earlier_with((digest("y"),), (1.5, TIE, "1.5+b"))] == ["1.5+a"]
    index.remove("1.5+a")
    assert index.related.earlier_with((digest("y"),), (1.5, TIE, "1.5+b")) == []


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.integers(1, 3)), min_size=2, max_size=8),
    st.sampled_from(["fifo", "fair", "priority"]),
)
@settings(max_examples=40, deadline=None)
def test_entries_received_at_the_same_time_go_in_the_order_a_scan_tells(
    facts: list[tuple[bool, int, int]], order: Order
) -> None:
    copies = []
    for number, (decorated, recipients, size) in enumerate(facts):
        one = described(f"1.5+{number}", identity=(f"{number}", "all"), recipients=recipients)
        copies.append(replace(one, summary=replace(one.summary, decorated=decorated, size_bytes=size)))
    in_order = sorted((copy.summary for copy in copies), key=fifo_key)
    index = BacklogIndex(Path(":memory:"))
    fill(index, *copies)
    for number, summary in enumerate(in_order):
        earlier = index.related.earlier_with((digest("all"),), (summary.when_s, tie_order(summary), summary.filebase))
        assert [entry.filebase for entry in earlier] == [before.filebase for before in in_order[:number]]
    picked = []
    for _ in in_order:
        picked += following(index, order)
        index.remove(picked[-1])
    index.close()
    assert picked == [summary.filebase for summary in in_order]


def test_only_what_shares_no_key_is_a_stranger(index: BacklogIndex) -> None:
    fill(index, described("1.5+a", identity=("x", "y"), resend="text", message_id="id"), described("1.6+a"))
    batch = [
        described("2.5+body", identity=("z", "y")),
        described("2.5+text", resend="text"),
        described("2.5+id", message_id="id"),
        described("2.5+one", identity=("p", "q")),
        described("2.5+two", identity=("q", "r")),
        described("2.5+stranger", resend="other", message_id="other"),
    ]
    assert index.related.unrelated([one.summary for one in batch]) == {"2.5+stranger"}


def test_entries_with_one_resend_or_message_id_key_are_found(index: BacklogIndex) -> None:
    fill(
        index,
        described("1.5+a", resend="text", message_id="one"),
        described("2.5+b", resend="text", message_id="two"),
        described("3.5+c"),
    )
    assert [row.filebase for row in index.related.with_resend_key(digest("text"))] == ["1.5+a", "2.5+b"]
    assert [row.filebase for row in index.related.with_message_id_key(digest("two"))] == ["2.5+b"]


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
    (row,) = index.order.next_waiting("fifo", NOW_S)
    assert row.list_id == text
    index.set_state("1.5+a", EntryState.HELD, text)
    (line,) = index.lines.select(Selectors(), NOW_S, 1).lines
    assert line.subject == line.reason == clean(text if text != "\ud800" else "?")


def test_lists_are_totalled_with_most_recipients_first(index: BacklogIndex) -> None:
    fill(
        index,
        described("1.5+a", list_id="birds", recipients=5),
        described("2.5+b", list_id="birds", recipients=7),
        described("3.5+c", list_id="ships", recipients=20),
        described("4.5+d", list_id="clocks", recipients=1),
    )
    index.set_state("1.5+a", EntryState.HELD)
    index.set_state("2.5+b", EntryState.DEFERRED, "", NOW_S)
    index.remove("4.5+d")
    index.add_listed(listed("0.5+unread"))
    rows = [
        (row.list_id, row.entries, row.recipients, row.held_entries, row.deferred_recipients, row.oldest_s)
        for row in index.totals.per_list()
    ]
    assert rows == [("ships", 1, 20, 0, 0, 3.5), ("birds", 1, 7, 1, 7, 2.5)]


def test_settled_recipients_leave_the_totals_before_the_entry_does(index: BacklogIndex) -> None:
    fill(index, described("1.5+a", recipients=1000))
    index.set_state("1.5+a", EntryState.ACTIVE)
    assert index.set_owed("1.5+a", 400)
    assert index.totals.overall().recipients == 400
    assert not index.set_owed("2.5+gone", 1)


def test_renamed_entry_keeps_all_that_is_known_of_it(index: BacklogIndex) -> None:
    fill(index, described("1.5+a", identity=("x",)))
    assert index.rename("1.5+a", "1.5+b")
    assert following(index) == ["1.5+b"]
    assert index.state_of("1.5+a") is None
    assert not index.rename("1.5+a", "1.5+c")


def test_index_starts_empty_whatever_was_left_at_its_path(tmp_path: Path) -> None:
    path = tmp_path / "index.sqlite"
    path.write_bytes(b"not a database")
    BacklogIndex(path).close()
    index = BacklogIndex(path)
    fill(index, described("1.5+a"))
    index.close()
    index = BacklogIndex(path)
    assert index.totals.overall() == BacklogTotals()
    index.close()


def test_index_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(IndexUnusable, match="nowhere"):
        BacklogIndex(tmp_path / "nowhere" / "index.sqlite")


def test_index_on_a_full_disk_halts_instead_of_forgetting(small_filesystem: Path) -> None:
    index = BacklogIndex(small_filesystem / "index.sqlite")
    with pytest.raises(IndexUnusable, match="full"):
        for start in range(0, 1_000_000, 1000):
            index.add_listed(listed(*(f"{number}.5+{'ab' * 20}" for number in range(start, start + 1000))))
    index.close()


CHANGES = ["describe", "waiting", "active", "deferred", "held", "remove", "owed", "again", "due"]


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(
        st.tuples(st.sampled_from(CHANGES), st.integers(0, 4), st.sampled_from(list(DuplicateClass))), max_size=40
    )
)
def test_totals_equal_a_count_of_the_rows_after_any_changes(
    changes: list[tuple[str, int, DuplicateClass]],
) -> None:
    index = BacklogIndex(Path(":memory:"))
    index.add_listed(listed(*(f"{number}.5+a" for number in range(5))))
    now_s = NOW_S
    for change, number, duplicate in changes:
        filebase = f"{number}.5+a"
        match change:
            case "describe":
                index.describe(
                    [
                        described(
                            filebase, list_id=f"list{number % 2}", recipients=number + 1, duplicate=duplicate, covered=1
                        )
                    ]
                )
            case "remove":
                index.remove(filebase)
            case "owed":
                index.set_owed(filebase, number)
            case "again":
                index.add_listed(listed(filebase))
            case "due":
                now_s += 50
                index.order.next_waiting("fair", now_s, limit=2)
            case _:
                index.set_state(filebase, EntryState(change), due_s=now_s + 60 if change == "deferred" else None)
    lines = index.lines.select(Selectors(), now_s, 100).lines
    totals = index.totals.overall()
    free = [line for line in lines if line.state != "held"]
    assert totals.entries == len(free)
    assert totals.held_entries == len(lines) - len(free)
    assert totals.recipients == sum(line.recipients or 0 for line in free)
    assert totals.bytes == sum(line.bytes for line in free)
    assert totals.unread_entries == sum(line.recipients is None for line in lines)
    assert totals.deferred_recipients == sum(line.recipients or 0 for line in free if line.state == "deferred")
    assert totals.duplicate_entries == sum(line.duplicate in ("exact", "restored") for line in free)
    assert totals.oldest_s == min((float(line.entry.partition("+")[0]) for line in free), default=None)
    per_list = index.totals.per_list()
    assert sum(row.entries for row in per_list) == sum(line.recipients is not None for line in free)
    assert sum(row.recipients for row in per_list) == totals.recipients
    going = {row.filebase for row in index.order.next_waiting("fair", now_s, limit=100)}
    assert going == {
        line.entry
        for line in free
        if line.recipients is not None
        and (line.state == "waiting" or (line.state == "deferred" and line.due is not None and line.due <= now_s))
    }
    assert going == {row.filebase for row in index.order.next_waiting("fifo", now_s, limit=100)}
    index.close()


def test_copies_are_who_has_the_same_mail_and_a_recipient_in_common_directly_or_through_another(
    index: BacklogIndex,
) -> None:
    def of(filebase: str, identity: tuple[str, ...], *names: str) -> Description:
        found = described(filebase, identity=identity, recipients=len(names))
        keys = b"".join(recipient_key(f"{name}@example.org") for name in names)
        return replace(found, summary=replace(found.summary, recipient_keys=keys))

    fill(
        index,
        of("1+a", ("one",), "ann", "bob"),
        of("2+b", ("one", "two"), "bob", "eve"),
        of("3+c", ("two",), "eve"),
        of("4+d", ("one",), "ida"),
        of("5+e", ("other",), "ann"),
    )
    for name in ("1+a", "2+b", "3+c"):
        assert index.related.copies_of(name) == {"1+a", "2+b", "3+c"}
    assert index.related.copies_of("4+d") == {"4+d"}
    assert index.related.copies_of("5+e") == {"5+e"}
    index.remove("2+b")
    assert index.related.copies_of("1+a") == {"1+a"}
    assert index.related.copies_of("9+unknown") == {"9+unknown"}


def test_entry_that_names_nobody_is_known_where_domains_have_ceilings(index: BacklogIndex) -> None:
    index.add_listed(listed("1700000001.1+ab"))
    index.describe([replace(described("1700000001.1+ab", recipients=0), limited=(0,))])
    assert index.state_of("1700000001.1+ab") is EntryState.WAITING
