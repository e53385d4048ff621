"""How much is left and when it ends.

Promise   an ETA comes with an interval, or with the word that says why there is none.
"""
