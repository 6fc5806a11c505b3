"""Drain delay and grace period of each platform, and the warning about an insufficient grace period."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from support.process import Service, free_port, uvicorn, wait_for

from connectsoft_obs.health import shutdown_budget
from connectsoft_obs.identity import identify
from connectsoft_obs.settings import load_settings

AKS = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
CONTAINER_APPS = {"CONTAINER_APP_NAME": "orders", **AKS}
APP_SERVICE = {"WEBSITE_SITE_NAME": "orders"}
SYSTEMD = {"NOTIFY_SOCKET": "/run/systemd/notify"}


def shutdown_times(environ: dict[str, str], **arguments: Any) -> tuple[float, float | None, str]:
    """Drain delay, grace period and the warning about it."""
    settings = load_settings(environ, **arguments)
    identity = identify(settings, environ)
    return (
        shutdown_budget.drain_delay(settings, identity),
        shutdown_budget.grace_period(settings, identity, environ),
        shutdown_budget.exceeds_grace_period(settings, identity, environ),
    )


@pytest.mark.parametrize(
    ("environ", "delay", "grace"),
    [
        (AKS, 10, 30),
        (CONTAINER_APPS, 10, 30),
        (APP_SERVICE, 2, 5),
        ({**APP_SERVICE, "WEBSITES_CONTAINER_STOP_TIME_LIMIT": "40"}, 2, 40),
        ({**APP_SERVICE, "WEBSITES_CONTAINER_STOP_TIME_LIMIT": "soon"}, 2, 5),
        (SYSTEMD, 0, 90),
        ({}, 0, None),
    ],
)
def test_drain_delay_and_grace_period_of_each_platform(
    environ: dict[str, str], delay: float, grace: float | None
) -> None:
    assert shutdown_times(environ)[:2] == (delay, grace)


@pytest.mark.parametrize("environ", [AKS, CONTAINER_APPS, APP_SERVICE])
def test_development_has_no_drain_delay_by_default(environ: dict[str, str]) -> None:
    assert shutdown_times(environ, environment="development")[0] == 0
    assert shutdown_times({**environ, "DOTNET_ENVIRONMENT": "Development"})[0] == 0
    assert shutdown_times({**environ, "CONNECTSOFT_OBS_DRAIN_DELAY": "3"}, environment="development")[0] == 3


@pytest.mark.parametrize(
    "arguments",
    [["uvicorn", "app:app", "--reload"], ["/usr/bin/fastapi", "dev", "app.py"], ["gunicorn", "--reload", "a"]],
)
def test_reloader_has_no_drain_delay(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", arguments)
    assert shutdown_times(AKS)[0] == 0
    monkeypatch.setattr(sys, "argv", ["uvicorn", "app:app"])
    assert shutdown_times(AKS)[0] == 10
    for variable in ("UVICORN_RELOAD", "GRANIAN_RELOAD"):
        with monkeypatch.context() as context:
            context.setenv(variable, "true")
            assert shutdown_times(AKS)[0] == 0
            assert shutdown_times(AKS, drain_delay=3)[0] == 3


def test_reloader_that_a_script_starts_has_no_drain_delay(tmp_path: Path) -> None:
    (tmp_path / "reloaded.py").write_text(
        """
import os
import connectsoft_obs as obs
import uvicorn
health = obs.configure(service="a").health
async def app(scope, receive, send):
    while scope["type"] == "lifespan":
        message = await receive()
        health.start()
        print("drain delay", health.drain_delay, flush=True)
        await send({"type": message["type"] + ".complete"})
if __name__ == "__main__":
    uvicorn.run("reloaded:app", port=0, reload=True, reload_dirs=[os.path.dirname(__file__)])
"""
    )
    command = [sys.executable, str(tmp_path / "reloaded.py")]
    with Service(command, free_port(), {**AKS, "PYTHONPATH": str(tmp_path)}) as service:
        wait_for(lambda: "drain delay 0.0\n" in service.stdout_lines, 20, "the drain delay of the worker")


def test_defaults_fit_into_the_grace_period_of_aks_and_container_apps() -> None:
    assert (
        shutdown_times(AKS)[2]
        == shutdown_times(CONTAINER_APPS)[2]
        == shutdown_times(SYSTEMD)[2]
        == shutdown_times({})[2]
        == ""
    )


def test_app_service_grace_period_is_warned_about() -> None:
    warning = shutdown_times(APP_SERVICE)[2]
    assert "stopping can take 19 s (drain_delay 2 + max_request_duration 10 + shutdown_timeout 5 + 2)" in warning
    assert "killed 5 s after SIGTERM" in warning
    assert "raise the app setting WEBSITES_CONTAINER_STOP_TIME_LIMIT to 19, or reduce one of these durations" in warning
    assert shutdown_times({**APP_SERVICE, "WEBSITES_CONTAINER_STOP_TIME_LIMIT": "19"})[2] == ""


def test_longer_requests_need_a_longer_grace_period() -> None:
    warning = shutdown_times(AKS, max_request_duration=60)[2]
    assert (
        "raise terminationGracePeriodSeconds of the pod to 77 and set CONNECTSOFT_OBS_TERMINATION_GRACE_PERIOD to the same value"
        in warning
    )
    assert shutdown_times(AKS, max_request_duration=60, termination_grace_period=77)[2] == ""
    assert (
        "to 77 and set CONNECTSOFT_OBS_TERMINATION_GRACE_PERIOD to the same value"
        in shutdown_times(AKS, max_request_duration=60, termination_grace_period=70)[2]
    )
    assert "the platform's grace period" in shutdown_times({}, drain_delay=10, termination_grace_period=5)[2]


def test_warning_is_logged_once_at_startup() -> None:
    with uvicorn("lifecycle:app", env={**APP_SERVICE, "CONNECTSOFT_OBS_ENVIRONMENT": "production"}) as service:
        service.wait_until_ready()
        service.stop()
    [line] = [line for line in service.json_lines if line["severity"] == "WARN"]
    assert line["message"].startswith("drain may be interrupted: stopping can take 19 s")
