"""Mailman's outgoing queue directory, and the directories beside it that are ours.

Why       whoever renames an entry first owns it; Mailman's own runner cannot see what we hold (DESIGN §3).
Promise   custody.py alone renames or unlinks; an entry leaves the disk only after the ledger settled it.
Order     watch > scan > custody > read; backlog/index.py remembers what was read, and can always be rebuilt from the files.
Not here  what counts as a duplicate (duplicates/); who has had what (ledger/).
"""
