"""Paths that both the application and the endpoints use, or two endpoints."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

import connectsoft_obs as obs
from connectsoft_obs.asgi.types import App, Receive, Scope, Send
from connectsoft_obs.settings import load_settings
from connectsoft_obs.testing import capture

PATH_SETTINGS = [
    "liveness_path",
    "liveness_path_alias",
    "readiness_path",
    "startup_path",
    "startup_path_alias",
    "health_path",
    "metrics_path",
    "info_path",
]


async def own(request: Request) -> Response:
    return PlainTextResponse("own")


async def opaque(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("own")(scope, receive, send)


def routed(path: str) -> Any:
    return Starlette(routes=[Route(path, own)])


def mounted(path: str) -> Any:
    prefix, _, rest = path.rpartition("/")
    return Starlette(routes=[Mount(prefix, routes=[Route(f"/{rest}", own)])])


def mounted_opaque(path: str) -> Any:
    return Starlette(routes=[Mount(path.rpartition("/")[0], app=opaque)])


def fastapi(path: str) -> Any:
    app = FastAPI()
    app.add_api_route(path, own)
    return app


PATHS = {
    "/health/live/details": "/health/live/details",
    "/health/ready/{region}": "/health/ready/west",
    "/health/startup/{rest:path}": "/health/startup/log/today",
    "/health/ready/known": "/health/ready/known",
    "/health/live/{name}": "/health/live/known",
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("wrapped", [True, False])
@pytest.mark.parametrize("create", [routed, mounted, mounted_opaque, fastapi])
def test_routes_of_the_application_below_a_probe_are_its_own(create: Any, wrapped: bool, path: str) -> None:
    with capture() as seen:
        if create is not mounted_opaque:  # its routes are not known: a check takes precedence
            obs.readiness_check("known")(lambda: None)
            obs.liveness_check("known")(lambda: None)
        app: App = create(path)
        if wrapped:
            app = obs.ObservabilityMiddleware(app, service="a")
        else:
            app.add_middleware(obs.ObservabilityMiddleware, service="a")  # type: ignore[attr-defined]
        client = TestClient(app)
        assert client.get(PATHS[path]).text.strip('"') == "own"
        assert client.get("/health/live").json()["status"] == "Healthy"
    assert [span.attributes and span.attributes["url.path"] for span in seen.spans] == [PATHS[path]]


def test_paths_below_a_probe_reach_an_application_without_a_route_table() -> None:
    with capture():
        obs.readiness_check("known")(lambda: None)
        client = TestClient(obs.ObservabilityMiddleware(opaque, service="a"))
        for path in ("/health/live/details", "/health/ready/west"):
            assert client.get(path).text == "own"
        assert list(client.get("/health/ready/known").json()["entries"]) == ["known"]
        assert "entries" in client.get("/health/ready/").json()


ENDPOINTS = ("/health", "/health/live", "/health/ready", "/health/startup", "/alive", "/startup", "/metrics", "/info")


@pytest.mark.parametrize("create", [Starlette, FastAPI])
def test_endpoints_are_served_with_a_trailing_slash(create: Any) -> None:
    app = create()
    app.add_middleware(obs.ObservabilityMiddleware, service="a")
    with capture() as seen, TestClient(app) as client:
        for path in ENDPOINTS:
            response = client.get(f"{path}/", follow_redirects=False)
            assert response.status_code == client.get(path).status_code == 200, path
            assert response.headers["content-type"] == client.get(path).headers["content-type"]
        assert seen.spans == []
        assert client.get("/healthy/").status_code == 404


@pytest.mark.parametrize(
    ("routes", "own_paths"),
    [
        ([Route("/metrics", own)], {"/metrics", "/metrics/"}),
        ([Route("/metrics/", own)], {"/metrics/"}),
        ([Mount("/metrics", app=opaque)], {"/metrics", "/metrics/"}),
    ],
)
def test_path_with_a_trailing_slash_in_the_application_has_precedence(routes: Any, own_paths: set[str]) -> None:
    app = Starlette(routes=routes)
    app.add_middleware(obs.ObservabilityMiddleware, service="a")
    with capture() as seen, TestClient(app) as client:
        bodies = {path: client.get(path).text for path in ("/metrics", "/metrics/")}
    assert {path for path, body in bodies.items() if body == "own"} == own_paths
    warnings = [line for line in seen.logs if "is already routed by the application" in line["message"]]
    assert len(warnings) == ("/metrics" in own_paths)


@pytest.mark.parametrize("first", PATH_SETTINGS)
@pytest.mark.parametrize("second", PATH_SETTINGS)
def test_two_endpoints_on_one_path_are_refused(first: str, second: str) -> None:
    paths = {first: "/same", second: "/same"}
    if first == second or {f"{first}_alias", f"{second}_alias"} & {first, second}:  # an alias repeats its path
        load_settings({}, **paths)
        return
    with pytest.raises(obs.ConfigurationError, match="is the same path"):
        load_settings({}, **paths)


def test_metrics_on_the_path_of_liveness_are_refused_at_start() -> None:
    with pytest.raises(obs.ConfigurationError, match=r"METRICS_PATH='/health/live': .*LIVENESS_PATH is the same path"):
        load_settings({"CONNECTSOFT_OBS_METRICS_PATH": "/health/live"})


def test_endpoints_that_are_disabled_have_no_path_in_common() -> None:
    assert load_settings({}, metrics_path="", info_path="", health_path="").metrics_path == ""
