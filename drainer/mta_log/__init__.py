"""What logs say about mail that was handed over: the MTA's own log (Postfix, Exim), and Mailman's smtp log.

Why       after a lost connection only the MTA's log knows; after an outage only logs know what went out before.
Out       an Answer per recipient in doubt; the deliveries a log names, for `drainer import-log`.
Not here  what follows from an answer (in_doubt/); writing to the ledger (operate/import_log.py).
"""
