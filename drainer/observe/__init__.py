"""How things stand: what the service sees while it runs, put together as one snapshot.

Order     surroundings.py (disk, MTA, Mailman) and outlook.py (what is left, when it ends) > situation.py (the snapshot).
Not here  how a snapshot is shown (report/), what an operator does about it (operate/).
"""
