"""SLOs that name a route, a job or a service that does not exist are reported when the service starts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Host, Mount, Route, Router
from starlette.testclient import TestClient
from support.process import uvicorn

import connectsoft_obs as obs
from connectsoft_obs import slo
from connectsoft_obs.asgi.types import Receive, Scope, Send
from connectsoft_obs.testing import Captured, capture


async def page(request: Request) -> Response:
    return PlainTextResponse("ok")


async def opaque(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("ok")(scope, receive, send)


def warnings_of(captured: Captured) -> list[dict[str, Any]]:
    return [line for line in captured.logs if line["severity"] == "WARN"]


def warned_routes(captured: Captured) -> list[tuple[str, str, str]]:
    return [
        (line["connectsoft.slo.name"], line["http.route"], line["connectsoft.obs.instead"])
        for line in warnings_of(captured)
        if "http.route" in line
    ]


def observe(app: Any, *routes: str, **options: Any) -> Any:
    app.add_middleware(
        obs.ObservabilityMiddleware,
        service="shop",
        objectives=[slo.availability("orders", 99.9, routes=routes)],
        **options,
    )
    return app


def test_unknown_route_is_reported_once_at_start_with_similar_ones() -> None:
    app = observe(Starlette(routes=[Route("/orders/{id}", page), Route("/x", page)]), "/oders/{id}", "/x", "/basket")
    with capture() as captured, TestClient(app) as client:
        reported = warned_routes(captured)
        client.get("/x")
        assert warned_routes(captured) == reported
    assert reported == [
        ("orders", "/oders/{id}", "did you mean /orders/{id}?"),
        ("orders", "/basket", "use the template of a route; connectsoft-obs doctor lists them"),
    ]


def starlette_with_types() -> Any:
    return Starlette(routes=[Route("/orders/{id:int}/{rest:path}", page)])


def starlette_mount() -> Any:
    return Starlette(routes=[Mount("/orders/{id}", routes=[Route("/{rest}", page)])])


def starlette_host() -> Any:
    return Starlette(routes=[Host("{name}.example.com", Router([Route("/orders/{id}/{rest}", page)]))])


def starlette_opaque_mount() -> Any:
    return Starlette(routes=[Mount("/orders", app=opaque)])


def fastapi_router() -> Any:
    app, router = FastAPI(), APIRouter(prefix="/{id}")
    router.add_api_route("/{rest:path}", page)
    app.include_router(router, prefix="/orders")
    return app


def fastapi_sub_application() -> Any:
    app, inner = FastAPI(), FastAPI()
    inner.add_api_route("/{id}/{rest}", page)
    app.mount("/orders", inner)
    return app


@pytest.mark.parametrize(
    "create",
    [
        starlette_with_types,
        starlette_mount,
        starlette_host,
        starlette_opaque_mount,
        fastapi_router,
        fastapi_sub_application,
    ],
)
def test_existing_route_is_not_reported(create: Callable[[], Any]) -> None:
    with capture() as captured, TestClient(observe(create(), "/orders/{id}/{rest}")) as client:
        client.get("/orders/1/x")
        assert warned_routes(captured) == []


def test_route_below_the_root_path_of_the_server_is_not_reported() -> None:
    app = observe(Starlette(routes=[Route("/orders/{id}", page)]), "/api/orders/{id}")
    with capture() as captured, TestClient(app, root_path="/api") as client:
        client.get("/api/orders/1")
        assert captured.metric("connectsoft.slo.events", connectsoft_slo_outcome="good").value == 1
        assert warned_routes(captured) == []
    with capture() as captured, TestClient(app) as client:
        assert warned_routes(captured) == [], "the root path is not known yet"
        client.get("/orders/1")
        assert [route for _, route, _ in warned_routes(captured)] == ["/api/orders/{id}"]


def test_routes_that_the_package_cannot_know_are_not_reported() -> None:
    with capture() as captured:
        app = observe(Starlette(routes=[Route("/orders/{id}", page)]), "/other", route=lambda _: "/other")
        with TestClient(app) as client:
            client.get("/orders/1")
        wrapped = obs.ObservabilityMiddleware(
            opaque, service="shop", objectives=[slo.availability("orders", 99.9, routes=["/other"])]
        )
        TestClient(wrapped).get("/orders/1")
        assert warned_routes(captured) == []


def test_unknown_route_of_a_wrapped_application_is_reported_without_lifespan() -> None:
    inner = CORSMiddleware(Starlette(routes=[Route("/orders/{id}", page)]))
    app = obs.ObservabilityMiddleware(
        inner, service="shop", objectives=[slo.availability("orders", 99.9, routes=["/oders/{id}"])]
    )
    with capture() as captured:
        TestClient(app).get("/orders/1")
        assert warned_routes(captured) == [("orders", "/oders/{id}", "did you mean /orders/{id}?")]


@obs.job("nightly-report")
def nightly_report() -> None: ...


def test_misspelled_job_is_reported_when_a_worker_starts() -> None:
    objectives = [
        slo.job_success_rate("report", 99, job="nightly-raport"),
        slo.freshness("fresh", 99, job="nightlyreport", within="2d"),
        slo.job_success_rate("elsewhere", 99, job="import-orders"),
    ]
    with capture() as captured, obs.worker(service="shop", objectives=objectives, prometheus_port=0):
        lines = warnings_of(captured)
    assert [(line["connectsoft.job.name"], line["connectsoft.obs.instead"]) for line in lines] == [
        ("nightly-raport", "did you mean nightly-report?"),
        ("nightlyreport", "did you mean nightly-report?"),
    ]


def test_declared_job_is_not_reported() -> None:
    objectives = [
        slo.job_success_rate("report", 99, job="nightly-report"),
        slo.freshness("f", 99, timestamp="t", within=60),
    ]
    with capture() as captured, obs.worker(service="shop", objectives=objectives, prometheus_port=0):
        assert warnings_of(captured) == []


FILE = """
[service]
name = "{name}"
[[slo]]
name = "all"
objective = 99.5
sli = {{ kind = "http_availability" }}
"""


@pytest.mark.parametrize("name", ["basket", "shop"])
def test_slo_file_of_another_service_is_reported(tmp_path: Path, name: str) -> None:
    path = tmp_path / "slo.toml"
    path.write_text(FILE.format(name=name))
    app = Starlette(routes=[Route("/x", page)])
    app.add_middleware(obs.ObservabilityMiddleware, service="shop", slo_file=str(path))
    with capture() as captured, TestClient(app):
        lines = warnings_of(captured)
    if name == "shop":
        assert lines == []
        return
    (line,) = lines
    assert "the SLOs are declared for another service" in line["message"]
    assert (line["connectsoft.obs.declared"], line["connectsoft.obs.reported"]) == ("basket", "shop")
    assert line["connectsoft.obs.instead"] == "set name = 'shop' in [service], or OTEL_SERVICE_NAME=basket"


def test_slos_with_a_selector_of_their_own_may_have_another_name() -> None:
    slos = (slo.availability("all", 99.9),)
    for selector, expected in (("", 1), ('job="shop"', 0)):
        declared = slo.ServiceSLOs(service="shop-eu", slos=slos, selector=selector)
        app = Starlette(routes=[Route("/x", page)])
        app.add_middleware(obs.ObservabilityMiddleware, service="shop", objectives=[declared])
        with capture() as captured, TestClient(app):
            assert len(warnings_of(captured)) == expected


def test_server_reports_mistakes_in_the_slo_file_at_start(tmp_path: Path) -> None:
    path = tmp_path / "slo.toml"
    path.write_text(FILE.format(name="basket").replace('http_availability"', 'http_availability", routes = ["/oders"]'))
    with uvicorn("shop:app", env={"CONNECTSOFT_OBS_SLO_FILE": str(path)}) as service:
        service.wait_until_ready()
        service.stop()  # every line is written
        messages = [line["message"] for line in service.json_lines if line["severity"] == "WARN"]
    assert any("declared for another service" in message for message in messages)
    assert any("names a route that the application does not have" in message for message in messages)
