"""What waits: each entry's facts, kept in an index that can always be rebuilt from the files.

Why       picking the next entry, counting what is left and finding copies of one mail must not read files again.
Promise   every figure is a sum the index keeps up to date; an entry's state changes only along legal transitions.
Not here  which copy of a mail goes out (duplicates/decision.py); the files themselves (queuedir/).
"""
