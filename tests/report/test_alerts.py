"""The shipped alert rules and dashboard: right for Prometheus, each alert tried, every name one that is exposed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from drainer.guards.mailman import QueueCount, Runner
from drainer.guards.verdict import Guard
from drainer.report.metrics import exposition
from drainer.report.snapshot import ListBacklog
from tests.promtool import needs_promtool, promtool
from tests.report.test_metrics import snapshot

CONFIG = Path(__file__).parents[2] / "config"
RULES, RULE_TESTS, DASHBOARD = (CONFIG / name for name in ("alerts.yml", "alerts_test.yml", "grafana-dashboard.json"))


def exposed() -> set[str]:
    """Names of all metrics, by their HELP lines."""
    page = exposition(
        snapshot(
            guards=[Guard(name="ledger_bytes", verdict="go", value=2, limit=1)],
            lists=[ListBacklog(list="a@example.org", entries=1, recipients=1)],
            mailman={"queues": [QueueCount(name="out", entries=1)], "runners": [Runner(name="out", pid=1)]},
        )
    )
    return set(re.findall(r"^# HELP (\S+)", page.decode(), re.MULTILINE))


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


@needs_promtool
def test_rules_are_valid_and_each_alert_fires_in_its_case_and_not_in_a_healthy_drain() -> None:
    promtool("check", "rules", RULES)
    promtool("test", "rules", RULE_TESTS)


def test_every_alert_has_a_case_and_says_what_to_do() -> None:
    rules = RULES.read_text().split("- alert: ")[1:]
    names = [rule.split()[0] for rule in rules]
    assert sorted(set(names)) == sorted(names)
    assert set(names) == set(re.findall(r'ALERTS\{alertname="(\w+)"', RULE_TESTS.read_text()))
    for rule in rules:
        assert all(f"{part}:" in rule for part in ("severity", "summary", "description", "action")), rule


@pytest.mark.parametrize("file", [RULES, RULE_TESTS, DASHBOARD], ids=lambda file: file.name)
def test_every_metric_named_is_exposed(file: Path) -> None:
    named = set(re.findall(r"\bdrainer_\w+", file.read_text()))
    assert len(named) > 10
    assert named <= exposed()


def test_dashboard_leaves_out_only_what_is_named_here() -> None:
    shown = set(re.findall(r"\bdrainer_\w+", DASHBOARD.read_text()))
    assert exposed() - shown == {
        "drainer_backlog_bytes",
        "drainer_drain_start_timestamp_seconds",
        "drainer_dsns_dropped_total",
        "drainer_dsns_owed",
        "drainer_dsns_sent_total",
        "drainer_eta_confidence_ratio",
        "drainer_load1",
        "drainer_load1_limit",
        "drainer_mailman_runner_taken_entries_total",
        "drainer_mta_mails_per_session_limit",
        "drainer_mta_next_try_timestamp_seconds",
        "drainer_mta_recipients_per_transaction_limit",
        "drainer_mta_reply_seconds",
        "drainer_mta_unloaded_reply_seconds",
        "drainer_pauses",
        "drainer_pressure_percent",
        "drainer_rate_bound_since_timestamp_seconds",
        "drainer_side_task_failures_total",
        "drainer_state_since_timestamp_seconds",
        "drainer_undone_recipients_total",
        "drainer_undropped_entries_total",
    }


def test_dashboard_has_what_grafana_needs_to_import_it() -> None:
    board = json.loads(DASHBOARD.read_text())
    assert board["schemaVersion"] >= 38 and board["uid"] and "id" not in board
    variables = {variable["name"] for variable in board["templating"]["list"]}
    ids = [panel["id"] for panel in panels()]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        columns = range(place["x"], place["x"] + place["w"])
        cells = {(x, y) for x in columns for y in range(place["y"], place["y"] + place["h"])}
        assert not taken & cells and place["x"] + place["w"] <= 24, panel["title"]
        taken |= cells
        if panel["type"] == "row":
            continue
        assert panel["title"] and panel["targets"] and panel["datasource"]["uid"] == "${datasource}"
        for target in panel["targets"]:
            assert set(re.findall(r"\$(\w+)", target["expr"])) - {"__rate_interval"} <= variables


@needs_promtool
def test_every_expression_on_the_dashboard_is_promql(tmp_path: Path) -> None:
    expressions = [target["expr"] for panel in panels() for target in panel.get("targets", [])]
    rules = tmp_path / "rules.yml"
    lines = ["groups:", "  - name: dashboard", "    rules:"]
    for number, expression in enumerate(expressions):
        filled = expression.replace("$instance", ".*").replace("$__rate_interval", "1m")
        lines += [f"      - record: panel:{number}", f"        expr: {json.dumps(filled)}"]
    rules.write_text("\n".join(lines) + "\n")
    promtool("check", "rules", rules)
