"""`connectsoft-obs doctor`, run as a command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from support.otlp import HttpSink
from support.process import APPS, free_port, uvicorn


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "CONNECTSOFT_"))}
    return subprocess.run(
        [sys.executable, "-m", "connectsoft_obs", "doctor", *arguments],
        env={**inherited, "PYTHONPATH": os.pathsep.join([*sys.path, str(APPS)]), **environ},
        capture_output=True,
        text=True,
        timeout=60,
    )


def codes(report: dict[str, Any]) -> set[str]:
    return {finding["code"] for finding in report["findings"]}


def test_report_shows_settings_with_their_sources() -> None:
    with HttpSink() as sink:
        result = run("misconfigured:app", "--json", OTEL_EXPORTER_OTLP_ENDPOINT=sink.url)
        assert sink.received.requests, "the collector receives a request"
    report = json.loads(result.stdout)
    settings = {setting["name"]: (setting["value"], setting["source"]) for setting in report["settings"]}
    assert settings["service"] == ("orders-api", "argument")
    assert settings["otlp_endpoint"] == (sink.url, "OTEL_EXPORTER_OTLP_ENDPOINT")
    assert settings["drain_delay"][1] == "default"
    assert settings["details_token"] == ("...", "argument")
    assert "correct-horse-battery" not in result.stdout + result.stderr
    assert report["collectors"]["traces"] == f"{sink.url}/v1/traces accepts exports"
    assert report["routes"] == ["/orders/{order_id}"]
    assert report["checks"] == ["readiness postgres"]


def test_objective_of_an_unknown_route_is_an_error() -> None:
    result = run("misconfigured:app")
    assert result.returncode == 1, result.stderr
    output = " ".join(result.stdout.split())
    assert "the application has no route /orders/{id}, so the SLO counts nothing" in output
    assert "Did you mean /orders/{order_id}?" in output


def test_unreachable_collector_is_an_error() -> None:
    result = run("--json", OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{free_port()}")
    assert result.returncode == 1
    findings = [finding for finding in json.loads(result.stdout)["findings"] if finding["code"] == "collector"]
    assert {finding["subject"] for finding in findings} == {"traces", "metrics"}


def test_application_without_the_middleware_is_an_error() -> None:
    result = run("misconfigured:plain", "--json")
    assert result.returncode == 1
    assert "no-middleware" in codes(json.loads(result.stdout))


def test_invalid_and_unknown_variables_are_reported() -> None:
    result = run(
        "--json", OTEL_BSP_SCHEDULE_DELAY="soon", CONNECTSOFT_OBS_DRAIN_DELAI="5", OTEL_SERVICE_NAME="orders-api"
    )
    assert result.returncode == 0, result.stderr
    assert codes(json.loads(result.stdout)) == {"variable-ignored", "variable-unknown"}
    result = run("--json", CONNECTSOFT_OBS_DRAIN_DELAY="soon")
    assert result.returncode == 1
    assert "invalid-setting" in codes(json.loads(result.stdout))


def test_invalid_endpoint_is_reported() -> None:
    result = run("--json", OTEL_EXPORTER_OTLP_ENDPOINT="http://:4318", OTEL_SERVICE_NAME="orders-api")
    assert result.returncode == 1, result.stderr
    assert codes(json.loads(result.stdout)) == {"collector"}


def test_target_that_cannot_be_imported_exits_with_2() -> None:
    result = run("no_such_module:app")
    assert result.returncode == 2
    assert "no_such_module:app: it cannot be imported" in result.stderr


def test_metrics_and_info_that_a_proxy_publishes_are_errors() -> None:
    with uvicorn("orders:app") as service:
        service.wait_until_ready()
        result = run("--json", "--public-url", service.url)
    findings = [finding for finding in json.loads(result.stdout)["findings"] if finding["code"] == "public-endpoint"]
    assert [finding["subject"] for finding in findings] == [f"{service.url}/metrics", f"{service.url}/info"]
    assert "CONNECTSOFT_OBS_TRUSTED_PROXIES" in findings[0]["advice"]
    assert result.returncode == 1


def test_hidden_metrics_and_info_are_not_reported() -> None:
    with uvicorn("orders:app", env={"CONNECTSOFT_OBS_TRUSTED_PROXIES": "127.0.0.1/32"}) as service:
        service.wait_until_ready()
        result = run("--json", "--public-url", f"{service.url}/")
    assert not {"public-endpoint", "public-url"} & codes(json.loads(result.stdout))
    assert result.returncode == 0


def test_public_address_that_does_not_answer_is_an_error() -> None:
    result = run("--json", "--public-url", f"http://127.0.0.1:{free_port()}")
    assert "public-url" in codes(json.loads(result.stdout))
    assert result.returncode == 1
