"""Deployment files of the examples: valid, within each platform's limits, consistent with the package's defaults."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from connectsoft_obs.settings import Settings

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = sorted([*EXAMPLES.glob("deploy/*"), *EXAMPLES.glob("*/deploy/*")])
MANIFESTS = [path for path in FILES if path.suffix == ".yaml"]
CONTAINER_APPS = [path for path in FILES if path.name.endswith("container-apps.bicep")]
APP_SERVICES = [path for path in FILES if path.name.endswith("app-service.bicep")]
UNITS = [path for path in FILES if path.suffix == ".service"]
DEFAULTS = Settings()
PROBE_PATHS = {DEFAULTS.startup_path, DEFAULTS.readiness_path, DEFAULTS.liveness_path}
PROBE_LIMITS = {
    "initialDelaySeconds": (1, 60),
    "periodSeconds": (1, 240),
    "timeoutSeconds": (1, 240),
    "failureThreshold": (1, 10),
    "successThreshold": (1, 10),
}
"""Limits of a probe of Container Apps, the same in all versions of its API."""


def relative_name(path: Path) -> str:
    return str(path.relative_to(EXAMPLES))


def shutdown_seconds(path: Path, delay: float) -> float:
    """The maximum time from SIGTERM to the exit, with the settings of the example."""
    if path.parent.parent.name == "factory_runs":
        return 60 + 5 + DEFAULTS.shutdown_timeout
    if "worker" in path.name:
        return DEFAULTS.drain_timeout + DEFAULTS.shutdown_timeout
    return delay + DEFAULTS.max_request_duration + DEFAULTS.shutdown_timeout + 2


def documents(path: Path) -> Iterator[dict[str, Any]]:
    yield from yaml.safe_load_all(path.read_text())


def test_each_target_has_a_file() -> None:
    assert [len(files) for files in (MANIFESTS, CONTAINER_APPS, APP_SERVICES, UNITS)] == [3, 3, 2, 3]


@pytest.mark.parametrize("version", ["1.31", "1.34"])
@pytest.mark.parametrize("path", MANIFESTS, ids=relative_name)
def test_kubernetes_accepts_the_manifests(path: Path, version: str) -> None:
    for document in documents(path):
        kubernetes_validate.validate(document, version, strict=True)
    invalid = next(documents(path))
    invalid["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]["periodSecond"] = 5
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(invalid, version, strict=True)


@pytest.mark.parametrize("path", MANIFESTS, ids=relative_name)
def test_pod_probes_and_grace_period_match_the_package(path: Path) -> None:
    deployment = next(documents(path))
    spec = deployment["spec"]["template"]["spec"]
    [container] = spec["containers"]
    [port] = container["ports"]
    assert port["containerPort"] == (8000 if path.name.startswith("web") else 9464)
    probes = {kind: container[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness")}
    assert {probe["httpGet"]["path"] for probe in probes.values()} == PROBE_PATHS
    assert {probe["httpGet"]["port"] for probe in probes.values()} == {port["name"]}
    assert probes["liveness"]["httpGet"]["path"] == DEFAULTS.liveness_path, "a failed dependency must not restart pods"
    assert spec["terminationGracePeriodSeconds"] >= shutdown_seconds(path, 10)
    assert deployment["spec"]["selector"]["matchLabels"].items() <= (
        deployment["spec"]["template"]["metadata"]["labels"].items()
    )


@pytest.mark.parametrize("path", CONTAINER_APPS, ids=relative_name)
def test_container_apps_probes_are_within_the_limits(path: Path) -> None:
    text = path.read_text()
    probes = re.findall(r"\{ type: '(\w+)', httpGet: \{ path: '([^']+)', port: (\d+), scheme: 'HTTP' \}, (.*) \}", text)
    assert [kind for kind, *_ in probes] == ["Startup", "Readiness", "Liveness"]
    assert {probe_path for _, probe_path, *_ in probes} == PROBE_PATHS
    assert {port for *_, port, _ in probes} == {"8000" if path.name.startswith("web") else "9464"}
    for *_, fields in probes:
        for name, number in re.findall(r"(\w+): (\d+)", fields):
            minimum, maximum = PROBE_LIMITS[name]
            assert minimum <= int(number) <= maximum, name
    [grace] = re.findall(r"terminationGracePeriodSeconds: (\d+)", text)
    assert int(grace) >= shutdown_seconds(path, 10)
    assert text.count("{") == text.count("}")


@pytest.mark.parametrize("path", APP_SERVICES, ids=relative_name)
def test_app_service_uses_the_health_endpoints(path: Path) -> None:
    text = path.read_text()
    settings = dict(re.findall(r"\{ name: '(\w+)', value: '([^']*)' \}", text))
    assert f"healthCheckPath: '{DEFAULTS.readiness_path}'" in text
    assert settings["WEBSITE_WARMUP_PATH"] in PROBE_PATHS
    assert settings["WEBSITE_SWAP_WARMUP_PING_PATH"] in PROBE_PATHS
    assert settings["WEBSITE_WARMUP_STATUSES"] == settings["WEBSITE_SWAP_WARMUP_PING_STATUSES"] == "200"
    assert 2 <= int(settings["WEBSITE_HEALTHCHECK_MAXPINGFAILURES"]) <= 10
    assert shutdown_seconds(path, 2) <= int(settings["WEBSITES_CONTAINER_STOP_TIME_LIMIT"]) <= 120
    assert settings["CONNECTSOFT_OBS_TERMINATION_GRACE_PERIOD"] == settings["WEBSITES_CONTAINER_STOP_TIME_LIMIT"]
    assert ("webSocketsEnabled: true" in text) == (path.parent.parent.name == "bot_gateway")


@pytest.mark.parametrize("path", UNITS, ids=relative_name)
def test_systemd_units_use_notify_and_a_sufficient_stop_timeout(path: Path) -> None:
    unit: dict[str, str] = dict(
        re.findall(r"^(\w+)=(.*)$", path.read_text().replace("Environment=", ""), flags=re.MULTILINE)
    )
    assert unit["Type"] == "notify"
    assert int(unit["WatchdogSec"]) > 0
    delay = float(unit.get("CONNECTSOFT_OBS_DRAIN_DELAY", 0))
    assert int(unit["TimeoutStopSec"]) >= shutdown_seconds(path, delay)
    assert int(unit["TimeoutStopSec"]) == int(
        unit.get("CONNECTSOFT_OBS_TERMINATION_GRACE_PERIOD") or unit["TimeoutStopSec"]
    )
    assert unit["ExecStart"].startswith(unit["WorkingDirectory"])
