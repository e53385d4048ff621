"""Every setting with its unit, default and meaning. The descriptions are the documentation: config/drainer.toml and
docs/settings.md are made from them.

In    a mapping, as read from TOML and the environment by settings_file.py
Out   a frozen Settings; unknown keys and impossible values are refused with key, value and what would be right
Pure  no file, no environment
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from drainer.text.quantities import duration_s, rate_per_s, size_bytes, tcp_address

_URL = re.compile(r"[a-z][a-z0-9+.-]*:/", re.IGNORECASE)
_JOURNAL = re.compile(r"journal(:|\Z)")

DEFAULT_PATH = Path("/etc/drainer/drainer.toml")

Duration = Annotated[float, BeforeValidator(duration_s)]
Rate = Annotated[float | None, BeforeValidator(rate_per_s)]
Size = Annotated[int, BeforeValidator(size_bytes)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    @field_validator("*")
    @classmethod
    def _is_a_full_path(cls, value: object, info: ValidationInfo) -> object:
        """A relative path would depend on the directory in which drainer was started."""
        if isinstance(value, Path):
            if info.field_name == "log_file" and _JOURNAL.match(str(value)):
                return value
            if _URL.match(str(value)):
                raise ValueError(
                    "is a URL, not a file; right would be the path of a file with that URL on its first line"
                )
            if not value.is_absolute():
                raise ValueError(f"not a full path; right would begin with /, such as {str('/etc' / value)!r}")
        return value

    @field_validator("*")
    @classmethod
    def _has_no_nul(cls, value: object) -> object:
        """No name of a file or host can contain NUL, and system calls with such a name fail with misleading errors."""
        if isinstance(value, str | Path) and "\0" in str(value):
            raise ValueError("contains a NUL character; right would be a text without it")
        return value


class MailmanSettings(_Section):
    flavour: Literal["auto", "mailman3", "mailman2"] = Field(
        "auto", description="which Mailman wrote the queue; auto: the entries show it"
    )
    queue_dir: Path = Field(
        Path("/var/lib/mailman3/queue"),
        description="the directory that holds out/, bad/, shunt/, ... (2.1: /var/lib/mailman/qfiles)",
    )
    config: Path | None = Field(None, description="Mailman 3: its mailman.cfg; not set: Mailman looks for it")
    python: Path = Field(
        Path("/usr/bin/python3"),
        description="Mailman 3: the Python that can `import mailman`; composers run in it",
    )
    coprocesses: int = Field(2, ge=1, le=64, description="Mailman 3: number of composers that run in parallel")
    remember: Duration = Field(
        60.0,
        description="Mailman 3: how long a composer keeps list settings and templates; a change takes effect after that",
    )
    lists_dir: Path = Field(
        Path("/var/lib/mailman/lists"), description="Mailman 2.1: the directory that holds <list>/config.pck"
    )
    settings: dict[str, str | int | float | bool] = Field(
        default_factory=dict,
        description="Mailman 2.1: values of mm_cfg.py that differ from its defaults, such as VERP_FORMAT, SMTP_MAX_RCPTS;"
        " `drainer config --mm-cfg FILE` finds them",
    )
    release_lists: tuple[str, ...] = Field(
        (),
        description="lists whose entries Mailman's own runner must deliver (custom handlers, encryption): name, address or"
        ' list-id, such as "secret@lists.example.org"',
    )
    smtp_log: Path | None = Field(
        None,
        description="Mailman's own log of deliveries (3: smtp.log; 2.1: logs/smtp); it shows what became of entries that its"
        " runner delivered",
    )


class CustodySettings(_Section):
    queues: tuple[Literal["out", "retry"], ...] = Field(
        ("out",), description="queues from which entries are taken; add retry after an outage of the MTA"
    )
    scope: Literal["all", "backlog"] = Field(
        "all",
        description="all: take every entry; backlog: take entries that were there at the start, leave new mail to Mailman",
    )
    beside_runner: bool = Field(
        False,
        description="false: drainer does not start while Mailman's own outgoing runner delivers from the same queue, since"
        " recipients could get second copies; true: drainer starts in any case",
    )
    bak_age: Duration = Field(
        3600.0, description="a .bak file older than this is taken if no outgoing runner is running"
    )
    poll: Duration = Field(1.0, gt=0, description="interval between two looks at the queue directory")

    @model_validator(mode="after")
    def _out_is_there(self) -> CustodySettings:
        if "out" not in self.queues:
            raise ValueError('queues must contain "out"; right would be ["out"] or ["out", "retry"]')
        return self


class MtaSettings(_Section):
    host: str = Field("127.0.0.1", min_length=1, description="the MTA: its host name or address")
    port: int = Field(25, ge=1, le=65535, description="its port")
    helo: str = Field("", description="host name to send with EHLO; empty: the fully qualified name of this machine")
    tls: Literal["none", "starttls", "implicit"] = Field("none", description="encryption of the session")
    tls_ca_file: Path | None = Field(None, description="file of CA certificates to trust instead of the system's")
    username: str = Field("", description="user name for AUTH; empty: no AUTH")
    password_file: Path | None = Field(
        None, description="file with the password for AUTH on its first line; refused if every user may read it"
    )
    sessions: int = Field(20, ge=1, le=1000, description="most SMTP sessions open at one time")
    transactions_per_session: int = Field(
        100, ge=1, description="a session is closed and opened again after this many transactions"
    )
    connect_timeout: Duration = Field(30.0, gt=0, description="timeout for connecting and for TLS")
    command_timeout: Duration = Field(
        300.0, gt=0, description="timeout for the replies to EHLO, MAIL, RCPT and DATA; RFC 5321 §4.5.3.2: 5 minutes"
    )
    content_timeout: Duration = Field(
        180.0, gt=0, description="timeout for sending each block of content; RFC 5321 §4.5.3.2.5: 3 minutes"
    )
    final_dot_timeout: Duration = Field(
        600.0, gt=0, description="timeout for the reply to the final dot; RFC 5321 §4.5.3.2.6: 10 minutes"
    )
    log_file: Path | None = Field(
        None,
        description="log of Postfix or Exim, with its rotated files, to look up recipients in doubt; or journald:"
        ' "journal" (the facility mail), "journal:UNIT", "journal:/DIRECTORY"',
    )
    queue: Literal["none", "postfix", "exim"] = Field("none", description="the MTA whose queue length is watched")
    queue_config: Path | None = Field(
        None,
        description="Postfix: configuration directory of the instance that is fed, as for `postqueue -c`; not set: the"
        " default instance",
    )
    queue_high: int = Field(10_000, ge=1, description="feeding stops when the MTA's queue has more messages than this")
    queue_low: int = Field(5_000, ge=0, description="feeding goes on when it has fewer than this")

    @model_validator(mode="after")
    def _marks_in_order(self) -> MtaSettings:
        if self.queue_low > self.queue_high:
            raise ValueError(
                f"queue_low = {self.queue_low} is above queue_high = {self.queue_high}; "
                "right would be queue_low <= queue_high"
            )
        return self

    @field_validator("host", "helo")
    @classmethod
    def _is_one_word(cls, value: str) -> str:
        if not all(character.isprintable() and not character.isspace() for character in value):
            raise ValueError('not the name of a host; right would be "mail.example.org" or "192.0.2.25"')
        return value


class FeedSettings(_Section):
    via: Literal["smtp", "mailman"] = Field(
        "smtp", description="smtp: drainer delivers; mailman: Mailman's own runner delivers, and must be running"
    )
    messages: Rate = Field(20.0, description="highest rate of transactions; 0 pauses")
    recipients: Rate = Field(None, description="highest rate of recipients; 0 pauses")
    adaptive: bool = Field(True, description="start slowly, and slow down on 4xx replies and connection trouble")
    order: Literal["fair", "fresh", "fifo", "priority"] = Field(
        "fifo",
        description="fifo: oldest first; fresh: newest first; fair: lists take turns; priority: in the order of `priority`",
    )
    priority: tuple[str, ...] = Field(
        (),
        description="lists (name, address or list-id), first one first; for order = priority; other lists come after them",
    )
    max_recipients: int = Field(
        0, ge=0, description="most recipients in one transaction; 0: as Mailman itself splits them"
    )
    window: int = Field(100, ge=1, description="most entries of drainer in Mailman's out/ at one time")
    memory: Size = Field(
        536_870_912,
        ge=1,
        description="about the most memory for messages that are being read, composed and sent; a larger message goes alone",
    )
    retry_first: Duration = Field(300.0, gt=0, description="wait before the second attempt at a deferred recipient")
    retry_longest: Duration = Field(3600.0, gt=0, description="the wait doubles with each attempt, up to this")
    give_up_after: Duration = Field(
        432_000.0, gt=0, description="a recipient that is still deferred after this fails; RFC 5321 §4.5.4.1: 4-5 days"
    )
    dsn: bool = Field(
        True,
        description="true: a DSN (RFC 3464) reports a failed recipient to the reverse-path, so that Mailman's bounce"
        " processing scores it; false: no report is sent, and DSNs that are still owed are dropped",
    )
    dsn_wait: Duration = Field(
        300.0,
        description="a DSN waits until the MTA accepts another recipient, or refuses none for this long, so that a wrong"
        " relay setting does not bounce members",
    )
    domains: dict[str, Rate] = Field(
        default_factory=dict,
        description='highest rate of recipients for single domains, such as { "gmail.com" = "10/s" }',
    )

    @model_validator(mode="after")
    def _waits_in_order(self) -> FeedSettings:
        if self.retry_first > self.retry_longest:
            raise ValueError("retry_first is longer than retry_longest; right would be retry_first <= retry_longest")
        return self


class DuplicateSettings(_Section):
    exact: Literal["suppress", "hold", "deliver"] = Field(
        "suppress", description="what happens to an entry whose recipients have all had this mail"
    )
    resend: Literal["suppress", "hold", "deliver"] = Field(
        "hold", description="what happens to an entry with a text that a person has sent again"
    )
    window: Duration = Field(
        259_200.0, gt=0, description="two sendings of one text count as a resend if they are no further apart than this"
    )
    keep: Duration = Field(1_209_600.0, gt=0, description="how long suppressed entries are kept in drainer/duplicates/")


class LedgerSettings(_Section):
    path: Path = Field(
        Path("/var/lib/drainer/ledger.sqlite"), description="the SQLite file; best on another filesystem than the queue"
    )
    state_dir: Path | None = Field(
        None, description="directory of the backlog's index and of entries lent away; none: the directory of path"
    )
    in_doubt: Literal["ask", "resend", "hold"] = Field(
        "ask",
        description="recipients in doubt; ask: look them up in mta.log_file; resend: send again; hold: wait for an operator",
    )
    in_doubt_fallback: Literal["resend", "hold"] = Field(
        "resend", description="what to do if the log cannot answer; RFC 5321: resend"
    )
    in_doubt_wait: Duration = Field(60.0, description="how long to look into the log again before the fallback")
    keep: Duration = Field(7_776_000.0, gt=0, description="how long the ledger keeps deliveries")

    @property
    def state_directory(self) -> Path:
        return self.state_dir or self.path.parent

    @property
    def index_directory(self) -> Path:
        """Of the backlog's index."""
        return self.state_directory / f"drainer-{self.path.name}.index"

    @property
    def loan_directory(self) -> Path:
        """Of entries lent away for want of an inode (queuedir/loan.py)."""
        return self.state_directory / f"{self.path.name}-loan"


