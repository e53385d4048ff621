"""When a session is renewed: it has carried enough, by the settings, by the MTA's word, or as was learnt of it.

In    a session that was given back, with the transactions it had carried before; MtaSettings; the time
Out   whether it carries another one; whether the MTA ended it for that reason; what is known of the limit
Not here  the rule by which a limit is learnt (session_limit.py); what becomes of a session (session_pool.py)
"""

from __future__ import annotations

import math

from drainer.clock import Clock
from drainer.feed.outcome import Stage
from drainer.feed.session import Session
from drainer.feed.session_limit import SessionLimit
from drainer.settings.mta import MtaSettings

ERRORS_PER_SESSION = 10
"""A session with so many refusals and no mail accepted since is renewed: servers slow it down from here on, and then close
it (Postfix: smtpd_soft_error_limit = 10, smtpd_hard_error_limit = 20)."""


class SessionRenewal:
    """known  how many transactions the MTA takes in a session, as far as is known"""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.known = SessionLimit()

    def begin_with(self, known: SessionLimit) -> None:
        self.known = known

    def is_worn_out(self, session: Session, settings: MtaSettings) -> bool:
        """Whether it is renewed: after as many transactions as the settings say, or fewer if the MTA takes fewer."""
        most = min(settings.transactions_per_session, session.mail_max or math.inf)
        if session.transactions >= most or session.errors >= ERRORS_PER_SESSION:
            return True
        if not self.known.most:
            return False
        now_s = self._clock.now_s()
        known = self.known.renew_after(name_of(settings), now_s)
        if not known or session.transactions < known:
            return False
        if self.known.wants_probe(now_s):
            self.known = self.known.probed(now_s)
            return False
        return True

    def is_at_limit(self, session: Session, transactions: int, settings: MtaSettings) -> bool:
        """Whether the MTA ended a session because of its limit, as far as that is known: no sign of trouble."""
        known = self.known.renew_after(name_of(settings), self._clock.now_s())
        return session.has_enough != "no" or (known > 0 and transactions == known)

    def learn(self, session: Session, transactions: int, settings: MtaSettings) -> None:
        """From how a transaction ended that came after `transactions` others in its session."""
        # A 421 in answer to RCPT is about that recipient: a provider behind the MTA, such as one that says "too fast".
        got_421 = session.got_421 and not (session.refused_a_recipient or session.is_about_destination)
        was_ended = got_421 or (session.lost is not None and session.lost.stage is Stage.MAIL)
        limit = self.known
        if transactions and (session.has_enough != "no" or was_ended):
            is_said = session.has_enough == "said"
            self.known = limit.ended(name_of(settings), transactions, self._clock.now_s(), is_said=is_said)
        elif limit.most and session.usable:
            self.known = limit.carried(name_of(settings), session.transactions, self._clock.now_s())


def name_of(settings: MtaSettings) -> str:
    """The MTA that is fed."""
    return f"{settings.host}:{settings.port}"
