"""[ledger] and [duplicates]: what is remembered, and what follows from it. Pure."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from drainer.settings.section import Duration, Section


class DuplicateSettings(Section):
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


class LedgerSettings(Section):
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
