"""What an operator can do to a drain: pause, rate, hold, release, drop, resend, hand back, import a log, undo.

Promise   a decision is in the ledger, with who and why, before it is answered; a dry run changes nothing.
Order     operations.py (every request) > selection.py (what is meant) > pausing.py, selected_entries.py, showing.py,
          import_log.py (carried out) > pauses_and_rates.py, journal.py (written down, in force, undone).
Not here  the words on the wire (control/messages/), what happens to one entry (stages/).
"""
