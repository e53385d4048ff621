"""Whether a decorated mail carries another one: the same mail, with a header and a footer around it that nobody knows.

In    two entries that are called the same (list, Message-ID and Date, or author, subject and Date), at least one of them
      with Mailman's header and footer in it
Out   True: they are one mail. False: that cannot be told from what they say
Pure  no file, no clock

The header and footer Mailman would use now are taken out where they fit (fingerprint.py). What is left to be judged here
is what they were: another template then, a Mailman that cannot be asked, a list that is gone. A text that stands whole, at
line borders, in a text that is called the same is that text; so are the same parts between a leading and a trailing
text. Nothing proves the contrary: whoever is not carried may have been written another way on its way here.
"""

from __future__ import annotations

from collections.abc import Sequence

from drainer.duplicates.canonical import Leaf, canonical_leaves, is_text
from drainer.queuedir.entry import QueueEntry


def is_one_mail(first: QueueEntry, is_first_decorated: bool, second: QueueEntry, is_second_decorated: bool) -> bool:
    """Whether one of the two carries the other. The order does not matter."""
    leaves, others = (canonical_leaves(entry.message, len(entry.raw)) for entry in (first, second))
    if leaves is None or others is None:
        return False
    return (is_first_decorated and carries(leaves, others)) or (is_second_decorated and carries(others, leaves))


def carries(decorated: Sequence[Leaf], plain: Sequence[Leaf]) -> bool:
    """Whether the leaves of `decorated` are those of `plain`, and a text before and after them at most. An empty mail is
    carried by none: it would be by all."""
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
