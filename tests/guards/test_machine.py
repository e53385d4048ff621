"""Load and pressure as the kernel shows them; what it does not show is not taken for zero."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drainer.guards.machine import machine_guards, parse_pressure
from drainer.guards.verdict import Guard, Marks

STALLED = """some avg10=48.12 avg60=20.00 avg300=5.30 total=17051559435
full avg10=22.50 avg60=8.00 avg300=1.00 total=685235274
"""
"""As /proc/pressure/memory prints it (Linux 6.1)."""
OFF = Marks()


def seen(directory: Path, load: Marks = OFF, **pressures: Marks) -> dict[str, Guard]:
    return {guard.name: guard for guard in machine_guards(load, pressures, {}, directory)}


def test_stalls_slow_and_stop_by_the_line_that_counts(tmp_path: Path) -> None:
    for resource in ("memory", "io", "cpu"):
        (tmp_path / resource).write_text(STALLED)
    guards = seen(tmp_path, memory=Marks(20, 40), io=Marks(20, 40), cpu=Marks(50))
    assert [guards[f"{name}_pressure"].verdict for name in ("memory", "io", "cpu")] == ["stop", "slow", "go"]
    assert guards["memory_pressure"].reason == "memory pressure in percent of 10 s: 48.12, limit 40"
    assert guards["io_pressure"].value == 22.5


def test_kernel_without_pressure_figures_is_not_measured_and_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "cpu").write_text("")
    guards = seen(tmp_path, memory=Marks(1, 2), cpu=Marks(1, 2))
    for name in ("memory_pressure", "io_pressure", "cpu_pressure"):
        assert (guards[name].verdict, guards[name].value) == ("go", None)
        assert guards[name].reason.startswith("not measured: ")


def test_load_above_its_limit_slows_and_no_limit_never_does(tmp_path: Path) -> None:
    assert seen(tmp_path)["load"].verdict == "go"
    assert seen(tmp_path, load=Marks(1e-9))["load"].verdict in ("slow", "go")
    assert seen(tmp_path, load=Marks(1e9, 1e9))["load"].verdict == "go"


@given(st.text(), st.sampled_from(["some", "full"]))
def test_any_text_gives_a_percentage_or_a_value_error(text: str, line: str) -> None:
    try:
        assert 0 <= parse_pressure(text, line) <= 100
    except ValueError:
        return


@pytest.mark.parametrize("text", ["some avg10=nan", "some avg10=101", "some avg10=", "full avg10=1.00", "some avg60=1"])
def test_figure_that_is_no_percentage_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"avg10|float"):
        parse_pressure(text, "some")
