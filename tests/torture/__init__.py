"""Torture: the real service is killed, stopped and cut off from its partners, and every recipient gets every mail once.

Why       a promise about crashes is worth as much as the tests of it (DESIGN §2, §3, §5).
How       a fault (faults.py) hits one site again and again. At its end site.py compares the mail that the MTA took with
          the mail that the queue owed; table.py prints the result. Long: `make torture`. Short: test_short_form.py.
Moments   doomed.py is the service with a kill at one of the named points (points.py). The seed decides other kills, which
          are counted in transactions and log lines. It repeats every choice, but not the scheduling of the kernel.
Judged    lost: 0. Second copies: 0; with in_doubt = "resend", only for recipients that the ledger recorded as in doubt. No
          recipient gets mail for another one. Missing mail is in held/, and was recorded as in doubt.
"""