class ControlSettings(_Section):
    socket: Path = Field(
        Path("/run/drainer/control.sock"),
        description="unix socket, mode 0660; members of its group may operate drainer",
    )
    group: str = Field(
        "",
        description="group of the socket, by name or number; empty: the service's own; it needs x on the directory",
    )


class WebSettings(_Section):
    listen: str = Field(
        "", description='"127.0.0.1:8025" or "[::1]:8025" for the read-only page, JSON and metrics; empty: off'
    )
    hosts: tuple[str, ...] = Field(
        (),
        description="host names under which the page may be requested, besides its own address and localhost,"
        ' such as "lists.example.org"; others are refused',
    )

    @field_validator("listen")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        if value:
            tcp_address(value)
        return value


class GuardSettings(_Section):
    min_free_bytes: Size = Field(
        67_108_864, description="feeding stops if the ledger's filesystem has fewer free bytes than this"
    )
    min_free_inodes: int = Field(
        100, ge=0, description="feeding stops if the ledger's filesystem has fewer free inodes than this"
    )
    max_load: float = Field(
        0.0, ge=0, description="feeding slows down if the 1-minute load is higher than this; 0: never"
    )


class NotifySettings(_Section):
    """Never by mail: a mail would pass the queue that is watched."""

    command: tuple[str, ...] = Field(
        (),
        description="program to run, with arguments, without a shell; it gets the notice as JSON on standard input, and in"
        " DRAINER_EVENT and DRAINER_TEXT; []: none",
    )
    url_file: Path | None = Field(
        None, description="file with the URL of a webhook on its first line; the notice is posted there as JSON"
    )
    events: tuple[
        Literal["drained", "stopped_by_guard", "mta_down", "stalled", "held", "beside_runner", "recovered"], ...
    ] = Field(
        ("drained", "stopped_by_guard", "mta_down", "stalled", "beside_runner", "recovered"),
        description="which notices to send; beside_runner: Mailman's outgoing runner delivers beside drainer, and no setting"
        " allows it",
    )
    after: Duration = Field(60.0, description="no notice of a state that ends sooner than this")
    quiet: Duration = Field(900.0, description="the same notice is sent at most once in this time")
    drained_from: int = Field(
        100, ge=1, description="the notice drained is sent if the backlog had at least this many entries"
    )
    timeout: Duration = Field(30.0, gt=0, description="timeout for the command and for the answer of the webhook")

    @field_validator("command")
    @classmethod
    def _names_a_program(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if value and not value[0].startswith("/"):
            raise ValueError(
                'must begin with the full path of a program; right would be ["/usr/local/bin/page-me", "drainer"]'
            )
        return value


class LogSettings(_Section):
    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="lines less severe than this are not written"
    )


