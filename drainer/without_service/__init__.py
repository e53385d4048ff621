"""Answers while the service does not run or does not answer: from a copy of its ledger, and custody as it lies.

Order     site_as_it_lies.py (ledger and custody, put together as at a start) > answers.py (the same questions as to the
          service); reason.py (why there is no service, and since when).
Promise   nothing of the site changes: no lock is taken, no file renamed, the ledger is a copy.
Not here  asking the service first (cli/consult.py); the incident report (report/incident/from_ledger.py).
"""
