"""What has to be right before the first message is sent.

Order     site.py (whose queue, which Mailman) > ledger_check.py (the right ledger for this queue); reloading.py at SIGHUP.
Beside    without_service.py answers the same questions from ledger and custody while no service runs.
"""
