"""What logs say was delivered before: for `drainer import-log`.

In    LogLines of Postfix or Exim; text lines of Mailman's smtp log (2.1: logs/smtp, 3: smtp.log)
Out   Delivered, one per message and list; and how much there was that could not be used
Pure  no file is read, no clock

Delivered are recipients that the MTA passed on ("sent"), and those deferred in its queue at the end of the log: the MTA goes
on with them. Recipients refused for good are not, nor those whose mail left the queue undelivered. Mailman's own log names
only refused recipients. It counts if it names every one of them and says that the MTA accepted all others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from drainer.duplicates.known_from_log import lists_named, lists_named_by
from drainer.mta_log.answer import signs_of
from drainer.mta_log.lines import LogLine, MailLine
from drainer.mta_log.mailman_smtp_log import SmtpLog, is_mailman_line
from drainer.mta_log.postfix import PostfixReader


@dataclass(frozen=True, slots=True)
class Delivered:
    """Of one message on one list.

    lists       names the list may have in an entry
    recipients  those that had it
    carried     None, or how many recipients a delivery of Mailman's had. Then `recipients` are those refused in it, and the
                MTA accepted it for all others
    """

    lists: tuple[str, ...]
    message_id: str
    recipients: tuple[str, ...]
    at_s: float
    carried: int | None = None


@dataclass(slots=True)
class Unused:
    """Mails and recipients of the log that taught nothing.

    failed_deliveries   Mailman's, without an accepted recipient
    unclear_deliveries  Mailman's, where the log does not say which recipients the MTA accepted
    """

    mails_of_no_list: int = 0
    mails_without_message_id: int = 0
    refused_recipients: int = 0
    undelivered_recipients: int = 0
    failed_deliveries: int = 0
    unclear_deliveries: int = 0


@dataclass(slots=True)
class _Mail:
    message_id: str = ""
    reverse_path: str | None = None
    at_s: float = 0.0
    states: dict[str, str] = field(default_factory=dict)


class DeliveriesInLog:
    """Fed the lines of one log after the other, oldest first."""

    def __init__(self) -> None:
        self.unused = Unused()
        self.mails = 0
        self._postfix = PostfixReader()
        self._open: dict[tuple[str, str], _Mail] = {}
        self._done: dict[tuple[tuple[str, ...], str], dict[str, float]] = {}
        self._mailman = SmtpLog(everything=True)

    def feed(self, lines: Iterable[LogLine]) -> None:
        for line in lines:
            said = signs_of(line, self._postfix)
            if isinstance(said, MailLine):
                self._note(said, line.at_s)

    def feed_mailman(self, lines: Iterable[str]) -> None:
        self._mailman.feed(line for line in lines if is_mailman_line(line))

    def _note(self, said: MailLine, at_s: float) -> None:
        name = (said.instance, said.queue_id)
        if said.message_id is not None:
            self._end(name)
            self._open[name] = _Mail(said.message_id)
        mail = self._open.get(name)
        if mail is None:
            return
        mail.reverse_path = said.reverse_path if said.reverse_path is not None else mail.reverse_path
        if said.to is not None and said.status:
            mail.at_s = at_s
            # A recipient delivered to under another name counts under the name that the client used.
            mail.states[said.ordered_as or said.to] = said.status
        if said.ended or said.refused:
            self._end(name)

    def _end(self, name: tuple[str, str], in_queue: bool = False) -> None:
        mail = self._open.pop(name, None)
        if mail is None or mail.reverse_path is None:
            return
        self.mails += 1
        had = {"sent", "deferred"} if in_queue else {"sent"}
        self.unused.refused_recipients += sum(state == "failed" for state in mail.states.values())
        self.unused.undelivered_recipients += sum(state not in had | {"failed"} for state in mail.states.values())
        lists = lists_named_by(mail.reverse_path)
        if not lists:
            self.unused.mails_of_no_list += 1
        elif not mail.message_id:
            self.unused.mails_without_message_id += 1
        else:
            recipients = self._done.setdefault((lists, mail.message_id), {})
            recipients.update((address, mail.at_s) for address, state in mail.states.items() if state in had)

    def deliveries(self, has_failure_log: bool = True) -> Iterator[Delivered]:
        """All that the logs taught, once they have been fed.

        has_failure_log  whether 2.1's logs/smtp-failure was among them: 2.1 writes "success" to logs/post also when the MTA
                         refused the content
        """
        for name in list(self._open):
            self._end(name, in_queue=True)
        for (lists, message_id), recipients in self._done.items():
            if recipients:
                yield Delivered(lists, message_id, tuple(recipients), max(recipients.values()))
        for message_id, one in self._mailman.deliveries():
            if one.accepted == 0:
                self.unused.failed_deliveries += 1
            elif not (message_id and one.list_name and one.names_all_refused) or (one.is_of_21 and not has_failure_log):
                self.unused.unclear_deliveries += 1
            else:
                yield Delivered(lists_named(one.list_name), message_id, tuple(one.refusals), one.at_s, one.recipients)
