"""The ledger: which recipient of which message has been handed to the MTA.

Why       Mailman forgets a finished entry, so a resubmission looks new to it.
Promise   per message a recipient is handed over once; IN_DOUBT waits for the policy or an operator.
Order     attempt, DATA, outcome, finish: each on disk before the next begins.
Not here  what counts as a duplicate (duplicates/); where entries come from (queuedir/).
"""