class Settings(_Section):
    mailman: MailmanSettings = Field(default_factory=MailmanSettings)
    custody: CustodySettings = Field(default_factory=CustodySettings)
    mta: MtaSettings = Field(default_factory=MtaSettings)
    feed: FeedSettings = Field(default_factory=FeedSettings)
    duplicates: DuplicateSettings = Field(default_factory=DuplicateSettings)
    ledger: LedgerSettings = Field(default_factory=LedgerSettings)
    control: ControlSettings = Field(default_factory=ControlSettings)
    web: WebSettings = Field(default_factory=WebSettings)
    guards: GuardSettings = Field(default_factory=GuardSettings)
    notify: NotifySettings = Field(default_factory=NotifySettings)
    log: LogSettings = Field(default_factory=LogSettings)

    @model_validator(mode="after")
    def _ledger_outside_the_queue(self) -> Settings:
        named = {"path": self.ledger.path, "state_dir": self.ledger.state_directory}
        for key, path in named.items():
            if path.is_relative_to(self.mailman.queue_dir):
                raise ValueError(
                    f"ledger.{key} = {str(path)!r} is inside mailman.queue_dir = {str(self.mailman.queue_dir)!r}; "
                    'right would be another place, best on another filesystem, such as "/var/lib/drainer/ledger.sqlite"'
                )
        return self

    def shown(self) -> dict[str, Any]:
        """Every setting as JSON values, for `drainer config`. It contains no secret: passwords are in files."""
        return self.model_dump(mode="json")
