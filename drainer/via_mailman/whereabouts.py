"""Where an entry is now that was handed over to Mailman's out/: how to recognise it under another name.

In    the mark an attempt carries in the ledger; entries seen in Mailman's queues
Out   OpenHandover; whether Mailman made a file seen of an entry handed over; its Whereabouts
Pure  values only: no file, no ledger, no clock

Mailman writes an entry anew, under another name, whenever it does not finish it: into retry/ for the recipients refused
for now (all of them while its MTA is down), from there back into out/, into shunt/ when its own code fails. The new file is
there before the old one goes. These stay the same: the list, the Message-ID, `received_time` (2.1 always; 3 for mail that
came by LMTP). No recipient is added, and the file was written after the handover. An entry is another one, a resubmission
or a copy from a backup, if it was there before, if no outgoing runner has had it, or if it names other recipients.
Source  Mailman 3.3.10 core/runner.py, core/switchboard.py, runners/outgoing.py; MAILMAN21.md §1, §7
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b

from drainer.ledger.records import AttemptId, MessageRecord, RecipientKey, recipient_key
from drainer.queuedir.entry import Flavour
from drainer.queuedir.filebase import QueueFile, Suffix
from drainer.queuedir.list_names import list_of, lists_named

WRITTEN_EARLIER_S = 2.0
"""How much older than its release a file of the release may look: file times lag behind the clock by a kernel tick."""

_MARK = re.compile(r"mailman:([0-9a-f]*):([0-9a-f]+(?:,[0-9a-f]+)*):(.+)\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class HandoverMark:
    """Stands in place of the reverse-path in the attempt of an entry handed over, which has no reverse-path of ours. Written
    in one commit with the attempt, it says after a crash what to look for. No reverse-path has a colon outside quotes.

    name      its filebase in out/
    enqueued  see `enqueued_digest`
    identity  the digests the ledger knows the message by
    """

    name: str
    enqueued: str
    identity: tuple[bytes, ...]

    def text(self) -> str:
        return f"mailman:{self.enqueued}:{','.join(digest.hex() for digest in self.identity)}:{self.name}"


def handover_mark(reverse_path: str) -> HandoverMark | None:
    """The mark in the attempt of an entry handed over; None in the attempt of an SMTP transaction."""
    match = _MARK.match(reverse_path)
    if match is None:
        return None
    try:
        return HandoverMark(match[3], match[1], tuple(bytes.fromhex(digest) for digest in match[2].split(",")))
    except ValueError:
        return None


def enqueued_digest(metadata: Mapping[str, object]) -> str:
    """What tells one submission of a mail from another, as far as Mailman notes it; "" if it does not."""
    received = metadata.get("received_time")
    return blake2b(repr(received).encode("utf-8", "replace"), digest_size=8).hexdigest() if received else ""


def was_handled(metadata: Mapping[str, object]) -> bool:
    """Whether an outgoing runner had it in its hands: 3's then notes whether it was VERPed. (2.1 notes it before, but has
    `received_time` to tell by.)"""
    return "verp" in metadata


@dataclass(frozen=True, slots=True)
class OpenHandover:
    """An open attempt: an entry that Mailman has.

    filebase    what it is called in the ledger, and in our custody should it come back
    recipients  whose outcome is not known yet
    retrying    Mailman has it in retry/, for these recipients
    """

    attempt_id: AttemptId
    filebase: str
    mark: HandoverMark
    record: MessageRecord
    recipients: tuple[str, ...]
    at_s: float
    retrying: bool = False


@dataclass(frozen=True, slots=True)
class SeenEntry:
    """An entry in one of Mailman's queues, written since the oldest release. `handled`: see `was_handled`."""

    queue: str
    file: QueueFile
    size_bytes: int
    written_s: float
    list_id: str
    message_id: str
    enqueued: str
    identity: tuple[bytes, ...]
    recipients: tuple[str, ...]
    handled: bool


class Whereabouts(StrEnum):
    """WAITING   in out/, untouched
    CLAIMED   in out/, a runner has it, or died on it
    PUT_BACK  in out/ under another name: Mailman wants to try it again
    RETRYING  in retry/: Mailman goes on with it by itself
    SHUNTED   in shunt/
    BAD       in bad/
    GONE      in none of them: Mailman has finished it
    """

    WAITING = "waiting"
    CLAIMED = "claimed"
    PUT_BACK = "put_back"
    RETRYING = "retrying"
    SHUNTED = "shunted"
    BAD = "bad"
    GONE = "gone"


IN_OUT = frozenset({Whereabouts.WAITING, Whereabouts.CLAIMED, Whereabouts.PUT_BACK})


def whereabouts(
    handover: OpenHandover, out: Collection[str], bad: Collection[str], seen: Iterable[SeenEntry]
) -> tuple[Whereabouts, SeenEntry | None]:
    """Where an entry handed over is now, and the file it is now, if that has another name.

    out, bad  the file names in these queues
    seen      entries of out/, retry/ and shunt/, at the same moment as these
    """
    name = handover.mark.name
    if name + Suffix.WAITING in out:
        return Whereabouts.WAITING, None
    if name + Suffix.CLAIMED in out:
        return Whereabouts.CLAIMED, None
    if name + Suffix.PRESERVED in bad:
        return Whereabouts.BAD, None
    made = [entry for entry in seen if is_made_of(entry, handover)]
    for queue, found in (
        ("shunt", Whereabouts.SHUNTED),
        ("out", Whereabouts.PUT_BACK),
        ("retry", Whereabouts.RETRYING),
    ):
        for entry in made:
            if entry.queue == queue:
                return (Whereabouts.CLAIMED if entry.file.suffix is Suffix.CLAIMED and queue == "out" else found), entry
    return Whereabouts.GONE, None


def is_made_of(seen: SeenEntry, handover: OpenHandover) -> bool:
    """Whether Mailman made this file of the entry handed over.

    The message itself may have changed: retry entries of 2.1, and of 3's bulk delivery, have the header and footer in them
    already. Only mail without a Message-ID has to have the same fingerprint. What is shunted for want of its list was not
    handled; but whatever is in shunt/ and names recipients can only have come from out/, or is for a person all the same.
    """
    keys = set(map(recipient_key, handover.recipients))
    message_id = handover.record.message_id
    return (
        seen.file.filebase != handover.mark.name
        and seen.list_id == handover.record.list_id
        and seen.message_id == message_id
        and (bool(message_id) or not set(handover.record.identity).isdisjoint(seen.identity))
        and seen.enqueued == handover.mark.enqueued
        and (bool(seen.enqueued) or seen.handled or seen.queue == "shunt")
        and seen.written_s >= handover.at_s - WRITTEN_EARLIER_S
        and bool(seen.recipients)
        and keys.issuperset(map(recipient_key, seen.recipients))
    )


def keys_among(recipients: Iterable[str], some: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """`recipients` in two: those that are also in `some`, by recipient key, and the others."""
    wanted: set[RecipientKey] = set(map(recipient_key, some))
    pairs = [(address, recipient_key(address) in wanted) for address in recipients]
    return tuple(a for a, is_in in pairs if is_in), tuple(a for a, is_in in pairs if not is_in)


def is_released_list(list_id: str, flavour: Flavour, names: Collection[str]) -> bool:
    """Whether `mailman.release_lists` names the list, as a list is named everywhere (queuedir/list_names.py)."""
    return any(lists_named(name, (list_of(list_id, flavour),)) for name in names)
