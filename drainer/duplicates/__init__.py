"""Have we delivered this message to this recipient already?

Why       after an outage senders' MTAs and people submit again, and backups put old entries back (DESIGN §4).
Promise   an original is never suppressed; the decision that counts is per recipient, against the ledger, at sending.
Not here  where entries come from (queuedir/); where history is kept (ledger/).
"""
