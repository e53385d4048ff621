"""The queues that Mailman has.

Pure  a table

Source  Mailman 2.1.39 Mailman/Defaults.py (*QUEUE_DIR); Mailman 3.3.10 config/schema.cfg ([runner.*])
"""

from __future__ import annotations

MAILMAN_QUEUES = frozenset(
    "archive bad bounces command commands digest in news nntp out pipeline retry shunt virgin".split()
)
"""Queues of Mailman 2.1 and 3, by the names of their directories. `commands` and `news` are 2.1's, `command` and `nntp` are
3's."""
