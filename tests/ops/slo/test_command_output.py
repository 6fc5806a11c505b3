"""Output of the `slo` commands: files that do not overlap, JSON, complete help, completion, and rules for Sloth's dashboards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml
from support.cli import run_slo_command
from support.prometheus_backfill import prometheus_with_history
from support.servers import program_path

from connectsoft_obs import slo
from connectsoft_obs.ops.prometheus_api import PrometheusClient
from connectsoft_obs.ops.slo.live_check import check_live
from connectsoft_obs.ops.slo.target_registry import generate_files

SLO_FILE = """
[service]
name = "shop"
team = "sales"

[[slo]]
name = "api"
objective = 99.9
description = "People can buy."
sli = { kind = "http_availability" }

[[slo]]
name = "open"
sli = { kind = "outage_limit", limit = "5m" }
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "slo.toml").write_text(SLO_FILE)
    return tmp_path


def test_glob_for_rule_files_selects_each_rule_once(project: Path) -> None:
    completed = run_slo_command("generate", "-t", "all", "--compatible", "sloth", "-o", "out", cwd=project)
    assert completed.returncode == 0, completed.stderr
    rules: Counter[str] = Counter()
    for file in (project / "out").glob("*.rules.yaml"):
        for group in yaml.safe_load(file.read_text())["groups"]:
            for rule in group["rules"]:
                name = rule.get("record") or rule["alert"]
                rules[f"{name} {json.dumps(rule['labels'], sort_keys=True)}"] += 1
    assert rules
    assert [name for name, number in rules.items() if number > 1] == []


def test_explain_and_diff_write_json(project: Path) -> None:
    [api, outage] = json.loads(run_slo_command("explain", "--json", cwd=project).stdout)
    assert (api["rows"][0]["severity"], api["rows"][0]["detection_time"]) == ("Sev1", "51.8 s")
    assert outage["title"].startswith("shop-open: no outage longer than 5 min")
    (project / "weaker.toml").write_text(SLO_FILE.replace("99.9", "99.5"))
    arguments = ("diff", "slo.toml", "weaker.toml", "--json")
    changes = json.loads(run_slo_command(*arguments, cwd=project).stdout)
    assert {"subject": "api", "field": "error budget"}.items() <= changes[1].items()
    assert any(change["weaker"] for change in changes)
    assert run_slo_command(*arguments, "--exit-code", cwd=project).returncode == 1
    assert json.loads(run_slo_command("diff", "slo.toml", "slo.toml", "--json", cwd=project).stdout) == []


def test_help_texts_are_complete(project: Path) -> None:
    completed = run_slo_command("--help", cwd=project)
    assert completed.returncode == 0
    commands = completed.stdout.partition("Commands:")[2]
    assert "..." not in commands
    assert "bucket boundaries, limits of targets." in commands


