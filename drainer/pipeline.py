"""The data path, stage by stage: read this first.

    intake   watch > scan > custody                              renamed from Mailman's queue into ours
    survey   read > fingerprint > forecast                       known to the index, in FIFO order
    feed     pick > read > decision > compose > throttle > deliver > finish     settled in the ledger, then off the disk
    bounces  DSNs for those that failed: owed in the ledger, sent likewise

Each is a task; they meet in the index (what waits) and the ledger (what is settled). Feeding does not wait for the
survey to end: the decision that counts is made there, per recipient, against the ledger, when an entry's turn has come.
"""

from __future__ import annotations

from drainer.settings import Settings
from drainer.stages.bounces import Bounces
from drainer.stages.feed import Feed
from drainer.stages.handback import HandBack
from drainer.stages.intake import Intake
from drainer.stages.operator_actions import EntryActions
from drainer.stages.parts import Parts, Progress, Standing
from drainer.stages.recipient_limits import RecipientLimits
from drainer.stages.refused import Refused
from drainer.stages.settle import Conclusion
from drainer.stages.survey import Survey
from drainer.stages.undo import Undo


class Pipeline:
    """The stages, put together."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.progress = Progress()
        self.standing = Standing(parts)
        self.refused = Refused(parts, self.standing)
        self.conclusion = Conclusion(parts, self.standing, self.refused)
        self.intake = Intake(parts, self.standing, self.progress)
        self.survey = Survey(parts, self.standing, self.progress, self.intake, self.conclusion)
        self.bounces = Bounces(parts, self.standing)
        self.limits = RecipientLimits(parts)
        self.feed = Feed(parts, self.standing, self.conclusion, self.bounces, self.refused, self.limits)
        self.actions = EntryActions(parts, self.standing, self.conclusion)
        self.undo = Undo(parts, self.standing, self.conclusion, self.actions, self.feed)
        self.handback = HandBack(parts, self.standing, self.conclusion, self.intake, self.feed)
        parts.release.on_back = self._something_came_back
        parts.in_doubt.on_resolved = self.conclusion.wake_those_waiting_for

    def _something_came_back(self) -> None:
        """Of what Mailman was given: an entry to be read, or a doubt to be resolved."""
        self.standing.unread.set()
        self.parts.in_doubt.wake()
        self.standing.wake()

    def reconfigure(self, settings: Settings) -> None:
        """Settings read again; sessions and the feed follow at once."""
        self.feed.reconfigure(settings)
        self.parts.settings = settings
        self.parts.in_doubt.settings = settings
        self.parts.custody.bak_age_s = settings.custody.bak_age
        self.parts.pool.reconfigure(settings.mta)
        self.parts.release.settings = settings
        self.standing.owing.set()
        self.standing.wake()
