"""The incident report: values (document.py) from the ledger's facts (facts.py), said as text, Markdown and HTML."""
