"""The name of a service that no setting names: the title of its FastAPI application, else a warning."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.testclient import TestClient
from support.otlp import HttpSink
from support.process import Service, gunicorn, uvicorn, wait_for

import connectsoft_obs as obs
from connectsoft_obs.testing import capture

TITLE = "Books & More API"


def service_names(service: Service) -> set[str]:
    """Names in the log lines of this package, and of the access log."""
    return {line["service.name"] for line in service.json_lines if line.get("logger", "").startswith("connectsoft_obs")}


def lines_with(service: Service, text: str) -> list[dict[str, Any]]:
    return [line for line in service.json_lines if text in line["message"]]


def test_title_names_the_service_in_all_signals_of_all_workers() -> None:
    with HttpSink() as sink:
        env = {
            "APP_TITLE": TITLE,
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url,
            "OTEL_LOGS_EXPORTER": "otlp",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }
        with gunicorn("titled:app", workers=2, env=env) as service:
            service.wait_until_ready()
            pids: set[str] = set()

            def has_both_workers() -> bool:
                pids.add(httpx.get(f"{service.url}/books").text)
                return len(pids) == 2

            wait_for(has_both_workers, 20)
            assert httpx.get(f"{service.url}/info").json()["service"] == TITLE
            page = httpx.get(f"{service.url}/metrics").text
            wait_for(lambda: len(lines_with(service, "has the name of its application")) == 2, 10)
            service.stop()
        assert service_names(service) == {TITLE}
        names = {resource.get("service.name") for resource in sink.received.resources}
    assert names == {TITLE}
    assert {line.split('service_name="')[1].split('"')[0] for line in page.splitlines() if "service_name=" in line} == {
        TITLE
    }
    requests = [line for line in page.splitlines() if "http_server_request_duration_seconds_count{" in line]
    assert sum(float(line.rsplit(" ", 1)[1]) for line in requests) >= len(pids), "the workers share one directory"


@pytest.mark.parametrize("title", ["", "FastAPI"])
def test_service_without_name_and_title_is_reported(title: str) -> None:
    with uvicorn("titled:app", env={"APP_TITLE": title}) as service:
        service.wait_until_ready()
        (line,) = wait_for(lambda: lines_with(service, "the service has no name"))
        assert httpx.get(f"{service.url}/info").json()["service"] == "unknown_service:python"
    assert line["severity"] == "WARN"
    assert line["connectsoft.obs.reported"] == "unknown_service:python"
    assert "OTEL_SERVICE_NAME" in line["connectsoft.obs.instead"]


@pytest.mark.parametrize(
    ("env", "name", "source"),
    [
        ({"OTEL_SERVICE_NAME": "books"}, "books", "OTEL_SERVICE_NAME"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=shelf"}, "shelf", "OTEL_RESOURCE_ATTRIBUTES"),
        ({"CONTAINER_APP_NAME": "books-app"}, "books-app", "platform"),
    ],
)
def test_title_is_used_after_variables_and_the_platform(env: dict[str, str], name: str, source: str) -> None:
    with uvicorn("titled:app", env={"APP_TITLE": TITLE, **env}) as service:
        service.wait_until_ready()
        (line,) = wait_for(lambda: lines_with(service, "observability configured"))
        service.stop()
    assert line["service.name"] == name
    assert line["connectsoft.obs.service"] == f"{name} ({source})"
    assert lines_with(service, "the service has") == []


def name_of(app: Any, *, lifespan: bool = True) -> str:
    """The name of the service in its log lines and on its endpoint, which must be equal."""
    with capture() as captured:
        client = TestClient(app)
        if lifespan:
            with client:
                client.get("/x")
        else:
            client.get("/x")
        name: str = client.get("/info").json()["service"]
        assert {line["service.name"] for line in captured.logs if line["logger"].startswith("connectsoft_obs")} == {
            name
        }
        assert {span.resource.attributes["service.name"] for span in captured.spans} == {name}
    return name


@pytest.mark.parametrize("lifespan", [True, False])
@pytest.mark.parametrize("wrapped", [True, False])
def test_title_is_read_around_and_inside_the_middleware(wrapped: bool, lifespan: bool) -> None:
    app: Any = FastAPI(title=f" {TITLE} ")
    if wrapped:
        app = obs.ObservabilityMiddleware(app)
    else:
        app.add_middleware(obs.ObservabilityMiddleware)
    assert name_of(app, lifespan=lifespan) == TITLE


def test_argument_overrides_the_title_also_during_start_up() -> None:
    app = FastAPI(title=TITLE)
    app.add_middleware(obs.ObservabilityMiddleware, service="books")
    assert name_of(app) == "books"

    @asynccontextmanager
    async def configure_late(_: FastAPI) -> AsyncIterator[None]:
        obs.configure(service="books")
        yield

    app = FastAPI(title=TITLE, lifespan=configure_late)
    app.add_middleware(obs.ObservabilityMiddleware)
    assert name_of(app) == "books"


def test_telemetry_that_has_a_name_keeps_it() -> None:
    app = FastAPI(title=TITLE)
    app.add_middleware(obs.ObservabilityMiddleware)
    with capture(service="books"), TestClient(app) as client:
        assert client.get("/info").json()["service"] == "books"


def test_title_of_another_framework_is_not_used() -> None:
    app = Starlette()
    app.title = TITLE  # type: ignore[attr-defined]
    app.add_middleware(obs.ObservabilityMiddleware)
    assert name_of(app) == "unknown_service:python"
