"""The text that `drainer status` and `drainer scan` print: rows.py and status.py for the one, scan.py for the other."""
