"""One queue entry as we hold it in memory: content and metadata, alike for Mailman 2.1 and 3.

In    the two inert pickles of an entry
Out   a QueueEntry
Pure  no file is touched; read.py does that

What Mailman would do with the recipients is done here, once: 2.1's `undelivered` replaces `recips`, and an address named
twice is taken once. Entries that Mailman could only treat wrongly are refused: from `recips` as plain text it would make a
recipient of every character, and an entry without `recips` it would delete. Only an empty list means: no recipients.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from drainer.errors import EntryGarbage, EntryNotUnderstood, NoRecipientList, WrongQueue
from drainer.pickles.restricted import LoadedPair
from drainer.pickles.standins import Message, StandIn
from drainer.queuedir.misplaced import DEAD_ENDS, home_queue, shunted_from
from drainer.queuedir.plaintext import parsed_plaintext
from drainer.text.foreign import clean

SITE_LIST_OF_2_1 = "mailman"


class Flavour(StrEnum):
    MAILMAN2 = "mailman2"
    MAILMAN3 = "mailman3"

    @property
    def product(self) -> str:
        """As a person calls it."""
        return {"mailman2": "Mailman 2.1", "mailman3": "Mailman 3"}[self.value]


@dataclass(frozen=True, slots=True)
class QueueEntry:
    """A readable entry.

    filebase       its name without suffix
    flavour        which Mailman wrote it
    list_id        2.1: `listname`, "mailman" if absent, as Mailman does; 3: `listid`, "" if absent. As pickled: it leads to
                   the list's directory. People, the index and the ledger know the list by `list_shown`
    recipients     the addresses still owed, in Mailman's order (3 pickles a set: sorted), each once;
                   2.1: `undelivered` replaces `recips` where present, as in Mailman's own delivery
    message        the inert message; of an entry pickled as plain text (`_parsemsg`), what parsing the text gives
    plaintext      the bytes of the mail of a `_parsemsg` entry, else None
    metadata       the second pickle, inert
    raw            the whole file, unchanged
    message_bytes  length of the first pickle in `raw`; the metadata pickle begins there
    """

    filebase: str
    flavour: Flavour
    list_id: str
    recipients: tuple[str, ...]
    message: Message
    plaintext: bytes | None
    metadata: Mapping[str, object]
    raw: bytes
    message_bytes: int

    @property
    def list_shown(self) -> str:
        """The list's name for people, clean."""
        return clean(self.list_id)


def entry_from_pickles(filebase: str, raw: bytes, loaded: LoadedPair) -> QueueEntry:
    """The entry two opened pickles make.

    raw      the whole file that `loaded` was opened from
    Raises   EntryGarbage        the second is no dictionary: Mailman cannot use it either
             EntryNotUnderstood  the first is neither message nor text, the metadata is of no queue entry we know, or its
                                 recipients are not a list of addresses
             NoRecipientList, WrongQueue
    Source   MAILMAN21.md §2 to §4; Mailman 3.3.10 core/switchboard.py, runners/outgoing.py
    """
    metadata = loaded.metadata_object
    if isinstance(metadata, StandIn):
        raise EntryNotUnderstood(f"the metadata is a {type(metadata).__name__}, not a dictionary")
    if not isinstance(metadata, dict):
        raise EntryGarbage(f"the metadata is a {type(metadata).__name__}, not a dictionary")
    if set(map(type, metadata)) - {str}:
        raise EntryNotUnderstood("a metadata key is not text")
    flavour = flavour_of(metadata, loaded.message_object)
    message, plaintext = _content(loaded.message_object, flavour)
    recipients = _recipients_2_1(metadata) if flavour is Flavour.MAILMAN2 else _recipients_3(metadata)
    list_id = list_id_of(metadata, flavour)
    if (home := shunted_from(metadata)) and home.queue in DEAD_ENDS:
        raise WrongQueue(
            f"it was shunted from {home.queue}/ ({home.because}), from where Mailman sends nothing to anybody: move its "
            f"file to {home.queue}/ by hand"
        )
    return QueueEntry(filebase, flavour, list_id, recipients, message, plaintext, metadata, raw, loaded.message_bytes)


