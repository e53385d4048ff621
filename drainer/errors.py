"""What can go wrong, grouped by what the caller does next.

EntryError   this entry cannot go on: set it aside with its `reason`, take the next one
ComposeError this entry cannot be composed: hold it with its `reason`
MtaError     a state of the MTA, not of an entry: defer, slow down, try again
HaltError    stop feeding: to go on could deliver mail twice or lose it
SettingsError, UsageError   the operator must change something before the start
"""

from __future__ import annotations

from drainer.text.foreign import clean


class DrainerError(Exception):
    """Base of every error that drainer raises on purpose; its text is written for an operator."""


class SettingsError(DrainerError):
    """A setting is unknown, impossible or contradicts another; the text names key, value and what would be right."""


class UsageError(DrainerError):
    """A command has an argument that it cannot use."""


class ServiceNotRunning(DrainerError):
    """No service answers on the control socket (exit status 3)."""


class ServiceSilent(DrainerError):
    """The service accepted a request and did not answer in time: it hangs, or is very busy."""


class SiteUnreadable(DrainerError):
    """For commands that work without the service: ledger or custody is missing, or this user may not read it."""


class NoRoomForSocket(DrainerError):
    """The filesystem of the control socket is full or over quota: the service runs without the socket and tries again."""


class RequestRefused(DrainerError):
    """The service refused the request; the text is its reason."""


class UnknownList(RequestRefused):
    """No list has the given name; the text lists the nearest names."""


class AmbiguousList(RequestRefused):
    """Several lists have the given name; the text lists their addresses, which differ."""


class AmbiguousEntry(RequestRefused):
    """Several entries begin with the given name; the text lists some of them."""


class OperatorStateChanged(RequestRefused):
    """Pauses or rates were changed between the moment they were read and the decision that was made of them.

    version  of the state the decision was made of
    """

    def __init__(self, version: int) -> None:
        self.version = version
        super().__init__(
            "somebody else changed pauses or rates at the same moment; right would be to look (`drainer status`) and to "
            "decide again"
        )


class EntryError(DrainerError):
    """One queue entry is unusable. `reason` is a short fixed word for logs, counters and the operator.

    detail  may quote the entry; control characters are removed (text/foreign.py)
    """

    reason = "entry_error"

    def __init__(self, detail: str) -> None:
        self.detail = clean(detail)
        super().__init__(f"{self.reason}: {self.detail}")


class EntryVanished(EntryError):
    """The file no longer exists: another process (Mailman's runner) took it."""

    reason = "vanished"


class EntryFinished(EntryVanished):
    """The entry has left custody: it was delivered, or an operator's decision was carried out."""

    reason = "finished"


class EntryUnreadable(EntryError):
    """drainer cannot read the file as a queue entry.

    belongs_in_bad  Mailman cannot load it either, and would move it to bad/ itself. False: Mailman may be able to load it,
                    so it is held, and not moved to bad/, which Mailman's own cron job empties after a week
    """

    reason = "unreadable"
    belongs_in_bad = False


class EntryEmpty(EntryUnreadable):
    reason = "empty"
    belongs_in_bad = True


class EntryTruncated(EntryUnreadable):
    reason = "truncated"
    belongs_in_bad = True


class EntryGarbage(EntryUnreadable):
    """The file does not contain pickles, or the second one is not a metadata dictionary."""

    reason = "garbage"
    belongs_in_bad = True


class EntryTooLarge(EntryUnreadable):
    reason = "too_large"


class UnsafePickle(EntryUnreadable):
    """The pickle names an object that is not on the allowed list, or would take more memory than its size justifies."""

    reason = "unsafe_pickle"


class EntryNotUnderstood(EntryUnreadable):
    """Mailman can load the two pickles, but they contain something that drainer cannot deliver."""

    reason = "not_understood"


class NoRecipientList(EntryUnreadable):
    """The entry has no list of recipients, which is different from an empty list: Mailman would lose it."""

    reason = "no_recipient_list"


class WrongQueue(EntryUnreadable):
    """The entry was moved into this queue from a queue of which Mailman delivers nothing."""

    reason = "wrong_queue"


class MoreThanCap(EntryError):
    """A transaction that cannot be cut has more recipients than a cap allows within its window.

    most  recipients that it allows
    """

    reason = "more_than_cap"

    def __init__(self, recipients: int, most: int) -> None:
        self.most = most
        super().__init__(f"{recipients} recipients go at once or not at all, and a cap allows {most}")


class ComposeError(EntryError):
    """The entry is readable, but its envelope and content cannot be composed: hold it, never send it half right."""

    reason = "cannot_compose"


class OtherMailman(ComposeError):
    """The entry is from the other Mailman (2.1 or 3); drainer composes for one of them only."""

    reason = "other_mailman"


class NoSuchList(ComposeError):
    reason = "no_such_list"


class ListConfigUnreadable(ComposeError):
    reason = "list_config_unreadable"


class MembersElsewhere(ComposeError):
    """The delivery needs members of a Mailman 2.1 list, and its config.pck does not contain them."""

    reason = "members_elsewhere"


class ComposerFailed(ComposeError):
    """Mailman's own code raised an error while composing this entry, or the co-process died on it repeatedly."""

    reason = "composer_failed"


class CoprocessBroke(ComposerFailed):
    """The co-process died or hung on this entry, and so did a second one."""


class ComposeDeferred(ComposeError):
    """The database or template server that Mailman needs does not answer now: try later, as Mailman's runner does."""

    reason = "compose_later"


class ComposerUnavailable(DrainerError):
    """The co-process cannot be started; the text has a command to try by hand. It is not the fault of an entry."""


class CustodyRefused(DrainerError):
    """The queue cannot be taken into custody; the text says why, and what would be right."""


class MtaError(DrainerError):
    """The MTA failed, not the entry. The text may quote the MTA; control characters are removed (text/foreign.py)."""

    def __init__(self, text: str) -> None:
        super().__init__(clean(text))


class MtaUnreachable(MtaError, ConnectionError):
    """No session could be opened."""

    def __init__(self, host: str, port: int, detail: str) -> None:
        self.host = host
        self.port = port
        self.detail = clean(detail)
        super().__init__(f"cannot open an SMTP session with {host}:{port}: {self.detail}")


class MtaRefusesLogin(MtaError):
    """AUTH or STARTTLS failed: it is retried like an outage, but an operator should look at it."""


class MtaLogUnreadable(DrainerError):
    """The MTA's log cannot be read; the text names the file and the reason."""


class HaltError(DrainerError):
    """Stop feeding now."""


class BuildMixed(HaltError):
    """Machine code is installed beside another source than it was compiled from."""

    def __init__(self, detail: str) -> None:
        super().__init__(f"{detail}; right would be to install drainer again: pip install --force-reinstall")


class LedgerNotDurable(HaltError):
    """The ledger could not commit (disk full, I/O error). Sending waits until it can."""


class LedgerUnusable(HaltError):
    """The ledger is damaged, has a newer version, or is not a ledger of drainer."""


class IndexUnusable(HaltError):
    """The backlog index cannot be written or read. It is a cache: the next start rebuilds it from the files."""


class IllegalTransition(HaltError):
    """A delivery, a DSN or an entry would change its state against a table of legal transitions: a bug. Feeding stops."""
