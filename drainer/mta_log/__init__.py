"""What logs say about mail that was handed over: the MTA's own log (Postfix, Exim), and Mailman's smtp log.

Why       after a lost connection only the MTA's log knows; after an outage only logs know what went out before.
Order     file.py reads, lines.py splits, postfix.py and exim.py understand a line; answer.py and delivered.py put lines
          together. mailman_smtp_log.py reads Mailman's own.
Promise   "no" is said only by a log that covers the moment; all else is "cannot say".
Out       an Answer per recipient in doubt; the deliveries that a log names, for `drainer import-log`.
Not here  what follows from an answer (in_doubt/); writing to the ledger (operate/import_log.py).
"""
