"""`http.route` is the route template of a request, never a concrete path."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from litestar import Litestar
from litestar import get as litestar_get
from litestar.params import FromPath
from opentelemetry import trace
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Host, Mount, Route, Router
from starlette.staticfiles import StaticFiles
from starlette.testclient import TestClient

import connectsoft_obs as obs
from connectsoft_obs.asgi import route_template
from connectsoft_obs.testing import capture


async def hello(_: Any) -> PlainTextResponse:
    return PlainTextResponse("hello")


async def plain_app(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI application without routes."""
    await PlainTextResponse("plain")(scope, receive, send)


leaf_routes = [Route("/items/{id:int}", hello, methods=["GET"]), Route("/slash/", hello)]
shared_app = Starlette(routes=[Route("/shared/{x}", hello)])


def starlette_app(folder: str) -> Starlette:
    routes = [
        *leaf_routes,
        Mount("/api/{version}", routes=[*leaf_routes, Mount("/deep/{more}", routes=leaf_routes)]),
        Mount("/app", app=Starlette(routes=leaf_routes)),
        Mount("/one/{a}", app=shared_app),
        Mount("/two", app=shared_app),
        Mount("/plain/{tenant}", app=plain_app),
        Mount("/static", app=StaticFiles(directory=folder)),
        Host("{sub}.example.org", app=Router(routes=[Route("/hosted/{y}", hello)])),
    ]
    app = Starlette(routes=routes)
    app.add_middleware(obs.ObservabilityMiddleware, service="routes")
    return app


STARLETTE_TEMPLATES = {
    "/items/42": "/items/{id}",
    "/api/v7/items/42": "/api/{version}/items/{id}",
    "/api/v7/deep/x/items/42": "/api/{version}/deep/{more}/items/{id}",
    "/app/items/42": "/app/items/{id}",
    "/one/zzz/shared/42": "/one/{a}/shared/{x}",
    "/two/shared/42": "/two/shared/{x}",
    "/plain/acme/any/path": "/plain/{tenant}/{path}",
    "/static/file.txt": "/static/{path}",
    "/static/nothing.txt": "/static/{path}",
    "/nothing": "",
    "/api/v7/nothing": "",
    "/app/nothing": "",
    "/slash": "",  # a redirect to /slash/
    "/slash/": "/slash/",
}


def recorded_route(client: TestClient, method: str, path: str) -> str:
    with capture() as captured:
        client.request(method, path, follow_redirects=False)
    [span] = [span for span in captured.spans if span.kind is trace.SpanKind.SERVER]  # clients may add spans
    route = dict(span.attributes or {}).get("http.route", "")
    assert span.name == (f"{method} {route}" if route else method)
    [series] = captured.metric("http.server.request.duration").series
    assert series.get("http_route", "") == route
    return str(route)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("static")
    (directory / "file.txt").write_text("static")
    return str(directory)


@pytest.mark.parametrize("root", ["", "/pre"])
@pytest.mark.parametrize("path", STARLETTE_TEMPLATES)
def test_starlette_route_template(path: str, root: str, folder: str) -> None:
    client = TestClient(starlette_app(folder), root_path=root)
    expected = STARLETTE_TEMPLATES[path]
    assert recorded_route(client, "GET", root + path) == (f"{root}{expected}" if expected else "")


def test_method_that_is_not_allowed_has_a_route_template(folder: str) -> None:
    assert recorded_route(TestClient(starlette_app(folder)), "DELETE", "/items/42") == "/items/{id}"


def test_host_route_template(folder: str) -> None:
    client = TestClient(starlette_app(folder), base_url="http://acme.example.org")
    assert recorded_route(client, "GET", "/hosted/42") == "/hosted/{y}"


def fastapi_app() -> FastAPI:
    inner, outer, app = APIRouter(), APIRouter(), FastAPI()

    @inner.get("/x/{k}")
    def x(k: str) -> str:
        return k

    @outer.get("/y/{i}")
    def y(i: str) -> str:
        return i

    outer.include_router(inner, prefix="/in/{z}")
    app.include_router(outer, prefix="/a/{t}")
    app.include_router(outer, prefix="/b")
    sub = FastAPI()

    @sub.get("/s/{q}")
    def s(q: str) -> str:
        return q

    sub.include_router(outer, prefix="/inc")
    app.mount("/m/{v}", sub)
    app.add_route("/plain/{n}", hello)
    app.add_middleware(obs.ObservabilityMiddleware, service="routes")
    return app


FASTAPI_TEMPLATES = {
    "/a/1/y/2": "/a/{t}/y/{i}",
    "/b/y/3": "/b/y/{i}",
    "/a/1/in/zz/x/9": "/a/{t}/in/{z}/x/{k}",
    "/m/7/s/2": "/m/{v}/s/{q}",
    "/m/7/inc/y/1": "/m/{v}/inc/y/{i}",
    "/m/7/inc/in/q/x/1": "/m/{v}/inc/in/{z}/x/{k}",
    "/plain/5": "/plain/{n}",
    "/openapi.json": "/openapi.json",
    "/m/7/nothing": "",
    "/nothing": "",
    "/b/y/3/": "",
}


@pytest.mark.parametrize("path", FASTAPI_TEMPLATES)
def test_fastapi_route_template(path: str) -> None:
    app = fastapi_app()
    with capture(), TestClient(app):  # the lifespan disables FastAPI's own telemetry
        pass
    assert recorded_route(TestClient(app), "GET", path) == FASTAPI_TEMPLATES[path]


def test_route_template_is_looked_up_once_per_route(monkeypatch: pytest.MonkeyPatch) -> None:
    app = fastapi_app()
    find_chains = route_template._find_route_chains
    look_ups: list[Any] = []

    def count_look_ups(*arguments: Any) -> Any:
        look_ups.append(arguments)
        return find_chains(*arguments)

    monkeypatch.setattr(route_template, "_find_route_chains", count_look_ups)
    with capture() as captured, TestClient(app) as client:
        client.get("/m/7/s/2")
        count = len(look_ups)
        for number in range(20):
            client.get(f"/m/{number}/s/{number}")
        assert len(look_ups) == count
    assert len(captured.metric("http.server.request.duration").series) == 1


def test_route_function_of_other_frameworks_is_used() -> None:
    @litestar_get("/orders/{order_id:int}")
    async def order(order_id: FromPath[int]) -> str:
        return str(order_id)

    litestar: Any = Litestar([order])  # its scopes are typed dictionaries
    app = obs.ObservabilityMiddleware(litestar, service="routes", route=lambda scope: scope.get("path_template"))
    assert recorded_route(TestClient(app), "GET", "/orders/42") == "/orders/{order_id}"
    with_route = obs.ObservabilityMiddleware(plain_app, service="routes", route=lambda scope: "/fallback")
    assert recorded_route(TestClient(with_route), "GET", "/any/path") == "/fallback"
    without_route = obs.ObservabilityMiddleware(plain_app, service="routes")
    assert recorded_route(TestClient(without_route), "GET", "/any/path") == ""


def test_failing_route_function_is_recorded_and_the_request_succeeds() -> None:
    def failing_route(_: Any) -> str:
        message = "route function failed"
        raise RuntimeError(message)

    app = obs.ObservabilityMiddleware(plain_app, service="routes", route=failing_route)
    with capture() as captured:
        assert TestClient(app).get("/").text == "plain"
    assert captured.metric("connectsoft.obs.errors", connectsoft_obs_where="asgi.route").value == 1
    assert captured.metric("http.server.request.duration").count == 1
