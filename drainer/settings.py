"""Every setting with its unit, default and meaning. The descriptions are the documentation; config/drainer.toml shows them.

In    a mapping, as read from TOML and the environment by settings_file.py
Out   a frozen Settings; unknown keys and impossible values are refused with key, value and what would be right
Pure  no file, no environment
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d)\Z")
_DURATION_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_RATE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*/\s*(s|m|h)\Z")
_URL = re.compile(r"[a-z][a-z0-9+.-]*:/", re.IGNORECASE)
_JOURNAL = re.compile(r"journal(:|\Z)")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(B|KiB|MiB|GiB|TiB|kB|MB|GB|TB)?\Z")
_SIZE_BYTES = {
    None: 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
    "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
}  # fmt: skip

# What lies beyond is a slip of the finger, and more than timers, SQLite and statvfs can count.
LONGEST_S = 36_500 * 86_400.0
SLOWEST_PER_S, FASTEST_PER_S = 1e-6, 1e9
LARGEST_BYTES = 2**60


def duration_s(value: object) -> float:
    """Seconds meant by "30s", "5m", "24h", "7d", "500ms" or a number of seconds. Raises ValueError."""
    seconds = math.nan
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = value
    elif isinstance(value, str) and (match := _DURATION.match(value.strip())):
        seconds = float(match[1]) * _DURATION_S[match[2]]
    if not 0 <= seconds < math.inf:
        raise ValueError('not a duration; right would be "30s", "5m", "24h" or "7d"')
    if seconds > LONGEST_S:
        raise ValueError('longer than a hundred years; right would be "30s", "5m", "24h" or "7d"')
    return float(seconds)


def rate_per_s(value: object) -> float | None:
    """Events per second meant by "20/s", "600/m", "5000/h", a number per second, or "unlimited" (None).

    Zero means paused. Raises ValueError.
    """
    if value is None or value == "unlimited":
        return None
    per_s = math.nan
    if isinstance(value, int | float) and not isinstance(value, bool):
        per_s = value
    elif isinstance(value, str) and value.strip() == "0":
        per_s = 0
    elif isinstance(value, str) and (match := _RATE.match(value.strip())):
        per_s = float(match[1]) / _DURATION_S[match[2]]
    if not 0 <= per_s < math.inf:
        raise ValueError('not a rate; right would be "20/s", "600/m", "5000/h" or "unlimited"')
    if per_s and not SLOWEST_PER_S <= per_s <= FASTEST_PER_S:
        raise ValueError('slower or faster than can be timed; right would be "20/s", "1/h", "0" or "unlimited"')
    return float(per_s)


def size_bytes(value: object) -> int:
    """Bytes meant by "64MiB", "1GB" or a number of bytes. Raises ValueError."""
    octets = math.nan
    if isinstance(value, int) and not isinstance(value, bool):
        octets = value
    elif isinstance(value, str) and (match := _SIZE.match(value.strip())):
        octets = float(match[1]) * _SIZE_BYTES[match[2]]
    if not 0 <= octets <= LARGEST_BYTES:
        raise ValueError('not a size; right would be "64MiB" or "2GiB"')
    return int(octets)


def tcp_address(value: str) -> tuple[str, int]:
    """Host and port meant by "127.0.0.1:8025", "[::1]:8025", or a port alone: on the loopback. Raises ValueError."""
    host, _, port = value.strip().rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not (port.isascii() and port.isdigit() and int(port) <= 65535) or (":" in host and not bracketed):
        raise ValueError('not an address; right would be "127.0.0.1:8025", "[::1]:8025" or "" for none')
    return (host[1:-1] if bracketed else host) or "127.0.0.1", int(port)


Duration = Annotated[float, BeforeValidator(duration_s)]
Rate = Annotated[float | None, BeforeValidator(rate_per_s)]
Size = Annotated[int, BeforeValidator(size_bytes)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @field_validator("*")
    @classmethod
    def _is_a_full_path(cls, value: object, info: ValidationInfo) -> object:
        """A relative one would depend on the directory drainer was started in."""
        if isinstance(value, Path):
            if info.field_name == "log_file" and _JOURNAL.match(str(value)):
                return value
            if _URL.match(str(value)):
                raise ValueError(
                    "is a URL, not a file; right would be the path of a file that has it on its first line"
                )
            if not value.is_absolute():
                raise ValueError(f"not a full path; right would begin with /, such as {str('/etc' / value)!r}")
        return value

    @field_validator("*")
    @classmethod
    def _has_no_nul(cls, value: object) -> object:
        """No name of a file or host can have one, and what asks the system for such a name fails in ways of its own."""
        if isinstance(value, str | Path) and "\0" in str(value):
            raise ValueError("has a NUL character in it; right would be a text without")
        return value


class MailmanSettings(_Section):
    flavour: Literal["auto", "mailman3", "mailman2"] = Field(
        "auto", description="which Mailman wrote the queue; auto looks at the entries"
    )
    queue_dir: Path = Field(
        Path("/var/lib/mailman3/queue"),
        description="the directory that holds out/, bad/, shunt/, ... (2.1: /var/lib/mailman/qfiles)",
    )
    config: Path | None = Field(None, description="Mailman 3: its mailman.cfg; none lets Mailman look for it")
    python: Path = Field(
        Path("/usr/bin/python3"),
        description="Mailman 3: the Python that can `import mailman`; the composer runs in it",
    )
    coprocesses: int = Field(2, ge=1, le=64, description="Mailman 3: how many composers run side by side")
    remember: Duration = Field(
        60.0,
        description="Mailman 3: how long a composer remembers list settings and templates; a change shows after that",
    )
    lists_dir: Path = Field(Path("/var/lib/mailman/lists"), description="Mailman 2.1: holds <list>/config.pck")
    settings: dict[str, str | int | float | bool] = Field(
        default_factory=dict,
        description="Mailman 2.1: values of mm_cfg.py that differ from its defaults, such as VERP_FORMAT, SMTP_MAX_RCPTS;"
        " `drainer config --mm-cfg FILE` finds them",
    )
    release_lists: tuple[str, ...] = Field(
        (),
        description="lists whose entries always go to Mailman's own runner (custom handlers, encryption): name, address or"
        ' list-id, such as "secret@lists.example.org"',
    )
    smtp_log: Path | None = Field(
        None,
        description="Mailman's own log of deliveries (3: smtp.log; 2.1: logs/smtp): the fate of entries its runner got",
    )


class CustodySettings(_Section):
    queues: tuple[Literal["out", "retry"], ...] = Field(
        ("out",), description="queues entries are taken from; add retry after an outage of the MTA"
    )
    scope: Literal["all", "backlog"] = Field(
        "all",
        description="all: every entry; backlog: only what was there at the start, fresh mail stays Mailman's",
    )
    beside_runner: bool = Field(
        False,
        description="false: drainer does not start while Mailman's own outgoing runner delivers from the same queue, since"
        " recipients may then get second copies; true: it does",
    )
    bak_age: Duration = Field(3600.0, description="a .bak older than this is taken when no outgoing runner lives")
    poll: Duration = Field(1.0, gt=0, description="how often the queue directory is looked at")

    @model_validator(mode="after")
    def _out_is_there(self) -> CustodySettings:
        if "out" not in self.queues:
            raise ValueError('queues must name "out"; right would be ["out"] or ["out", "retry"]')
        return self


class MtaSettings(_Section):
    host: str = Field("127.0.0.1", min_length=1, description="the MTA to feed")
    port: int = Field(25, ge=1, le=65535, description="its port")
    helo: str = Field("", description="name given at EHLO; empty: this machine's own fully qualified name")
    tls: Literal["none", "starttls", "implicit"] = Field("none", description="how the session is encrypted")
    tls_ca_file: Path | None = Field(None, description="CA certificates to trust instead of the system's")
    username: str = Field("", description="for AUTH; empty: none")
    password_file: Path | None = Field(
        None, description="file whose first line is the password for AUTH; refused when everybody may read it"
    )
    sessions: int = Field(20, ge=1, le=1000, description="SMTP sessions open at once")
    transactions_per_session: int = Field(100, ge=1, description="transactions before a session is renewed")
    connect_timeout: Duration = Field(30.0, gt=0, description="for connecting and TLS")
    command_timeout: Duration = Field(
        300.0, gt=0, description="for EHLO, MAIL, RCPT, 354; RFC 5321 §4.5.3.2 asks 300 s"
    )
    content_timeout: Duration = Field(180.0, gt=0, description="for each block of content; RFC 5321 §4.5.3.2.5")
    final_dot_timeout: Duration = Field(600.0, gt=0, description="for the reply to the final dot; RFC 5321 §4.5.3.2.6")
    log_file: Path | None = Field(
        None,
        description="the log of Postfix or Exim, asked about recipients in doubt, rotated files too; or journald's:"
        ' "journal" (what came as mail.*), "journal:UNIT", "journal:/DIRECTORY"',
    )
    queue: Literal["none", "postfix", "exim"] = Field("none", description="whose queue length is watched")
    queue_config: Path | None = Field(
        None,
        description="Postfix: configuration directory of the instance that is fed, as for `postqueue -c`; none: the default"
        " instance",
    )
    queue_high: int = Field(10_000, ge=1, description="feeding stops above this many messages in the MTA's queue")
    queue_low: int = Field(5_000, ge=0, description="feeding goes on below this")

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
        "smtp", description="smtp: drainer delivers; mailman: Mailman's own runner delivers, and has to run"
    )
    messages: Rate = Field(20.0, description="ceiling on transactions begun; 0 pauses")
    recipients: Rate = Field(None, description="ceiling on recipients; 0 pauses")
    adaptive: bool = Field(True, description="slow start, back off on 4xx and connection trouble")
    order: Literal["fair", "fresh", "fifo", "priority"] = Field(
        "fifo",
        description="fifo: oldest first; fresh: newest first; fair: lists take turns; priority: as `priority` says",
    )
    priority: tuple[str, ...] = Field(
        (), description="lists (name, address or list-id) in the order they go when order is priority; others after"
    )
    max_recipients: int = Field(
        0, ge=0, description="most recipients in a transaction; 0: as Mailman itself would split"
    )
    window: int = Field(100, ge=1, description="at most this many of our entries in Mailman's out/ at a time")
    memory: Size = Field(
        536_870_912,
        ge=1,
        description="messages being read, composed and sent use about this much memory at most; a larger one goes alone",
    )
    retry_first: Duration = Field(300.0, gt=0, description="wait before the second attempt at a deferred recipient")
    retry_longest: Duration = Field(3600.0, gt=0, description="the wait doubles up to this")
    give_up_after: Duration = Field(
        432_000.0, gt=0, description="a deferred recipient fails after this; RFC 5321 §4.5.4.1: 4-5 days"
    )
    dsn: bool = Field(
        True,
        description="recipients that fail are reported to the reverse-path (RFC 3464), so that Mailman's bounce processing"
        " scores them; false: they fail without a word, and DSNs still owed are dropped",
    )
    dsn_wait: Duration = Field(
        300.0,
        description="a DSN waits until the MTA has accepted another recipient, or has refused none for this long: a wrong"
        " relay setting must not bounce members",
    )
    domains: dict[str, Rate] = Field(
        default_factory=dict, description='ceilings per recipient domain, such as { "gmail.com" = "10/s" }'
    )

    @model_validator(mode="after")
    def _waits_in_order(self) -> FeedSettings:
        if self.retry_first > self.retry_longest:
            raise ValueError("retry_first is longer than retry_longest; right would be retry_first <= retry_longest")
        return self


class DuplicateSettings(_Section):
    exact: Literal["suppress", "hold", "deliver"] = Field(
        "suppress", description="an entry whose recipients have all had this mail"
    )
    resend: Literal["suppress", "hold", "deliver"] = Field(
        "hold", description="an entry with a text that a person has sent again"
    )
    window: Duration = Field(259_200.0, gt=0, description="how far apart two sendings of one text count as a resend")
    keep: Duration = Field(1_209_600.0, gt=0, description="how long suppressed entries stay in drainer/duplicates/")


class LedgerSettings(_Section):
    path: Path = Field(
        Path("/var/lib/drainer/ledger.sqlite"), description="the SQLite file; best on another filesystem"
    )
    in_doubt: Literal["ask", "resend", "hold"] = Field(
        "ask",
        description="recipients in doubt; ask: look them up in mta.log_file; resend: send again; hold: wait for an operator",
    )
    in_doubt_fallback: Literal["resend", "hold"] = Field(
        "resend", description="what happens when the log cannot answer; RFC 5321: resend"
    )
    in_doubt_wait: Duration = Field(60.0, description="how long the log is asked again before the fallback is taken")
    keep: Duration = Field(7_776_000.0, gt=0, description="how long deliveries are remembered")


class ControlSettings(_Section):
    socket: Path = Field(Path("/run/drainer/control.sock"), description="unix socket, mode 0660; its group may operate")
    group: str = Field(
        "",
        description="group of the socket, by name or number; empty: the service's own. The directory must let it through",
    )


class WebSettings(_Section):
    listen: str = Field(
        "", description='"127.0.0.1:8025" or "[::1]:8025" for the read-only page, JSON and metrics; empty: off'
    )
    hosts: tuple[str, ...] = Field(
        (),
        description="host names that the page answers to, besides its own address and localhost,"
        ' such as "lists.example.org"; others are refused',
    )

    @field_validator("listen")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        if value:
            tcp_address(value)
        return value


class GuardSettings(_Section):
    min_free_bytes: Size = Field(67_108_864, description="feeding stops below this on the ledger's filesystem")
    min_free_inodes: int = Field(100, ge=0, description="feeding stops below this on the ledger's filesystem")
    max_load: float = Field(0.0, ge=0, description="1-minute load above which feeding slows; 0: never")


class NotifySettings(_Section):
    """Never by mail: it would go through the queue that is watched."""

    command: tuple[str, ...] = Field(
        (),
        description="program and arguments run with the notice as JSON on its standard input and as DRAINER_EVENT,"
        " DRAINER_TEXT; no shell; [] for none",
    )
    url_file: Path | None = Field(
        None, description="file whose first line is a webhook's URL; the notice is posted there as JSON"
    )
    events: tuple[
        Literal["drained", "stopped_by_guard", "mta_down", "stalled", "held", "beside_runner", "recovered"], ...
    ] = Field(
        ("drained", "stopped_by_guard", "mta_down", "stalled", "beside_runner", "recovered"),
        description="which notices are sent; beside_runner: Mailman's outgoing runner delivers beside drainer, and no"
        " setting allows it",
    )
    after: Duration = Field(60.0, description="a state that ends sooner sends no notice")
    quiet: Duration = Field(900.0, description="the same notice is sent at most once in this time")
    drained_from: int = Field(100, ge=1, description="drained is sent for a backlog of at least this many entries")
    timeout: Duration = Field(30.0, gt=0, description="for the command, and for the answer of the webhook")

    @field_validator("command")
    @classmethod
    def _names_a_program(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if value and not value[0].startswith("/"):
            raise ValueError(
                'must begin with the full path of a program; right would be ["/usr/local/bin/page-me", "drainer"]'
            )
        return value


class LogSettings(_Section):
    level: Literal["debug", "info", "warning", "error"] = Field("info", description="least severe line written")


class Settings(_Section):
    mailman: MailmanSettings = MailmanSettings()
    custody: CustodySettings = CustodySettings()
    mta: MtaSettings = MtaSettings()
    feed: FeedSettings = FeedSettings()
    duplicates: DuplicateSettings = DuplicateSettings()
    ledger: LedgerSettings = LedgerSettings()
    control: ControlSettings = ControlSettings()
    web: WebSettings = WebSettings()
    guards: GuardSettings = GuardSettings()
    notify: NotifySettings = NotifySettings()
    log: LogSettings = LogSettings()

    @model_validator(mode="after")
    def _ledger_outside_the_queue(self) -> Settings:
        if self.ledger.path.is_relative_to(self.mailman.queue_dir):
            raise ValueError(
                f"ledger.path = {str(self.ledger.path)!r} is inside mailman.queue_dir = {str(self.mailman.queue_dir)!r}; "
                'right would be another place, best on another filesystem, such as "/var/lib/drainer/ledger.sqlite"'
            )
        return self

    def shown(self) -> dict[str, Any]:
        """Every setting as JSON values, for `drainer config`; holds no secret (passwords live in files)."""
        return self.model_dump(mode="json")
