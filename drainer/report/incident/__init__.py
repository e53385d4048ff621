"""The incident report: what happened, what became of every mail, who did what, and how fast.

Path      the ledger's account, the inventory and the burn-down > facts.py (with timeline.py, rates.py) > document.py, the
          values > summary.py and sections.py, the words > markdown.py, html_page.py
Promise   every number is the ledger's or the index's, so it equals that of `drainer status`
Not here  the command (cli/report.py); from_ledger.py makes the report without a running service
"""
