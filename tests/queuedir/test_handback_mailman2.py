"""What is handed back to Mailman 2.1, held against what it put into its own retry queue for the same recipients."""

from __future__ import annotations

import pickletools
from pathlib import Path

import pytest

from drainer.queuedir.entry import QueueEntry
from drainer.queuedir.narrow import with_recipients
from drainer.queuedir.read import read_entry

FAILURES = Path(__file__).parent.parent / "samples" / "mailman2" / "failures"
PAIRS = sorted(
    (entry, retry) for case in FAILURES.iterdir() for entry in case.glob("entry--*") for retry in case.glob("retry--*")
)


def metadata_opcodes(entry: QueueEntry) -> dict[str, list[str]]:
    """The kinds of string opcodes the metadata pickle uses, and those between `recips` and the end of its list."""
    names: list[str] = []
    of_recips: list[str] = []
    inside = False
    for opcode, argument, _ in pickletools.genops(entry.raw[entry.message_bytes :]):
        if "STRING" in opcode.name or "UNICODE" in opcode.name:
            names.append(opcode.name)
            if inside:
                of_recips.append(opcode.name)
            inside = inside or argument == "recips"
        elif inside and opcode.name in ("APPENDS", "APPEND", "SETITEM", "SETITEMS", "BUILD"):
            inside = False
    return {"all": sorted(set(names)), "recips": sorted(set(of_recips))}


@pytest.mark.parametrize(("before", "after"), PAIRS, ids=[before.parent.name for before, _ in PAIRS])
def test_narrowed_entry_is_to_mailman_what_its_own_retry_entry_is(before: Path, after: Path, tmp_path: Path) -> None:
    entry, retry = read_entry(before), read_entry(after)
    keep = [address for address in entry.recipients if address in set(retry.recipients)]

    path = tmp_path / f"{entry.filebase.removeprefix('entry--')}.pck"
    path.write_bytes(with_recipients(entry, keep))
    narrowed = read_entry(path)

    assert set(narrowed.recipients) == set(retry.recipients)
    assert narrowed.raw[: narrowed.message_bytes] == entry.raw[: entry.message_bytes]
    shared = (narrowed.metadata.keys() & retry.metadata.keys()) - {"recips", "undelivered"}
    assert shared >= {"listname", "received_time", "version", "_parsemsg"}
    for key in shared:
        assert type(narrowed.metadata[key]) is type(retry.metadata[key])
    assert {key: narrowed.metadata[key] for key in ("listname", "received_time", "version", "_parsemsg")} == {
        key: retry.metadata[key] for key in ("listname", "received_time", "version", "_parsemsg")
    }
    ours, mailmans = metadata_opcodes(narrowed), metadata_opcodes(retry)
    assert ours["recips"] == mailmans["recips"] != []
    assert "BINUNICODE" not in ours["all"]


def test_every_kind_of_failure_is_compared() -> None:
    assert len(PAIRS) >= 12
