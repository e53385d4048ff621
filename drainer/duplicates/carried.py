"""Whether a decorated mail contains another one: the same mail, with a header and footer around it that are not known.

In    two entries of the same name (list, Message-ID and Date, or author, subject and Date); at least one of them contains
      Mailman's header and footer
Out   True: they are one mail. False: their texts do not show it
Pure  no file, no clock

decoration.py takes the header and footer out that the list uses now, where they fit. This module handles the rest: the
template has changed since, Mailman cannot be asked, or the list no longer exists. If a whole text stands in another text of
the same name, bounded by line ends, it is that text; so are equal parts between one leading and one trailing text. The
opposite cannot be proved: a mail that is not contained may have been rewritten on its way here.
"""

from __future__ import annotations

from collections.abc import Sequence

from drainer.duplicates.canonical import Leaf, canonical_leaves, is_text
from drainer.queuedir.entry import QueueEntry


def is_one_mail(first: QueueEntry, is_first_decorated: bool, second: QueueEntry, is_second_decorated: bool) -> bool:
    """Whether one of the two contains the other. The order does not matter."""
    leaves, others = (canonical_leaves(entry.message, len(entry.raw)) for entry in (first, second))
    if leaves is None or others is None:
        return False
    return (is_first_decorated and carries(leaves, others)) or (is_second_decorated and carries(others, leaves))


def carries(decorated: Sequence[Leaf], plain: Sequence[Leaf]) -> bool:
    """Whether the leaves of `decorated` are those of `plain`, with at most one text before and one after them.

    An empty mail counts as contained in no other, since it would be in all.
    """
    if not any(leaf.content for leaf in plain):
        return False
    if len(plain) == len(decorated) == 1 and plain[0].kind == decorated[0].kind == "text/plain":
        return plain[0].name == decorated[0].name and _is_among_lines(plain[0].content, decorated[0].content)
    more = len(decorated) - len(plain)
    return any(
        tuple(decorated[before : before + len(plain)]) == tuple(plain)
        and all(map(is_text, (*decorated[:before], *decorated[before + len(plain) :])))
        and before <= 1
        and more - before <= 1
        for before in range(more + 1)
    )


def _is_among_lines(text: bytes, whole: bytes) -> bool:
    return b"\n%s\n" % text in b"\n%s\n" % whole
