"""The text that `drainer status` and `drainer scan` print: rows.py says, status.py lays out, queue_scan.py does both."""
