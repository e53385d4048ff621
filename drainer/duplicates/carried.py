"""Whether a decorated mail contains another one: the same mail, with a header and footer around it that are not known.

In    two entries of the same name (list, Message-ID and Date, or author, subject and Date); at least one of them contains
      Mailman's header and footer
Out   True: they are one mail. False: their texts do not show it
Pure  no file, no clock

decoration.py takes the header and footer out that the list uses now, where they fit. This module handles the rest: the
template has changed since, Mailman cannot be asked, or the list no longer exists. If a whole text stands in another text of
the same name, bounded by line ends, it is that text; so are equal parts between one leading and one trailing text. The
opposite cannot be proved: a mail that is not contained may have been rewritten on its way here.

To compare each mail of a name with each other takes the square of their number. The Parts of a mail say what to look for
instead: whoever contains it has its parts, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class Parts:
    """Of the leaves of a mail, as hashes that are equal within one process only.

    lines  of a mail of one text: its lines; () for any other
    whole  all leaves; None for an empty mail, which no other contains
    inner  what is left without the texts that may be a header or footer: each `whole` that it contains. Not of a mail of
           one text
    """

    lines: tuple[int, ...]
    whole: int | None
    inner: tuple[int, ...]

    def carry(self, plain: Parts) -> bool:
        """As `carries`, but for equal hashes of unequal texts."""
        if plain.whole is None:
            return False
        if self.lines and plain.lines:
            return _is_within(plain.lines, self.lines)
        return plain.whole in self.inner


def parts_of(leaves: Sequence[Leaf]) -> Parts:
    """Raises nothing: any leaves have parts."""
    whole = hash(tuple(leaves)) if any(leaf.content for leaf in leaves) else None
    if len(leaves) == 1 and leaves[0].kind == "text/plain":
        return Parts(tuple(hash((leaves[0].name, line)) for line in leaves[0].content.split(b"\n")), whole, ())
    before = [0, 1] if len(leaves) > 1 and is_text(leaves[0]) else [0]
    after = [0, 1] if len(leaves) > 1 and is_text(leaves[-1]) else [0]
    inner = {
        hash(tuple(leaves[first : len(leaves) - last]))
        for first in before
        for last in after
        if first + last < len(leaves)
    }
    return Parts((), whole, tuple(inner))


def _is_within(lines: tuple[int, ...], others: tuple[int, ...]) -> bool:
    """Whether they are a run of the others."""
    size, at = len(lines), -1
    for _ in range(others.count(lines[0])):
        at = others.index(lines[0], at + 1)
        if others[at : at + size] == lines:
            return True
    return False


def _is_among_lines(text: bytes, whole: bytes) -> bool:
    return b"\n%s\n" % text in b"\n%s\n" % whole