def list_id_of(metadata: Mapping[str, object], flavour: Flavour) -> str:
    """The one name under which a list is known here: to the ledger, to duplicates, to `--list`.

    Mailman 3 goes by `listid`, and where there is none by the list's address in `listname`. The list-id made of an address
    is the right one unless the list was renamed; the co-process, which knows, composes nothing then (coprocess/serve.py).

    Raises  EntryNotUnderstood
    """
    if flavour is Flavour.MAILMAN2:
        return _text_of(metadata, "listname", SITE_LIST_OF_2_1)
    if "listid" in metadata:
        return _text_of(metadata, "listid", "")
    return _text_of(metadata, "listname", "").replace("@", ".")


def flavour_of(metadata: Mapping[str, object], message_object: object) -> Flavour:
    """Which Mailman wrote an entry. Its metadata says it, or, if that has no such key, the class of its message.

    Raises  EntryNotUnderstood if neither says it
    """
    if "listid" in metadata or "recipients" in metadata:
        return Flavour.MAILMAN3
    if "recips" in metadata or "undelivered" in metadata:
        return Flavour.MAILMAN2
    if isinstance(message_object, Message) and message_object.pickled_as.startswith(("Mailman.", "mailman.")):
        return Flavour.MAILMAN2 if message_object.pickled_as.startswith("Mailman.") else Flavour.MAILMAN3
    if "listname" in metadata:  # both have it
        return Flavour.MAILMAN2
    if isinstance(message_object, Message):
        return Flavour.MAILMAN3
    if "version" in metadata:
        return Flavour.MAILMAN2 if isinstance(metadata.get("received_time"), float) else Flavour.MAILMAN3
    raise EntryNotUnderstood("the metadata has nothing of a queue entry")


def _content(message_object: object, flavour: Flavour) -> tuple[Message, bytes | None]:
    if isinstance(message_object, Message):
        return message_object, None
    if isinstance(message_object, str | bytes):
        name = "Mailman.Message" if flavour is Flavour.MAILMAN2 else "mailman.email.message"
        return parsed_plaintext(message_object, name)
    raise EntryNotUnderstood(f"the first pickle is a {type(message_object).__name__}, not a message")


def _text_of(metadata: Mapping[str, object], key: str, default: str) -> str:
    value = metadata.get(key, default)
    if not isinstance(value, str):
        raise EntryNotUnderstood(f"metadata {key!r} is a {type(value).__name__}, not text")
    return value


def _recipients_2_1(metadata: Mapping[str, object]) -> tuple[str, ...]:
    if "undelivered" not in metadata:
        return _addresses(_present(metadata, "recips"), "recips")
    chunks = metadata["undelivered"]
    if not isinstance(chunks, list | tuple):
        raise EntryNotUnderstood(f"metadata 'undelivered' is a {type(chunks).__name__}, not a list of lists")
    return _unique(address for chunk in chunks for address in _addresses(chunk, "undelivered"))


def _recipients_3(metadata: Mapping[str, object]) -> tuple[str, ...]:
    recipients = _present(metadata, "recipients")
    addresses = _addresses(recipients, "recipients")
    return tuple(sorted(addresses)) if isinstance(recipients, set | frozenset) else addresses


def _present(metadata: Mapping[str, object], key: str) -> object:
    """What the metadata has under the key. Raises NoRecipientList for nothing and for None."""
    value = metadata.get(key)
    if value is not None:
        return value
    missing = f"{key!r} is None" if key in metadata else f"there is no {key!r}"
    home = home_queue(metadata)
    if home is None:
        raise NoRecipientList(
            f"{missing} in its metadata, and nothing says which queue it belongs in; in out/ Mailman would delete it unsent"
        )
    raise NoRecipientList(
        f"{missing} in its metadata: it belongs in {home.queue}/ ({home.because}), move its file there by hand; in out/ "
        "Mailman would delete it unsent"
    )


def _addresses(value: object, key: str) -> tuple[str, ...]:
    """The addresses, each once. Mailman walks over whatever it is given: of a dictionary it takes the keys."""
    if not isinstance(value, list | tuple | set | frozenset | dict):
        raise EntryNotUnderstood(f"metadata {key!r} is a {type(value).__name__}, not a list of addresses")
    if set(map(type, value)) - {str}:
        strange = next(address for address in value if not isinstance(address, str))
        raise EntryNotUnderstood(f"metadata {key!r} names {repr(strange)[:60]} as a recipient, which is not text")
    return _unique(value)


def _unique(addresses: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(addresses))
