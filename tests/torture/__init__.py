"""Torture: the real service is killed, frozen and starved of its partners, and everybody still gets every mail once.

Why       a promise about crashes is worth what was tried against it (DESIGN §2, §3, §5).
How       a fault (faults.py) hurts one site again and again; start/site.py compares, at its end, what the MTA took with what
          the queue owed; table.py prints it. Long: `make torture`. Short, same code: test_short_form.py.
Moments   doomed.py is the service with a bomb at one of the named points (points.py); other kills come by the seed, counted
          in transactions and log lines. A seed repeats every choice, not the kernel's scheduling.
Judged    lost: 0. Second copies: 0, but under in_doubt = "resend" those whom the ledger recorded as in doubt. Nobody gets
          what was not meant for them. What is missing is in held/, and was recorded as in doubt.
"""
