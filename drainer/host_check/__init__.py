"""Looks at what the settings name: disk, users, Mailman, the MTA and its log, as the user the service runs as.

Why       Settings may be right in themselves and wrong on this host: `drainer config --check` says so before a drain begins.
Promise   nothing is changed, taken or sent; each thing that was looked at gets one line, with what would be right.
Order     settings as they are written > values that go badly together > files > Mailman > the MTA.
Not here  what no host could make right: that ends every start (settings.py).
"""
