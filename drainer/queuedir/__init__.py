"""Mailman's outgoing queue directory, and the directories beside it that are ours.

Why       whoever renames an entry first owns it; Mailman's own runner cannot see what we hold (DESIGN §3).
Promise   custody.py alone moves or removes an entry, each time by one rename or unlink (moves.py); an entry leaves the disk
          only after the ledger settled all its recipients. loan.py is the one exception, for a first start without inodes.
Order     watch > scan > custody > read. premises.py checks and locks the directories first.
Not here  what counts as a duplicate (duplicates/); who has had what (ledger/); which entry is next (backlog/).
"""
