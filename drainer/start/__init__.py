"""What has to be right before the first message is sent.

Order     site.py (whose queue, which Mailman) > ledger_check.py (the right ledger for this queue) > assembly.py (all parts
          made and connected) > listening.py (control socket, web). reloading.py at SIGHUP.
Not here  the tasks that then run (service.py); the answers while no service runs (without_service/).
"""
