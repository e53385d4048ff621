"""[mailman] and [custody]: Mailman, its queue, and what is taken from it. Pure."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from drainer.settings.section import Duration, Section


class MailmanSettings(Section):
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


class CustodySettings(Section):
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
