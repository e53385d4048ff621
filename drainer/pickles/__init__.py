"""Mailman's pickles, opened without running anything in them.

Promise   exact (module, name) pairs only, inert classes in their place, memory bounded by the file's size.
Not here  what an entry means (queuedir/).
"""
