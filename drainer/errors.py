"""What can go wrong, grouped by what the caller does next.

EntryError   this entry cannot go on: set it aside with its `reason`, take the next
ComposeError this entry cannot be composed: hold it with its `reason`
MtaError     the MTA's state, nobody's fault: defer, slow down, try again
HaltError    stop feeding: going on could deliver twice or lose mail
SettingsError, UsageError   the operator has to change something before we start
"""

from __future__ import annotations

from drainer.text.foreign import clean


class DrainerError(Exception):
    """Everything raised on purpose; its text is fit for an operator."""


class SettingsError(DrainerError):
    """A setting is unknown, impossible or contradicts another; the text names key, value and what would be right."""


class UsageError(DrainerError):
    """A command was given something it cannot use."""


class ServiceNotRunning(DrainerError):
    """Nobody answers on the control socket (exit status 3)."""


class ServiceSilent(DrainerError):
    """The service took a question and gave no answer in time: it hangs, or is very busy."""


class SiteUnreadable(DrainerError):
    """Without the service: ledger or custody is not there, or not for this user to read."""


class NoRoomForSocket(DrainerError):
    """The filesystem of the control socket is full or over quota: the service goes on without, and tries again."""


class RequestRefused(DrainerError):
    """The service answered, and said no; the text is its reason."""


class UnknownList(RequestRefused):
    """No list is known by the name that was given; the text has the nearest ones."""


class AmbiguousList(RequestRefused):
    """Several lists are known by the name that was given; the text has the addresses that tell them apart."""


class AmbiguousEntry(RequestRefused):
    """Several entries begin with the name that was given; the text has some of them."""


class EntryError(DrainerError):
    """One queue entry is unusable. `reason` is a short fixed word for logs, counters and the operator.

    detail  may quote the entry: it is made clean
    """

    reason = "entry_error"

    def __init__(self, detail: str) -> None:
        self.detail = clean(detail)
        super().__init__(f"{self.reason}: {self.detail}")


class EntryVanished(EntryError):
    """The file was gone when we came to it: somebody else (Mailman's runner) took it."""

    reason = "vanished"


class EntryFinished(EntryVanished):
    """It is in custody no more: delivered, or an operator's decision was carried out."""

    reason = "finished"


class EntryUnreadable(EntryError):
    """drainer makes no queue entry of the file.

    belongs_in_bad  Mailman cannot load it either, and would move it to bad/ itself. False: Mailman may load it, so it is
                    held: Mailman's own cron job empties bad/ after a week
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
    """Not pickles, or the second is no metadata dictionary."""

    reason = "garbage"
    belongs_in_bad = True


class EntryTooLarge(EntryUnreadable):
    reason = "too_large"


class UnsafePickle(EntryUnreadable):
    """The pickle names something that is not on the allowed list, or would cost more than its size justifies."""

    reason = "unsafe_pickle"


class EntryNotUnderstood(EntryUnreadable):
    """Two pickles that Mailman can load, with something in them that drainer does not know how to deliver."""

    reason = "not_understood"


class NoRecipientList(EntryUnreadable):
    """The entry has no list of recipients at all, which is not the same as an empty one: Mailman would lose it."""

    reason = "no_recipient_list"


class WrongQueue(EntryUnreadable):
    """The entry was moved into this queue from one that Mailman never delivers from."""

    reason = "wrong_queue"


class ComposeError(EntryError):
    """The entry is readable but its envelope and content cannot be made: hold it, never send it half right."""

    reason = "cannot_compose"


class OtherMailman(ComposeError):
    """The other Mailman wrote this entry, and only one of them is composed for."""

    reason = "other_mailman"


class NoSuchList(ComposeError):
    reason = "no_such_list"


class ListConfigUnreadable(ComposeError):
    reason = "list_config_unreadable"


class MembersElsewhere(ComposeError):
    """Delivery asks for members of a Mailman 2.1 list that its config.pck does not have."""

    reason = "members_elsewhere"


class ComposerFailed(ComposeError):
    """Mailman's own code raised while composing this entry, or the co-process died on it repeatedly."""

    reason = "composer_failed"


class CoprocessBroke(ComposerFailed):
    """The co-process died on this entry, or hung, and so did a second one."""


class ComposeDeferred(ComposeError):
    """What Mailman needs for it (database, template server) does not answer now: try later, as its runner does."""

    reason = "compose_later"


class ComposerUnavailable(DrainerError):
    """The co-process cannot be started at all; the text carries the command to try by hand. No entry is to blame."""


class CustodyRefused(DrainerError):
    """The queue cannot be taken into custody; the text says why and what would make it right."""


class MtaError(DrainerError):
    """The MTA did not do its part; the entry is not to blame. The text may quote the MTA: it is made clean."""

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
    """AUTH or STARTTLS failed: retried like an outage, but worth a person's look."""


class MtaLogUnreadable(DrainerError):
    """The MTA's log cannot be read; the text names it and the reason."""


class HaltError(DrainerError):
    """Stop feeding now."""


class LedgerNotDurable(HaltError):
    """The ledger could not commit (disk full, I/O error). Sending waits until it can."""


class LedgerUnusable(HaltError):
    """The ledger is damaged, of a newer version, or not ours."""


class IndexUnusable(HaltError):
    """The backlog index, a cache, cannot be written or read; it is rebuilt from the files at the next start."""


class IllegalTransition(HaltError):
    """A delivery, a DSN or an entry of the backlog was to change state against its table of legal transitions: a bug."""
