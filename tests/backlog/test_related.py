"""Entries that share a digest are found, in FIFO order; entries that share none are not."""

from __future__ import annotations

from dataclasses import replace

from drainer.backlog.index import BacklogIndex
from drainer.backlog.values import Description
from drainer.ledger.records import recipient_key
from tests.backlog.entries import TIE, described, digest, fill


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
