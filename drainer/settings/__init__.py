"""Every setting with its unit, default and meaning. The descriptions are the documentation: config/drainer.toml and
docs/settings.md are made from them.

In    a mapping, as read from TOML and the environment by settings_file.py
Out   a frozen Settings; unknown keys and impossible values are refused with key, value and what would be right
Pure  no file, no environment
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from drainer.settings.feed import FeedSettings
from drainer.settings.ledger import DuplicateSettings, LedgerSettings
from drainer.settings.mailman import CustodySettings, MailmanSettings
from drainer.settings.mta import MtaSettings
from drainer.settings.section import Section
from drainer.settings.surroundings import ControlSettings, GuardSettings, LogSettings, NotifySettings, WebSettings

DEFAULT_PATH = Path("/etc/drainer/drainer.toml")


class Settings(Section):
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

    @model_validator(mode="after")
    def _domains_are_kept_apart(self) -> Settings:
        domains = sorted(self.feed.only_domains | self.feed.withheld_domains)
        if domains and self.mailman.release_lists:
            raise ValueError(
                f"mailman.release_lists hands whole entries of {self.mailman.release_lists[0]} over, so @{domains[0]} in"
                " feed.only or feed.not cannot be kept apart; right would be lists only in feed.only and feed.not, or no"
                " release_lists"
            )
        return self

    def shown(self) -> dict[str, Any]:
        """Every setting as JSON values, for `drainer config`. It contains no secret: passwords are in files."""
        return self.model_dump(mode="json", by_alias=True)
