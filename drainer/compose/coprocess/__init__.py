"""Code that runs in Mailman's own Python: Mailman's delivery code, with a stand-in for its SMTP connection.

Why       only Mailman's own code composes exactly as Mailman does, whatever its version, settings and plugins.
Order     serve.py answers requests; composing.py runs Mailman; captured_smtp.py keeps what it would have sent;
          answer_cache.py saves look-ups; readonly.py starts Mailman without its side effects.
Promise   it only reads: no row, no queue entry, no lock, no log file and no mail leaves the process.
How       serve.py is started as a script, so its siblings are top-level modules there. They use the standard library and
          mailman only, in the syntax of Python 3.8. frames.py is used at both ends of the pipes.
Not here  when and how often it is called (compose/mailman3.py).
"""
