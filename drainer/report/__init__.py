"""What is shown of the service: one snapshot in several forms, and the incident report.

Promise   every form shows the same snapshot; a number that is not known yet is absent (null), never guessed
Values    snapshot.py (this moment), burn_down.py (the time before), inventory.py (what is here); record_writer.py keeps the
          last two, and the record of our forecasts, in the ledger
Words     words.py and hints.py, shared by all forms; service_state.py names the state and its reason
Forms     terminal/, web/, metrics.py, check.py, systemd.py; notices.py and notify.py; incident/
Log       log_lines.py: how lines get to standard error; what they say stands where it happens
Not here  who makes the snapshot, and when (observe/); how good our forecasts were (estimate/forecast_record.py)
"""
