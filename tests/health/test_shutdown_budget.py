"""How long to serve after SIGTERM on each platform, and the warning when the platform does not leave that long."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from support.process import uvicorn

from connectsoft_obs.health import shutdown_budget
from connectsoft_obs.identity import identify
from connectsoft_obs.settings import load_settings

AKS = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
CONTAINER_APPS = {"CONTAINER_APP_NAME": "orders", **AKS}
APP_SERVICE = {"WEBSITE_SITE_NAME": "orders"}
SYSTEMD = {"NOTIFY_SOCKET": "/run/systemd/notify"}


def asked(environ: dict[str, str], **settings: Any) -> tuple[float, float | None, str]:
    given = load_settings(environ, **settings)
    identity = identify(given, environ)
    return (
        shutdown_budget.drain_delay(given, identity),
        shutdown_budget.grace_period(given, identity, environ),
        shutdown_budget.exceeds_grace_period(given, identity, environ),
    )


@pytest.mark.parametrize(
    ("environ", "delay", "grace"),
    [
        (AKS, 10, 30),
        (CONTAINER_APPS, 10, 30),
        (APP_SERVICE, 2, 5),
        ({**APP_SERVICE, "WEBSITES_CONTAINER_STOP_TIME_LIMIT": "40"}, 2, 40),
        (SYSTEMD, 0, 90),
        ({}, 0, None),
    ],
)
def test_each_platform_has_its_delay_and_grace(environ: dict[str, str], delay: float, grace: float | None) -> None:
    assert asked(environ)[:2] == (delay, grace)


@pytest.mark.parametrize("environ", [AKS, CONTAINER_APPS, APP_SERVICE])
def test_development_waits_for_nothing_unless_told_to(environ: dict[str, str]) -> None:
    assert asked(environ, environment="development")[0] == 0
    assert asked({**environ, "DOTNET_ENVIRONMENT": "Development"})[0] == 0
    assert asked({**environ, "CONNECTSOFT_OBS_DRAIN_DELAY": "3"}, environment="development")[0] == 3


@pytest.mark.parametrize(
    "words", [["uvicorn", "app:app", "--reload"], ["/usr/bin/fastapi", "dev", "app.py"], ["gunicorn", "--reload", "a"]]
)
def test_a_reloader_waits_for_nothing(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", words)
    assert asked(AKS)[0] == 0
    monkeypatch.setattr(sys, "argv", ["uvicorn", "app:app"])
    assert asked(AKS)[0] == 10
    monkeypatch.setenv("UVICORN_RELOAD", "true")
    assert asked(AKS)[0] == 0


def test_the_defaults_fit_into_the_grace_of_aks_and_container_apps() -> None:
    assert asked(AKS)[2] == asked(CONTAINER_APPS)[2] == asked(SYSTEMD)[2] == asked({})[2] == ""


def test_app_service_s_five_seconds_are_warned_of_with_what_to_change() -> None:
    said = asked(APP_SERVICE)[2]
    assert "stopping can take 19 s (drain_delay 2 + max_request_duration 10 + shutdown_timeout 5 + 2)" in said
    assert "killed 5 s after SIGTERM" in said
    assert "raise the app setting WEBSITES_CONTAINER_STOP_TIME_LIMIT to 19, or lower one of the others" in said
    assert asked({**APP_SERVICE, "WEBSITES_CONTAINER_STOP_TIME_LIMIT": "19"})[2] == ""


def test_a_longer_request_needs_a_longer_grace_and_saying_so() -> None:
    said = asked(AKS, max_request_duration=60)[2]
    assert (
        "raise terminationGracePeriodSeconds of the pod to 77, and say so with CONNECTSOFT_OBS_TERMINATION_GRACE_PERIOD"
        in said
    )
    assert asked(AKS, max_request_duration=60, termination_grace_period=77)[2] == ""
    assert (
        "CONNECTSOFT_OBS_TERMINATION_GRACE_PERIOD with it"
        in asked(AKS, max_request_duration=60, termination_grace_period=70)[2]
    )
    assert "the platform's grace period" in asked({}, drain_delay=10, termination_grace_period=5)[2]


def test_a_service_warns_once_at_start() -> None:
    with uvicorn("lifecycle:app", env={**APP_SERVICE, "CONNECTSOFT_OBS_ENVIRONMENT": "production"}) as service:
        service.ready()
        service.stop()
    [line] = [line for line in service.lines if line["severity"] == "WARN"]
    assert line["message"].startswith("the drain can be cut short: stopping can take 19 s")
