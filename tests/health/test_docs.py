"""Pages about health, restarts and deployment: their code runs, and their numbers and names match the package."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from connectsoft_obs.endpoints import EndpointRouter
from connectsoft_obs.health.shutdown_budget import LIMITS, MARGIN
from connectsoft_obs.identity import Platform
from connectsoft_obs.settings import FIELDS, Settings, variable
from connectsoft_obs.telemetry import Telemetry
from connectsoft_obs.testing import capture

DOCS = Path(__file__).parents[2] / "docs" / "how-to"
PAGES = ["health.md", "rolling-restarts.md", "deployment.md"]
HEALTH, RESTARTS, DEPLOYMENT = ((DOCS / page).read_text() for page in PAGES)


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def needed_grace_period(drain_delay: float) -> float:
    settings = Settings()
    return drain_delay + settings.max_request_duration + settings.shutdown_timeout + MARGIN


@pytest.mark.parametrize("text", [HEALTH, RESTARTS], ids=PAGES[:2])
def test_python_blocks_of_a_page_run_in_order(text: str) -> None:
    text = re.sub(r"<!--- skip: next -->\s*```python\n.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {"__name__": "page"}
    with capture():
        for code in blocks(text, "python"):
            exec(compile(code, "page", "exec"), names)  # noqa: S102  it runs the documentation


@pytest.mark.parametrize("page", PAGES)
def test_variables_and_links_of_a_page_exist(page: str) -> None:
    text = (DOCS / page).read_text()
    variables = {variable(name, field.metadata["env"]) for name, field in FIELDS.items()}
    assert set(re.findall(r"\bCONNECTSOFT_OBS_[A-Z_]+", text)) <= variables
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        assert (DOCS / link).exists(), link


def test_probe_paths_of_platforms_are_served() -> None:
    paths = EndpointRouter(Telemetry(Settings(), exports=False)).pages
    probe_paths = re.findall(r"path: '?(/[a-z/]+)", DEPLOYMENT) + re.findall(
        r"(?:_PATH', value|Path): '(/[a-z/]+)'", DEPLOYMENT
    )
    assert len(probe_paths) == 9
    assert set(probe_paths) <= paths.keys()


def test_table_of_delays_matches_the_code() -> None:
    rows = re.findall(r"^\| [\w ]+ \| (\d+) s \| (\d+) s \|", RESTARTS, re.MULTILINE)
    assert sorted(rows) == sorted((f"{limits.drain_delay:g}", f"{limits.grace_period:g}") for limits in LIMITS.values())


def test_grace_periods_of_the_pages_are_sufficient() -> None:
    [pod] = [yaml.safe_load(block)["spec"] for block in blocks(RESTARTS, "yaml")]
    [sleep] = [container["lifecycle"]["preStop"]["sleep"]["seconds"] for container in pod["containers"]]
    assert pod["terminationGracePeriodSeconds"] >= needed_grace_period(sleep)
    [deployment] = [yaml.safe_load(block)["spec"] for block in blocks(DEPLOYMENT, "yaml")]
    assert deployment["template"]["spec"]["terminationGracePeriodSeconds"] >= needed_grace_period(
        LIMITS[Platform.AKS].drain_delay
    )
    [apps] = re.findall(r"^  terminationGracePeriodSeconds: (\d+)", DEPLOYMENT, re.MULTILINE)
    assert int(apps) >= needed_grace_period(LIMITS[Platform.CONTAINER_APPS].drain_delay)
    [service] = re.findall(r"STOP_TIME_LIMIT', value: '(\d+)'", DEPLOYMENT)
    assert int(service) >= needed_grace_period(LIMITS[Platform.APP_SERVICE].drain_delay)
    [delay] = re.findall(r"DRAIN_DELAY=(\d+)", DEPLOYMENT)
    [stop] = re.findall(r"TimeoutStopSec=(\d+)", DEPLOYMENT)
    assert re.findall(r"GRACE_PERIOD=(\d+)", DEPLOYMENT) == [stop]
    assert int(stop) >= needed_grace_period(float(delay))


def test_container_apps_probes_are_within_the_limits_of_every_api_version() -> None:
    probes = [line for block in blocks(DEPLOYMENT, "bicep") for line in block.splitlines() if "type: '" in line]
    values = [int(value) for line in probes for value in re.findall(r"(?:Seconds|Threshold): (\d+)", line)]
    assert len(probes) == 3
    assert max(values) <= 10


@pytest.mark.parametrize(
    ("server", "option"),
    [
        ("uvicorn", "--timeout-graceful-shutdown"),
        ("gunicorn", "--graceful-timeout"),
        ("granian", "--workers-kill-timeout"),
        ("hypercorn", "--workers"),
    ],
)
def test_server_options_of_the_page_exist(server: str, option: str) -> None:
    assert f"`{option} " in RESTARTS or f"`{option}`" in RESTARTS
    completed = subprocess.run(
        [sys.executable, "-m", server, "--help"], capture_output=True, text=True, timeout=20, check=True
    )
    assert option in completed.stdout
