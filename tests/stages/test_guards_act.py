"""A guard stops, slows and lets go while mail is under way: no recipient is lost, none gets it twice, and it is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from drainer.demo.sample_queue import write_plain
from drainer.demo.sink import Sink
from tests.stages.inside import inside


async def test_memory_pressure_stops_then_slows_then_lets_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pressure = tmp_path / "pressure"
    pressure.mkdir()

    def stalled(percent: float) -> None:
        half_written = pressure / "memory.tmp"
        half_written.write_text(f"some avg10={percent:.2f} avg60=0.00 avg300=0.00 total=0\n")
        half_written.rename(pressure / "memory")

    monkeypatch.setattr("drainer.guards.machine.PRESSURE", pressure)
    monkeypatch.setattr("drainer.rounds.looking_around.LOOK_AROUND_S", 0.01)
    outage = write_plain(tmp_path, 8, 2)
    stalled(70)
    async with Sink() as sink, inside(tmp_path, outage, sink, feed={"messages": "20/s"}) as run:
        await run.until("it stops", lambda: "guard" in run.resources.gate.reasons)
        said = await run.status()
        assert said.reason == "memory_pressure: memory pressure in percent of 10 s: 70, limit 60"
        before = len(sink.taken)
        stalled(50)
        await run.until("it is looked at", lambda: "ends below 48" in run.resources.gate.reasons.get("guard", ""))
        assert len(sink.taken) == before, "stopped still"
        stalled(30)
        await run.until("it is slow", lambda: run.resources.rate.binding.startswith("the guard memory_pressure, which"))
        assert "guard" not in run.resources.gate.reasons
        stalled(1)
        await run.until("all is delivered", lambda: run.taken() == run.owed())
        (guard,) = (one for one in (await run.status()).guards if one.name == "memory_pressure")
        assert (guard.verdict, guard.value, guard.limit) == ("go", 1.0, 20.0)
        (unseen,) = (one for one in (await run.status()).guards if one.name == "io_pressure")
        assert (unseen.value, unseen.reason) == (None, f"not measured: this kernel has no {pressure / 'io'}")
