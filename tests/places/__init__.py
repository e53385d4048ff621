"""Every place an operator looks at, of one real drain, and whether they say the same.

    python -m tests.places DIRECTORY     (make places)

drains a sample outage of some minutes into the sink, through a pause, a dead MTA, a kill -9, refusals, deferrals and lost
replies; writes what each place said at several moments into DIRECTORY, as text and as screenshots; and compares their
figures, at the end with the sink's.
"""
