"""Have we delivered this message to this recipient already?

Why       after an outage, senders' MTAs and people submit their mail again, and backups put old entries back (DESIGN §4).
Order     canonical > decoration > mail_facts > fingerprint > summary > classes (the forecast), decision (what counts).
          carried compares two decorated mails; known_from_log has the identity of what a log says was delivered before.
Promise   an original is never suppressed. The decision that counts is made per recipient, from the ledger, at sending.
Not here  where entries come from (queuedir/); where history is kept (ledger/).
"""
