"""How `slo init` derives from deployment files and settings whether Prometheus scrapes a service."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.cli import run_slo_command

from connectsoft_obs import slo
from connectsoft_obs.ops.slo.metric_delivery import detect_metric_delivery

EXAMPLES = Path(__file__).parents[3] / "examples"
POD_MONITOR = "apiVersion: azmonitoring.coreos.com/v1\nkind: PodMonitor\n"
CONTAINER_APP = "resource app 'Microsoft.App/containerApps@2024-03-01' = {}\n"
PROMETHEUS = "scrape_configs: [{job_name: orders}]\n"
ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}


@pytest.mark.parametrize(
    ("files", "environ", "scraped"),
    [
        ({"deploy/monitor.yaml": POD_MONITOR}, {}, True),
        ({"prometheus.yml": PROMETHEUS}, ENDPOINT, True),
        ({"infra/prod/main.bicep": CONTAINER_APP}, {}, False),
        ({"main.bicep": CONTAINER_APP, "monitor.yaml": POD_MONITOR}, {}, None),
        ({"node_modules/x/monitor.yaml": POD_MONITOR, ".git/monitor.yaml": POD_MONITOR}, {}, None),
        ({}, ENDPOINT, False),
        ({}, {**ENDPOINT, "OTEL_METRICS_EXPORTER": "none"}, None),
        ({}, {}, None),
    ],
    ids=["pod monitor", "configuration", "container app", "both", "ignored", "endpoint", "no metrics", "nothing"],
)
def test_delivery_is_derived_from_deployment_files_and_settings(
    tmp_path: Path, files: dict[str, str], environ: dict[str, str], scraped: bool | None
) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    detected = detect_metric_delivery(tmp_path, environ)
    assert detected.scraped is scraped
    assert detected.reason


@pytest.mark.parametrize(
    ("arguments", "files", "scraped"),
    [
        ((), {"main.bicep": CONTAINER_APP}, False),
        (("--metrics", "scraped"), {"main.bicep": CONTAINER_APP}, True),
        (("--job", "nightly-report"), {}, None),
    ],
    ids=["detected", "stated", "unknown"],
)
def test_init_writes_a_declaration_that_passes_lint(
    tmp_path: Path, arguments: tuple[str, ...], files: dict[str, str], scraped: bool | None
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    completed = run_slo_command("init", "--service", "orders", "--team", "sales", *arguments, cwd=tmp_path)
    assert completed.returncode == 0, completed.stderr
    declared = slo.load(tmp_path / "slo.toml")
    assert (declared.service, declared.team, declared.scraped) == ("orders", "sales", scraped)
    assert run_slo_command("lint", "--strict", cwd=tmp_path).returncode == 0
    again = run_slo_command("init", cwd=tmp_path)
    assert (again.returncode, "is not overwritten" in again.stderr) == (2, True)
