"""Recipients in doubt: the final dot may have reached the MTA, and no reply came back.

Why       a second try would make the very duplicate this project exists to prevent (RFC 1047).
Order     resolve.py asks the MTA's log; policy.py says what each answer means for the ledger.
Promise   only attempts of this queue are touched; a doubt ends by the log, the policy or an operator, never by a retry.
Not here  how a log is read (mta_log/).
"""
