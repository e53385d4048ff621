"""[mta]: the MTA, its sessions, its log and its queue. Pure."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from drainer.settings.section import Duration, Section
from drainer.text.safe_pattern import pattern_trouble

_LOG_NAME = re.compile(r"(?:[^\s/@\[\]:]+(?:@[^\s/@\[\]]+)?)?\Z")


class MtaSettings(Section):
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
        description="log of Postfix or Exim: its new lines say what providers answer, and it is searched, with its"
        ' rotated files, for recipients in doubt; or journald: "journal" (the facility mail), "journal:UNIT",'
        ' "journal:/DIRECTORY"',
    )
    queue: Literal["none", "postfix", "exim"] = Field("none", description="the MTA whose queue is watched")
    queue_config: Path | None = Field(
        None,
        description="Postfix: configuration directory of the instance that is fed, as for `postqueue -c`; not set: the"
        " default instance",
    )
    queue_command: tuple[str, ...] = Field(
        (),
        description="command that lists the queue, word by word, for an MTA on another host, such as"
        ' ["ssh", "mx1", "postqueue", "-j"] (Exim: ["ssh", "mx1", "exim", "-bp"]); empty: the MTA\'s own command here',
    )
    log_name: str = Field(
        "",
        description="name of the MTA in its log, where several write to it: Postfix's syslog_name, such as"
        ' "postfix-out", or "postfix-out@mx1" in a log of several hosts; empty: every MTA of the log',
    )
    too_fast: tuple[str, ...] = Field(
        (),
        description="regular expressions of replies that say that we are too fast for a provider, besides the known ones,"
        ' such as ["come back slower", "\\\\bXY12\\\\b"]',
    )
    queue_high: int = Field(10_000, ge=1, description="feeding stops when the MTA's queue has more messages than this")
    queue_low: int = Field(
        5_000,
        ge=0,
        description="feeding goes on when it has fewer than this; from here on the MTA gets about what it passes on",
    )

    @field_validator("queue_command")
    @classmethod
    def _is_words(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if value and not all(value):
            raise ValueError('has an empty word; right would be ["ssh", "mx1", "postqueue", "-j"]')
        if len(value) == 1 and len(value[0].split()) > 1:
            words = ", ".join(f'"{word}"' for word in value[0].split())
            raise ValueError(f"is one word with spaces in it, and no shell takes it apart; right would be [{words}]")
        return value

    @field_validator("too_fast")
    @classmethod
    def _are_patterns(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            if trouble := pattern_trouble(pattern):
                raise ValueError(f"{pattern!r} {trouble}")
        return value

    @field_validator("log_name")
    @classmethod
    def _is_a_name_in_a_log(cls, value: str) -> str:
        if not _LOG_NAME.match(value):
            raise ValueError('is no name of a program in a log; right would be "postfix-out" or "postfix-out@mx1"')
        return value

    @model_validator(mode="after")
    def _command_has_a_format(self) -> MtaSettings:
        if self.queue_command and self.queue == "none":
            raise ValueError(
                'queue_command is set and queue = "none", so its output could not be understood; right would be '
                'queue = "postfix" or queue = "exim"'
            )
        return self

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
