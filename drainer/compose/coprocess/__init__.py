"""What runs in Mailman's own Python: Mailman's delivery code, its SMTP connection replaced by a recorder.

Why       only Mailman's own code composes exactly as Mailman does, whatever its version, settings and plugins.
Promise   it reads: no row, no queue entry, no lock, no log file and no mail leaves the process.
How       serve.py is started as a script; its siblings are imported as top-level modules there. They use the standard
          library and mailman only, in the syntax of Python 3.8. frames.py is used at both ends.
Not here  when and how often it is asked (compose/mailman3.py).
"""
