"""What an operator can do to a drain: pause, rate, hold, release, drop, resend, hand back, import a log, undo.

Promise   a decision is in the ledger, with who and why, before it is answered; a dry run changes nothing.
Order     selection.py (what is meant) > operations.py (carried out) > journal.py (written down, undone).
Not here  the words on the wire (control/messages/), what happens to one entry (stages/).
"""
