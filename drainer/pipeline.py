"""The data path, stage by stage: read this first.

    intake   watch > scan > custody                              renamed from Mailman's queue into ours
    survey   read > fingerprint > forecast                       known to the index, in FIFO order
    feed     pick                                                begun: a turn for each entry
    turn     read > decision > compose > throttle > deliver > finish            settled in the ledger, then off the disk
    bounces  DSNs for recipients that failed                     owed in the ledger, sent likewise

Intake, survey, feed and bounces are tasks, and so is each turn. They meet in the index (what waits) and the ledger (what is
settled). Feeding does not wait for the survey to end: the decision that counts is made in the turn, for each recipient,
against the ledger.
"""

from __future__ import annotations

from collections.abc import Callable

from drainer.backlog.waiters import Waiters
from drainer.feed.lane_queue import LaneQueue
from drainer.in_doubt.resolve import InDoubt
from drainer.queuedir.loan import Loan
from drainer.settings import Settings
from drainer.stages.bounces import Bounces
from drainer.stages.decide import Decide
from drainer.stages.domain_ceilings import DomainCeilings
from drainer.stages.domain_paces import DomainPaces
from drainer.stages.entry_facts import EntryFacts
from drainer.stages.feed import Feed
from drainer.stages.handback import HandBack
from drainer.stages.intake import Intake
from drainer.stages.mta_trust import MtaTrust
from drainer.stages.operator_actions import EntryActions
from drainer.stages.progress import Progress
from drainer.stages.recipient_limits import RecipientLimits
from drainer.stages.resources import Resources
from drainer.stages.reversible_failures import ReversibleFailures
from drainer.stages.sent_before import SentBefore
from drainer.stages.session_limits import SessionLimits
from drainer.stages.set_aside import SetAside
from drainer.stages.settle import Settle
from drainer.stages.survey import Survey
from drainer.stages.transmit import Transmit
from drainer.stages.turn import Turn
from drainer.stages.undo import Undo
from drainer.stages.what_mta_bore import WhatMtaBore
from drainer.via_mailman.follow import Follow
from drainer.via_mailman.handover import Handover
from drainer.via_mailman.open_handovers import OpenHandovers
from drainer.via_mailman.queues import SmtpLogFile


class Pipeline:
    """The stages, put together.

    runner_lives  whether an outgoing runner of Mailman's lives; asked in a thread
    booted_s      when this machine started, seconds since the epoch
    loan          entries lent to make room on a full disk; None: there are none
    """

    def __init__(
        self,
        resources: Resources,
        runner_lives: Callable[[], bool],
        booted_s: Callable[[], float],
        loan: Loan | None = None,
    ) -> None:
        settings, clock, custody = resources.settings, resources.clock, resources.custody
        ledger, index, signals = resources.ledger, resources.index, resources.signals
        self.resources = resources
        self.progress = Progress()
        self.facts = EntryFacts(resources)
        waiters = Waiters(index, signals)
        self.in_doubt = InDoubt(settings, ledger, clock, signals, waiters)

        smtp_log = SmtpLogFile(settings.mailman.smtp_log)
        window = LaneQueue(settings.feed.window, resources.throttle.lanes)
        self.at_mailman = OpenHandovers(ledger, clock, custody.queue_dir, smtp_log.log, window)
        self.handover = Handover(clock, custody, ledger, resources.throttle, self.at_mailman)
        self.follow = Follow(
            settings, clock, custody, ledger, index, resources.rate, signals, self.at_mailman, smtp_log,
            runner_lives, booted_s,
        )  # fmt: skip

        self.failures = ReversibleFailures(resources)
        self.trust = MtaTrust(resources, self.failures)
        self.decide = Decide(resources, self.facts)
        self.paces = DomainPaces(resources)
        self.domains = DomainCeilings(resources, self.paces)
        self.set_aside = SetAside(resources, self.facts, waiters)
        self.settle = Settle(
            resources, self.facts, self.domains, self.set_aside, self.failures, self.trust, self.at_mailman, waiters
        )  # fmt: skip

        self.intake = Intake(resources, self.facts, self.progress, self.follow, loan)
        self.survey = Survey(
            resources, self.facts, self.progress, self.intake, self.set_aside, self.at_mailman, self.paces
        )  # fmt: skip
        self.limits = RecipientLimits(resources)
        self.session_limits = SessionLimits(resources)
        self.bore = WhatMtaBore(resources)
        self.sent_before = SentBefore(resources, self.at_mailman)
        self.transmit = Transmit(resources, self.limits, self.session_limits, self.domains, self.trust)
        self.turn = Turn(resources, self.facts, self.decide, self.domains, self.transmit, self.settle, self.handover)
        self.feed = Feed(resources, self.domains, self.turn, self.transmit, self.set_aside, self.at_mailman)
        self.bounces = Bounces(resources, self.trust, self.failures, self.domains)

        self.actions = EntryActions(resources, self.facts, self.decide, self.set_aside)
        self.undo = Undo(resources, self.facts, self.set_aside, self.actions, self.feed)
        self.handback = HandBack(resources, self.facts, self.decide, self.settle, self.intake, self.feed)

    def clock_was_set_back(self, by_s: float) -> None:
        """What waits is due as if the clock had not been set back."""
        self.resources.index.order.shift_due(-by_s)
        self.feed.clock_was_set_back(by_s)
        self.bounces.clock_was_set_back(by_s)
        self.trust.clock_was_set_back(by_s)

    def reconfigure(self, settings: Settings) -> None:
        """Settings read again; sessions and the feed follow at once."""
        self.turn.reconfigure(settings)
        self.transmit.reconfigure(settings)
        self.resources.reconfigure(settings)
        self.paces.reconfigure(settings)
        self.domains.reconfigure(settings)
        self.in_doubt.reconfigure(settings)
        self.handover.reconfigure(settings)
        self.follow.reconfigure(settings)
        self.resources.signals.owing.set()
        self.resources.signals.wake()
