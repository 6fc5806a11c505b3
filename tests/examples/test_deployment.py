"""Deployment files of the examples: valid, within each platform's limits, and true to what the package does."""

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
PATHS = {DEFAULTS.startup_path, DEFAULTS.readiness_path, DEFAULTS.liveness_path}
LIMITS = {
    "initialDelaySeconds": (1, 60),
    "periodSeconds": (1, 240),
    "timeoutSeconds": (1, 240),
    "failureThreshold": (1, 10),
    "successThreshold": (1, 10),
}
"""Of a probe of Container Apps, as every version of its API has them."""


def named(path: Path) -> str:
    return str(path.relative_to(EXAMPLES))


def needed(path: Path, delay: float) -> float:
    """Seconds from SIGTERM to the end at the latest, as the service is set up by its example."""
    if path.parent.parent.name == "factory_runs":
        return 60 + 5 + DEFAULTS.shutdown_timeout
    if "worker" in path.name:
        return DEFAULTS.drain_timeout + DEFAULTS.shutdown_timeout
    return delay + DEFAULTS.max_request_duration + DEFAULTS.shutdown_timeout + 2


def documents(path: Path) -> Iterator[dict[str, Any]]:
    yield from yaml.safe_load_all(path.read_text())


def test_there_is_a_file_for_each_target() -> None:
    assert [len(files) for files in (MANIFESTS, CONTAINER_APPS, APP_SERVICES, UNITS)] == [3, 3, 2, 3]


@pytest.mark.parametrize("version", ["1.31", "1.34"])
@pytest.mark.parametrize("path", MANIFESTS, ids=named)
def test_manifests_are_what_kubernetes_accepts(path: Path, version: str) -> None:
    for document in documents(path):
        kubernetes_validate.validate(document, version, strict=True)
    wrong = next(documents(path))
    wrong["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]["periodSecond"] = 5
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, version, strict=True)


@pytest.mark.parametrize("path", MANIFESTS, ids=named)
def test_pods_are_probed_where_the_package_answers_and_are_given_the_time_that_a_stop_takes(path: Path) -> None:
    deployment = next(documents(path))
    spec = deployment["spec"]["template"]["spec"]
    [container] = spec["containers"]
    [port] = container["ports"]
    assert port["containerPort"] == (8000 if path.name.startswith("web") else 9464)
    probes = {kind: container[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness")}
    assert {probe["httpGet"]["path"] for probe in probes.values()} == PATHS
    assert {probe["httpGet"]["port"] for probe in probes.values()} == {port["name"]}
    assert probes["liveness"]["httpGet"]["path"] == DEFAULTS.liveness_path, "a dependency must not restart pods"
    assert spec["terminationGracePeriodSeconds"] >= needed(path, 10)
    assert deployment["spec"]["selector"]["matchLabels"].items() <= (
        deployment["spec"]["template"]["metadata"]["labels"].items()
    )


@pytest.mark.parametrize("path", CONTAINER_APPS, ids=named)
def test_container_apps_stay_within_the_limits_of_their_probes(path: Path) -> None:
    text = path.read_text()
    probes = re.findall(r"\{ type: '(\w+)', httpGet: \{ path: '([^']+)', port: (\d+), scheme: 'HTTP' \}, (.*) \}", text)
    assert [kind for kind, *_ in probes] == ["Startup", "Readiness", "Liveness"]
    assert {where for _, where, *_ in probes} == PATHS
    assert {port for *_, port, _ in probes} == {"8000" if path.name.startswith("web") else "9464"}
    for *_, fields in probes:
        for name, number in re.findall(r"(\w+): (\d+)", fields):
            low, high = LIMITS[name]
            assert low <= int(number) <= high, name
    [grace] = re.findall(r"terminationGracePeriodSeconds: (\d+)", text)
    assert int(grace) >= needed(path, 10)
    assert text.count("{") == text.count("}")


@pytest.mark.parametrize("path", APP_SERVICES, ids=named)
def test_app_service_looks_at_what_the_service_says(path: Path) -> None:
    text = path.read_text()
    settings = dict(re.findall(r"\{ name: '(\w+)', value: '([^']*)' \}", text))
    assert f"healthCheckPath: '{DEFAULTS.readiness_path}'" in text
    assert settings["WEBSITE_WARMUP_PATH"] in PATHS
    assert settings["WEBSITE_SWAP_WARMUP_PING_PATH"] in PATHS
    assert settings["WEBSITE_WARMUP_STATUSES"] == settings["WEBSITE_SWAP_WARMUP_PING_STATUSES"] == "200"
    assert 2 <= int(settings["WEBSITE_HEALTHCHECK_MAXPINGFAILURES"]) <= 10
    assert needed(path, 2) <= int(settings["WEBSITES_CONTAINER_STOP_TIME_LIMIT"]) <= 120
    assert settings["CONNECTSOFT_OBS_TERMINATION_GRACE_PERIOD"] == settings["WEBSITES_CONTAINER_STOP_TIME_LIMIT"]
    assert ("webSocketsEnabled: true" in text) == (path.parent.parent.name == "bot_gateway")


@pytest.mark.parametrize("path", UNITS, ids=named)
def test_units_wait_for_the_start_and_for_the_end(path: Path) -> None:
    found: dict[str, str] = dict(
        re.findall(r"^(\w+)=(.*)$", path.read_text().replace("Environment=", ""), flags=re.MULTILINE)
    )
    assert found["Type"] == "notify"
    assert int(found["WatchdogSec"]) > 0
    delay = float(found.get("CONNECTSOFT_OBS_DRAIN_DELAY", 0))
    assert int(found["TimeoutStopSec"]) >= needed(path, delay)
    assert int(found["TimeoutStopSec"]) == int(
        found.get("CONNECTSOFT_OBS_TERMINATION_GRACE_PERIOD") or found["TimeoutStopSec"]
    )
    assert found["ExecStart"].startswith(found["WorkingDirectory"])
