"""Mailman's pickles, opened without running anything in them.

Why       unpickling runs what a pickle says, and a queue directory may hold anything.
Promise   exact (module, name) pairs only, inert classes in their place, memory bounded by the file's size.
Order     restricted.py opens a pickle: prescan.py checks it first, with machine.py and opcodes.py, or knows its shape
          (shapes.py). allowed.py names the classes that standins.py replaces. narrowed.py takes recipients out of a metadata
          pickle.
Not here  what an entry means (queuedir/).
"""
