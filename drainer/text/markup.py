"""HTML and SVG in which nothing foreign can become markup: text is escaped because it is text.

Pure  values in, Markup out
"""

from __future__ import annotations

from html import escape
from typing import Self

from drainer.text.wording import shown

_VOID = frozenset({"br", "circle", "line", "link", "meta", "path", "rect"})


class Markup(str):
    """Text that is HTML already: made by `tag` and `joined` only."""

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        return super().__new__(cls, text)


def tag(name: str, *children: str | None, **attributes: str | float | None) -> Markup:
    """An element. Children that are not Markup are escaped; None is nothing.

    attributes  `class_` and `for_` for class and for, `aria_label` for aria-label; "" is an attribute without a value,
                None is no attribute
    """
    said = "".join(_attribute(key, value) for key, value in attributes.items() if value is not None)
    if name in _VOID:
        return Markup(f"<{name}{said}>" if name in ("br", "link", "meta") else f"<{name}{said}/>")
    return Markup(f"<{name}{said}>{joined(*children)}</{name}>")


def joined(*children: str | None) -> Markup:
    return Markup("".join(_escaped(child) for child in children if child is not None))


def _escaped(child: str) -> str:
    return child if isinstance(child, Markup) else escape(shown(child))


def _attribute(key: str, value: str | float) -> str:
    name = key.rstrip("_").replace("_", "-")
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return f' {name}="{escape(shown(text))}"' if text else f" {name}"
