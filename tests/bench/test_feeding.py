"""The benchmark still works: a few entries through each of those compared."""

from __future__ import annotations

import pytest

from tests.bench import feeding
from tests.postfix import needed


def test_few_entries_give_a_table_of_all_senders(capsys: pytest.CaptureFixture[str]) -> None:
    needed()
    feeding.main(feeding.Entries(runner=6, drainer=10, source=50, shapes=(2,)))
    lines = capsys.readouterr().out.splitlines()
    for name in ("Mailman 3's outgoing runner", "drainer, same Mailman 3 queue", "drainer, Mailman 2.1", "smtp-source"):
        assert sum(name in line for line in lines) == 1, lines
