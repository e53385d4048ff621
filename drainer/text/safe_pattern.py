"""Regular expressions that an operator gives: whether one can be used on foreign text without taking for ever.

Pure  text only

Python's `re` tries every way to match. A repetition inside a repetition has exponentially many of them, and one that repeats
four times over has the fourth power of the text's length: a reply made for it would stop delivery.
"""

from __future__ import annotations

import re

LONGEST_PATTERN = 200
MOST_REPEATS = 2
_LITERAL = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
_REPEATED_GROUP = re.compile(r"\)(?:[*+]|\{[0-9]*,?[0-9]*\})")
_REPEAT = re.compile(r"[*+]|\{[0-9]*,[0-9]*\}")


def pattern_trouble(pattern: str) -> str:
    """Why a pattern of the operator's is refused, and what would be right; "" if it is good."""
    if not pattern.strip():
        return 'is empty; right would be a part of a reply, such as "4\\.7\\.28|rate limited"'
    if len(pattern) > LONGEST_PATTERN:
        return f"has {len(pattern)} characters; right would be at most {LONGEST_PATTERN}, or several patterns"
    try:
        matches_all = re.compile(pattern).search("") is not None
    except (re.error, OverflowError, RecursionError) as exc:
        return f"is no regular expression ({exc}); right would be one, with \\ before . ( [ * + ? that stand for themselves"
    if matches_all:
        return 'matches every reply; right would be a part of a reply, such as "4\\.7\\.28|rate limited"'
    bare = _LITERAL.sub("x", pattern)
    if _REPEATED_GROUP.search(bare) or len(_REPEAT.findall(bare)) > MOST_REPEATS:
        return (
            "may take for ever on some replies; right would be one that repeats no group, with at most "
            f"{MOST_REPEATS} of * + {{m,n}}"
        )
    return ""
