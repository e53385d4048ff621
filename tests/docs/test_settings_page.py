"""docs/settings.md is what the models say."""

from __future__ import annotations

from drainer.settings import Settings
from drainer.settings.section import fields_of
from drainer.start.reloading import BUILT_ONCE
from tests.docs.settings import PAGE, page


def test_page_is_what_the_models_say() -> None:
    assert PAGE.read_text("utf-8") == page(), "`make docs` writes it anew"


def test_page_has_every_setting_with_its_default() -> None:
    text = page()
    for name in Settings.model_fields:
        section = text.partition(f"\n## [{name}]\n")[2].partition("\n## ")[0]
        fields = fields_of(type(getattr(Settings(), name)))
        rows = [line.split(" | ") for line in section.splitlines() if line.startswith("| `")]
        assert [row[0] for row in rows] == [f"| `{key}`" for key in fields]
        assert all(len(row) == 4 and all(row) for row in rows), name


def test_page_marks_each_setting_that_waits_for_a_restart() -> None:
    assert page().count(" (restart) |\n") == len(BUILT_ONCE)
