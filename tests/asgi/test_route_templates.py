"""The route template of a request, never a concrete path."""

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
from connectsoft_obs.testing import capture


async def hello(_: Any) -> PlainTextResponse:
    return PlainTextResponse("hello")


async def opaque(scope: Any, receive: Any, send: Any) -> None:
    """An application that is no Starlette."""
    await PlainTextResponse("opaque")(scope, receive, send)


leaf = [Route("/items/{id:int}", hello, methods=["GET"]), Route("/slash/", hello)]
shared_leaf = Starlette(routes=[Route("/shared/{x}", hello)])


def starlette(folder: str) -> Starlette:
    route_template = [
        *leaf,
        Mount("/api/{version}", routes=[*leaf, Mount("/deep/{more}", routes=leaf)]),
        Mount("/app", app=Starlette(routes=leaf)),
        Mount("/one/{a}", app=shared_leaf),
        Mount("/two", app=shared_leaf),
        Mount("/opaque/{tenant}", app=opaque),
        Mount("/static", app=StaticFiles(directory=folder)),
        Host("{sub}.example.org", app=Router(routes=[Route("/hosted/{y}", hello)])),
    ]
    app = Starlette(routes=route_template)
    app.add_middleware(obs.ObservabilityMiddleware, service="routes")
    return app


STARLETTE = {
    "/items/42": "/items/{id}",
    "/api/v7/items/42": "/api/{version}/items/{id}",
    "/api/v7/deep/x/items/42": "/api/{version}/deep/{more}/items/{id}",
    "/app/items/42": "/app/items/{id}",
    "/one/zzz/shared/42": "/one/{a}/shared/{x}",
    "/two/shared/42": "/two/shared/{x}",
    "/opaque/acme/anything/at/all": "/opaque/{tenant}/{path}",
    "/static/file.txt": "/static/{path}",
    "/static/nothing.txt": "/static/{path}",
    "/nothing": "",
    "/api/v7/nothing": "",
    "/app/nothing": "",
    "/slash": "",  # a redirect to /slash/
    "/slash/": "/slash/",
}


def seen_routes(client: TestClient, method: str, path: str) -> list[str]:
    with capture() as seen:
        client.request(method, path, follow_redirects=False)
    [span] = [one for one in seen.spans if one.kind is trace.SpanKind.SERVER]  # client libraries may trace too
    route = dict(span.attributes or {}).get("http.route", "")
    assert span.name == (f"{method} {route}" if route else method)
    [series] = seen.metric("http.server.request.duration").series
    assert series.get("http_route", "") == route
    return [str(route)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    place = tmp_path_factory.mktemp("static")
    (place / "file.txt").write_text("static")
    return str(place)


@pytest.mark.parametrize("root", ["", "/pre"])
@pytest.mark.parametrize("path", STARLETTE)
def test_starlette(path: str, root: str, folder: str) -> None:
    client = TestClient(starlette(folder), root_path=root)
    expected = STARLETTE[path]
    assert seen_routes(client, "GET", root + path) == [f"{root}{expected}" if expected else ""]


def test_a_known_route_asked_with_another_method_keeps_its_template(folder: str) -> None:
    assert seen_routes(TestClient(starlette(folder)), "DELETE", "/items/42") == ["/items/{id}"]


def test_host_routes(folder: str) -> None:
    client = TestClient(starlette(folder), base_url="http://acme.example.org")
    assert seen_routes(client, "GET", "/hosted/42") == ["/hosted/{y}"]


def fastapi() -> FastAPI:
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


FASTAPI = {
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


@pytest.mark.parametrize("path", FASTAPI)
def test_fastapi(path: str) -> None:
    app = fastapi()
    with capture(), TestClient(app):  # its own telemetry is off from here on
        pass
    assert seen_routes(TestClient(app), "GET", path) == [FASTAPI[path]]


def test_a_second_request_for_the_same_route_is_not_looked_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    app, found = fastapi(), list[Any]()
    from connectsoft_obs.asgi import route_template

    walk = route_template._find_route_chains

    def counted(*arguments: Any) -> Any:
        found.append(arguments)
        return walk(*arguments)

    monkeypatch.setattr(route_template, "_find_route_chains", counted)
    with capture() as seen, TestClient(app) as client:
        client.get("/m/7/s/2")
        before = len(found)
        for number in range(20):
            client.get(f"/m/{number}/s/{number}")
        assert len(found) == before
    assert len(seen.metric("http.server.request.duration").series) == 1


def test_other_frameworks_give_their_route() -> None:
    @litestar_get("/orders/{order_id:int}")
    async def order(order_id: FromPath[int]) -> str:
        return str(order_id)

    theirs: Any = Litestar([order])  # its scopes are typed dictionaries of its own
    app = obs.ObservabilityMiddleware(theirs, service="routes", route=lambda scope: scope.get("path_template"))
    assert seen_routes(TestClient(app), "GET", "/orders/42") == ["/orders/{order_id}"]
    bare = obs.ObservabilityMiddleware(opaque, service="routes", route=lambda scope: "/everything")
    assert seen_routes(TestClient(bare), "GET", "/what/ever") == ["/everything"]
    silent = obs.ObservabilityMiddleware(opaque, service="routes")
    assert seen_routes(TestClient(silent), "GET", "/what/ever") == [""]


def test_a_route_function_that_fails_costs_the_route_and_nothing_else() -> None:
    def broken(_: Any) -> str:
        message = "mine"
        raise RuntimeError(message)

    app = obs.ObservabilityMiddleware(opaque, service="routes", route=broken)
    with capture() as seen:
        assert TestClient(app).get("/").text == "opaque"
    assert seen.metric("connectsoft.obs.errors", connectsoft_obs_where="asgi.route").value == 1
    assert seen.metric("http.server.request.duration").count == 1
