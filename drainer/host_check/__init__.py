"""Checks the settings on this host: disk, users, Mailman, the MTA and its log, as the user that the service runs as.

Why       settings can be valid and still be wrong for this host: `drainer config --check` shows that before a drain begins.
Promise   nothing is changed, taken or sent. Each thing checked gives one line, with what would be right.
Order     settings as they are written > values that do not fit together > files > Mailman > the MTA.
Not here  values that are wrong on every host: they end every start (settings/).
"""
