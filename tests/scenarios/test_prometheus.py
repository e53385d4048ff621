"""A real service's /metrics: valid for Prometheus, and the figures of `drainer status --json`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from drainer.report.metrics import CONTENT_TYPE, exposition
from drainer.report.snapshot import Snapshot
from tests.promtool import Series, needs_promtool, promtool, series
from tests.scenarios.operated import Site, site

NO_FIGURES = {
    *("pid", "mta.port", "pauses.until", "pauses.since", "mailman.runners.pid", "guards.value", "guards.limit"),
    *("lists.finish", "lists.seconds", "lists.low_s", "lists.high_s"),
}
"""Numbers of status --json that are no measurement; a guard's, which are there in the guard's own unit; and the forecasts of
single lists, which would be four more series for each."""
NO_SERIES = ("if_resumed.", "forecasts.")
"""What would be, were it resumed; and how good the forecasts were, which Prometheus can tell from those it has kept."""


def counters(lists: Site) -> Series:
    found = series(lists.answer("/metrics")[1])
    return {key: value for key, value in found.items() if key[0].endswith("_total")}


def figures(value: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """Every number in a JSON value, with its path."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from figures(part, f"{path}.{name}".lstrip("."))
    elif isinstance(value, list):
        for part in value:
            yield from figures(part, path)
    elif isinstance(value, int | float) and not isinstance(value, bool) and has_series(path):
        yield path, float(value)


def has_series(path: str) -> bool:
    return path not in NO_FIGURES and not path.startswith(NO_SERIES)


MOVING = (
    "drainer_snapshot_timestamp_seconds",
    "drainer_eta_",
    "drainer_service_",
    "drainer_arrival_",
    "drainer_load1",
    "drainer_filesystem_free_",
    "drainer_mailman_queue_oldest_",
)
"""What need not be the same a moment later, even while paused."""


@needs_promtool
def test_metrics_are_valid_equal_to_status_and_counters_outlive_a_kill(tmp_path: Path) -> None:
    with site(tmp_path, 25, feed={"messages": "3/s"}) as lists:
        with lists.run() as service:
            before = counters(lists)
            lists.status_when(lambda said: said["done"]["delivered_recipients"] > 0)
            lists.says("pause", "--reason", "to compare")
            lists.status_when(lambda said: said["guards"] and said["mailman"]["queues"])
            lists.paused_at_rest()
            head, page = lists.answer("/metrics")
            said = lists.status()
            assert f"Content-Type: {CONTENT_TYPE}" in head
            promtool("check", "metrics", given=page)

            found, expected = series(page), series(exposition(Snapshot.model_validate(said)))
            shown = set(expected.values())
            assert [line for line in figures(said) if line[1] not in shown] == []
            assert set(found) == set(expected)
            passed_s = said["at"] - found["drainer_snapshot_timestamp_seconds", ()]
            assert passed_s > 0
            for key, value in expected.items():
                if key[0] in ("drainer_backlog_oldest_age_seconds", "drainer_list_oldest_age_seconds"):
                    assert abs(value - found[key] - passed_s) < 1e-3, key
                elif not key[0].startswith(MOVING):
                    assert value == found[key], key

            after = counters(lists)
            assert all(after[key] >= value for key, value in before.items())
            assert after["drainer_delivered_recipients_total", ()] == said["done"]["delivered_recipients"] > 0
            service.kill()
        with lists.run():
            assert counters(lists) == after