@pytest.mark.parametrize(
    ("words", "completions"),
    [
        ("connectsoft-obs sl", {"slo"}),
        ("connectsoft-obs slo ga", {"gate"}),
        ("connectsoft-obs slo lint --az", {"--azure"}),
    ],
)
def test_shell_completes_commands_and_options(words: str, completions: set[str]) -> None:
    environ = {
        **os.environ,
        "_CONNECTSOFT_OBS_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    completed = subprocess.run(
        [sys.executable, "-m", "connectsoft_obs"], env=environ, capture_output=True, text=True, timeout=60
    )
    assert {line.partition(",")[2] for line in completed.stdout.splitlines()} == completions, completed.stderr
    script = subprocess.run(
        [sys.executable, "-m", "connectsoft_obs"],
        env={**os.environ, "_CONNECTSOFT_OBS_COMPLETE": "zsh_source"},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert script.stdout.startswith("#compdef connectsoft-obs")


def test_sloth_series_have_the_names_labels_and_values(project: Path) -> None:
    completed = run_slo_command("generate", "-t", "prometheus", "--compatible", "sloth", cwd=project)
    assert completed.returncode == 0, completed.stderr
    [group] = yaml.safe_load((project / "shop.sloth.rules.yaml").read_text())["groups"]
    names = {rule["record"] for rule in group["rules"]}
    windows = {f"slo:sli_error:ratio_rate{window}" for window in ("5m", "30m", "1h", "2h", "6h", "1d", "3d", "30d")}
    assert names == windows | {
        "slo:objective:ratio", "slo:error_budget:ratio", "slo:time_period:days", "slo:current_burn_rate:ratio",
        "slo:period_burn_rate:ratio", "slo:period_error_budget_remaining:ratio", "sloth_slo_info",
    }  # fmt: skip
    good = 'connectsoft_slo_events_total{job="shop",connectsoft_slo_name="api",connectsoft_slo_outcome="good"}'
    labels = '{sloth_id="shop-api",sloth_service="shop",sloth_slo="api"}'
    remaining = "slo:period_error_budget_remaining:ratio"
    tests = {
        f"abs(slo:current_burn_rate:ratio{labels} - 2) < bool 0.001": 1,
        'abs(slo:sli_error:ratio_rate5m{sloth_id="shop-api",sloth_window="5m"} - 0.002) < bool 0.00001': 1,
        f'sum({remaining}{labels}) == bool sum({remaining}{{slo_id="shop-api"}})': 1,
    }
    document = {
        "rule_files": ["shop.rules.yaml", "shop.sloth.rules.yaml"],
        "evaluation_interval": "30s",
        "group_eval_order": ["slo-shop-api", "sloth-shop-api"],
        "tests": [
            {
                "interval": "30s",
                "input_series": [
                    {"series": good, "values": "0+998x240"},
                    {"series": good.replace("good", "bad"), "values": "0+2x240"},
                ],
                "promql_expr_test": [
                    {"expr": f"sum({expression})", "eval_time": "2h", "exp_samples": [{"labels": "{}", "value": value}]}
                    for expression, value in tests.items()
                ],
            }
        ],
    }
    (project / "test.yaml").write_text(json.dumps(document))
    promtool = [program_path("promtool"), "test", "rules", "test.yaml"]
    result = subprocess.run(promtool, cwd=project, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr


def test_runbook_has_logs_and_rollback_for_each_target() -> None:
    for name, page in generate_files("runbook", [slo.preset("identity")]).items():
        if name != "identity.md":
            commands = ("kubectl logs", "az monitor log-analytics query", "journalctl -u", "logcli query",
                        "kubectl rollout undo", "az containerapp ingress traffic set", "az webapp deployment slot swap",
                        "systemctl restart")  # fmt: skip
            assert [command for command in commands if command not in page] == []
            assert "<service>" not in page


def test_dashboard_of_an_outage_limit_has_no_panel_without_series() -> None:
    dashboards = generate_files("grafana", [slo.preset("config")])
    text = dashboards["config-slo.dashboard.json"]
    panels = [panel for panel in json.loads(text)["panels"] if panel["type"] not in ("row", "table")]
    expressions = "\n".join(target["expr"] for panel in panels for target in panel["targets"])
    assert "slo:outage:bool" in expressions
    assert "slo:error_budget" not in expressions
    assert "slo:sli" not in expressions
    assert "$slo" not in text


def test_lint_reports_a_selector_of_several_environments() -> None:
    service_slos = slo.ServiceSLOs(service="shop", slos=(slo.availability("api", 99.9),))
    now = int(time.time())
    history = ["# TYPE up gauge"]
    history += [f'up{{job="{namespace}/shop"}} 1 {at}' for namespace in ("a", "b") for at in (now - 60, now)]
    history.append("# TYPE target_info gauge")
    history += [
        f'target_info{{job="a/shop",deployment_environment_name="{environment}"}} 1 {at}'
        for environment in ("production", "staging")
        for at in (now - 60, now)
    ]
    with prometheus_with_history(service_slos, history) as server:
        findings = {finding.code: finding.message for finding in check_live(service_slos, PrometheusClient(server.url))}
    assert findings["environments"].endswith("several environments: production, staging")
    assert findings["several-jobs"].endswith("several jobs: a/shop, b/shop")
    assert "no-target" not in findings
