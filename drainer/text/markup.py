"""HTML and SVG. Every text is escaped unless it is Markup, so foreign text cannot become markup.

Pure  values in, Markup out
"""

from __future__ import annotations

from html import escape
from typing import Self

from drainer.text.wording import shown

_VOID = frozenset({"br", "circle", "line", "link", "meta", "path", "rect"})


class Markup(str):
    """Text that is HTML already. Only `tag` and `joined` make it."""

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        return super().__new__(cls, text)


def tag(name: str, *children: str | None, **attributes: str | float | None) -> Markup:
    """An element. Children that are not Markup are escaped; None is left out.

    attributes  `class_` stands for class, `aria_label` for aria-label; "" is an attribute without a value, None is left out
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items() if value is not None)
    if name in _VOID:
        return Markup(f"<{name}{written}>" if name in ("br", "link", "meta") else f"<{name}{written}/>")
    return Markup(f"<{name}{written}>{joined(*children)}</{name}>")


def joined(*children: str | None) -> Markup:
    return Markup("".join(_escaped(child) for child in children if child is not None))


def _escaped(child: str) -> str:
    return child if isinstance(child, Markup) else escape(shown(child))


def _attribute(key: str, value: str | float) -> str:
    name = key.rstrip("_").replace("_", "-")
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return f' {name}="{escape(shown(text))}"' if text else f" {name}"
