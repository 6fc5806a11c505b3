"""The pages about health, restarts and deployment are true: their code runs, their numbers and names are ours."""

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
from connectsoft_obs.settings import Settings, variable
from connectsoft_obs.telemetry import Telemetry
from connectsoft_obs.testing import capture

DOCS = Path(__file__).parents[2] / "docs" / "how-to"
PAGES = ["health.md", "rolling-restarts.md", "deployment.md"]
HEALTH, RESTARTS, DEPLOYMENT = ((DOCS / page).read_text() for page in PAGES)


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def needed(drain: float) -> float:
    settings = Settings()
    return drain + settings.max_request_duration + settings.shutdown_timeout + MARGIN


@pytest.mark.parametrize("text", [HEALTH, RESTARTS], ids=PAGES[:2])
def test_the_python_of_a_page_runs_from_top_to_bottom(text: str) -> None:
    text = re.sub(r"<!--- skip: next -->\s*```python\n.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {"__name__": "page"}
    with capture():
        for code in blocks(text, "python"):
            exec(compile(code, "page", "exec"), names)  # noqa: S102  that is the test


@pytest.mark.parametrize("page", PAGES)
def test_every_variable_exists_and_every_link_leads_somewhere(page: str) -> None:
    text = (DOCS / page).read_text()
    known = {variable(name, field.metadata["env"]) for name, field in Settings.__dataclass_fields__.items()}
    assert set(re.findall(r"\bCONNECTSOFT_OBS_[A-Z_]+", text)) <= known
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        assert (DOCS / link).exists(), link


def test_every_path_that_a_platform_is_given_is_answered() -> None:
    answered = EndpointRouter(Telemetry(Settings(), exports=False)).paths
    given = re.findall(r"path: '?(/[a-z/]+)", DEPLOYMENT) + re.findall(
        r"(?:_PATH', value|Path): '(/[a-z/]+)'", DEPLOYMENT
    )
    assert len(given) == 9
    assert set(given) <= answered.keys()


def test_the_table_of_delays_is_the_one_in_the_code() -> None:
    rows = re.findall(r"^\| [\w ]+ \| (\d+) s \| (\d+) s \|", RESTARTS, re.MULTILINE)
    assert sorted(rows) == sorted((f"{one.drain:g}", f"{one.grace:g}") for one in LIMITS.values())


def test_every_grace_period_that_the_pages_give_is_long_enough() -> None:
    [pod] = [yaml.safe_load(block)["spec"] for block in blocks(RESTARTS, "yaml")]
    [sleep] = [one["lifecycle"]["preStop"]["sleep"]["seconds"] for one in pod["containers"]]
    assert pod["terminationGracePeriodSeconds"] >= needed(sleep)
    [deployment] = [yaml.safe_load(block)["spec"] for block in blocks(DEPLOYMENT, "yaml")]
    assert deployment["template"]["spec"]["terminationGracePeriodSeconds"] >= needed(LIMITS[Platform.AKS].drain)
    [apps] = re.findall(r"^  terminationGracePeriodSeconds: (\d+)", DEPLOYMENT, re.MULTILINE)
    assert int(apps) >= needed(LIMITS[Platform.CONTAINER_APPS].drain)
    [service] = re.findall(r"STOP_TIME_LIMIT', value: '(\d+)'", DEPLOYMENT)
    assert int(service) >= needed(LIMITS[Platform.APP_SERVICE].drain)
    [delay] = re.findall(r"DRAIN_DELAY=(\d+)", DEPLOYMENT)
    [stop] = re.findall(r"TimeoutStopSec=(\d+)", DEPLOYMENT)
    assert re.findall(r"GRACE_PERIOD=(\d+)", DEPLOYMENT) == [stop]
    assert int(stop) >= needed(float(delay))


def test_the_probes_of_container_apps_stay_within_what_every_version_of_its_api_accepts() -> None:
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
def test_every_option_of_a_server_that_the_page_names_is_one(server: str, option: str) -> None:
    assert f"`{option} " in RESTARTS or f"`{option}`" in RESTARTS
    done = subprocess.run(
        [sys.executable, "-m", server, "--help"], capture_output=True, text=True, timeout=20, check=True
    )
    assert option in done.stdout
