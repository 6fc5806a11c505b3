"""`http.route` of applications of Litestar, Quart, Django, Channels, BlackSheep and Falcon, without `route=`."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable
from typing import Any

import django
import falcon.asgi
import litestar
import pytest
from blacksheep import Application as BlackSheep
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.sessions import SessionMiddlewareStack
from django.conf import settings as django_settings
from django.http import HttpResponse
from django.urls import include, path, re_path
from litestar.middleware import DefineMiddleware
from litestar.params import FromPath
from opentelemetry import trace
from quart import Blueprint, Quart, websocket
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

import connectsoft_obs as obs
from connectsoft_obs.testing import Captured, capture

urls = types.ModuleType("urls")


def setup_django() -> None:
    """Configure Django once per process."""
    if django_settings.configured:
        return
    django_settings.configure(SECRET_KEY="test", ALLOWED_HOSTS=["*"], ROOT_URLCONF=urls, LOGGING_CONFIG=None)
    django.setup()


def view(*_: Any, **__: Any) -> HttpResponse:
    return HttpResponse("hello")


other_urls = types.ModuleType("other_urls")
other_urls.urlpatterns = [path("tenants/<slug:tenant>", view)]  # type: ignore[attr-defined]


def view_of_other_urls(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Django middleware that selects the URL configuration of a request."""

    def middleware(request: Any) -> Any:
        if request.path_info.startswith("/tenants"):
            request.urlconf = other_urls
        return get_response(request)

    return middleware


urls.urlpatterns = [  # type: ignore[attr-defined]
    path("v1/", include([path("items/<int:item_id>", view), re_path(r"^years/(?P<year>[0-9]{4})/(\w+)/$", view)])),
    path("", view),
]


def django_app() -> Any:
    setup_django()
    django_settings.MIDDLEWARE = [f"{__name__}.view_of_other_urls", "django.middleware.common.CommonMiddleware"]
    from django.core.asgi import get_asgi_application  # needs the settings

    return get_asgi_application()


class Consumer(AsyncWebsocketConsumer):  # type: ignore[misc]
    """A WebSocket that is accepted and closed."""

    async def connect(self) -> None:
        await self.accept()
        await self.close()


def channels_app() -> Any:
    http = django_app()
    inner = URLRouter([path("rooms/<int:room>/", Consumer.as_asgi())])
    sockets = URLRouter([path("live/<str:tenant>/", inner), re_path(r"^ws/$", Consumer.as_asgi())])
    return ProtocolTypeRouter({"http": URLRouter([re_path(r"", http)]), "websocket": SessionMiddlewareStack(sockets)})


def litestar_app() -> Any:
    @litestar.get("/items/{item_id:int}")
    async def item(item_id: FromPath[int]) -> str:
        return str(item_id)

    @litestar.websocket("/ws/{name:str}")
    async def socket(socket: litestar.WebSocket[Any, Any, Any]) -> None:
        await socket.accept()
        await socket.close()

    starlette: Any = Starlette(routes=[Route("/things/{thing}/", hello)])

    @litestar.asgi("/mounted", is_mount=True, copy_scope=False)
    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        await starlette(scope, receive, send)

    return litestar.Litestar([litestar.Router("/v1", route_handlers=[item, socket]), mounted])


async def hello(_: Any) -> PlainTextResponse:
    return PlainTextResponse("hello")


def quart_app() -> Quart:
    app, blueprint = Quart(__name__), Blueprint("v1", __name__, url_prefix="/v1")

    @blueprint.get("/items/<int:item_id>")
    async def item(item_id: int) -> str:
        return str(item_id)

    @blueprint.get("/slash/")
    async def slash() -> str:
        return "slash"

    @blueprint.get("/any/<any(a, b):letter>/<path:rest>")
    async def letter(letter: str, rest: str) -> str:
        return letter + rest

    @app.websocket("/ws/<name>")
    async def socket(name: str) -> None:
        await websocket.accept()
        await websocket.close(1000, name)

    app.register_blueprint(blueprint)
    return app


def falcon_app() -> Any:
    class Item:
        async def on_get(self, _: Any, response: Any, item_id: int) -> None:
            response.text = str(item_id)

    app = falcon.asgi.App()
    app.add_route("/v1/items/{item_id:int}", Item())
    return app


def blacksheep_app() -> Any:
    app = BlackSheep()

    @app.router.get("/v1/items/{int:item_id}")
    async def item(item_id: int) -> str:
        return str(item_id)

    @app.router.get("/v1/old/:item_id")
    async def old(item_id: str) -> str:
        return item_id

    asyncio.run(app.start())  # type: ignore[no-untyped-call]
    return app


APPS: dict[str, Callable[[], Any]] = {
    "litestar": litestar_app,
    "quart": quart_app,
    "django": django_app,
    "channels": channels_app,
    "falcon": falcon_app,
    "blacksheep": blacksheep_app,
}
UNMATCHED = "/nothing/here"


def send_request(app: Any, path: str, method: str = "GET", root_path: str = "", **settings: Any) -> Captured:
    """Send a request to an observed application and return what was captured."""
    observed = obs.ObservabilityMiddleware(app, service="routes", **settings)
    with capture() as captured:
        TestClient(observed, root_path=root_path).request(method, path, follow_redirects=False)
    return captured


def recorded_route(captured: Captured) -> str:
    """Return the route that span, metric and access line have in common."""
    [span] = [span for span in captured.spans if span.kind is trace.SpanKind.SERVER]
    route = str(dict(span.attributes or {}).get("http.route", ""))
    method = str(dict(span.attributes or {})["http.request.method"])
    assert span.name == (f"{method} {route}" if route else method)
    [series] = captured.metric("http.server.request.duration").series
    assert series.get("http_route", "") == route
    [line] = [line for line in captured.logs if line["logger"] == "connectsoft_obs.access"]
    assert line.get("http.route", "") == route
    assert line["message"].startswith(span.name)
    return route


@pytest.mark.parametrize("framework", APPS)
def test_framework_route_template(framework: str) -> None:
    app = APPS[framework]()
    assert recorded_route(send_request(app, "/v1/items/42")) == "/v1/items/{item_id}"
    assert recorded_route(send_request(app, "/v1/items/43?x=1", route=None)) == "/v1/items/{item_id}"


@pytest.mark.parametrize("framework", APPS)
def test_unmatched_path_has_no_route(framework: str) -> None:
    captured = send_request(APPS[framework](), UNMATCHED)
    assert recorded_route(captured) == ""
    assert captured.metric("http.server.request.duration", http_response_status_code="404").count == 1
    assert captured.metric("connectsoft.obs.errors").value == 0


@pytest.mark.parametrize(
    ("framework", "path", "template"),
    [
        ("litestar", "/mounted/things/5/", "/mounted/things/{thing}/"),
        ("litestar", "/mounted//things//5", "/mounted/things/{thing}/"),
        ("litestar", "/mounted/nothing", "/mounted/{path}"),
        ("quart", "/v1/any/b/c/d", "/v1/any/{letter}/{rest}"),
        ("quart", "/v1/slash", ""),  # a redirect to /v1/slash/
        ("quart", "/static/nothing.txt", "/static/{filename}"),
        ("django", "/v1/years/2026/x/", "/v1/years/{year}/{value}/"),
        ("django", "/", "/"),
        ("django", "/tenants/acme", "/tenants/{tenant}"),  # of the URL configuration that a middleware selects
        ("channels", "/tenants/acme", "/tenants/{tenant}"),
        ("blacksheep", "/v1/old/5", "/v1/old/{item_id}"),
    ],
)
def test_framework_route_template_of_special_routes(framework: str, path: str, template: str) -> None:
    assert recorded_route(send_request(APPS[framework](), path)) == template


@pytest.mark.parametrize("framework", ["quart", "falcon", "django"])
def test_method_that_is_not_allowed_has_the_route_of_the_path(framework: str) -> None:
    captured = send_request(APPS[framework](), "/v1/items/42", "DELETE")
    assert recorded_route(captured) == "/v1/items/{item_id}"


@pytest.mark.parametrize("framework", ["litestar", "quart", "django", "channels"])
def test_root_path_is_part_of_the_route_template(framework: str) -> None:
    captured = send_request(APPS[framework](), "/pre/v1/items/42", root_path="/pre")
    assert recorded_route(captured) == "/pre/v1/items/{item_id}"


@pytest.mark.parametrize("framework", ["litestar", "quart", "django"])
def test_application_mounted_in_starlette_has_the_full_route_template(framework: str) -> None:
    app = Starlette(routes=[Mount("/apps/{tenant}", app=APPS[framework]())])
    assert recorded_route(send_request(app, "/apps/acme/v1/items/42")) == "/apps/{tenant}/v1/items/{item_id}"
    assert recorded_route(send_request(app, f"/apps/acme{UNMATCHED}")) == ""


@pytest.mark.parametrize(
    ("framework", "path", "template"),
    [
        ("litestar", "/v1/ws/acme", "/v1/ws/{name}"),
        ("quart", "/ws/acme", "/ws/{name}"),
        ("channels", "/live/acme/rooms/7/", "/live/{tenant}/rooms/{room}/"),
        ("channels", "/ws/", "/ws/"),
    ],
)
def test_websocket_route_template(framework: str, path: str, template: str) -> None:
    app = obs.ObservabilityMiddleware(APPS[framework](), service="routes")
    with capture() as captured, TestClient(app).websocket_connect(path):
        pass
    [series] = captured.metric("connectsoft.http.stream.duration").series
    assert series["http_route"] == template


def test_middleware_around_the_asgi_function_of_quart_has_a_route_template() -> None:
    app = quart_app()
    assert recorded_route(send_request(app.asgi_app, "/v1/items/42")) == "/v1/items/{item_id}"


def test_middleware_inside_litestar_has_a_route_template() -> None:
    @litestar.get("/items/{item_id:int}")
    async def item(item_id: FromPath[int]) -> str:
        return str(item_id)

    observed = DefineMiddleware(obs.ObservabilityMiddleware, service="routes")  # type: ignore[arg-type]
    app: Any = litestar.Litestar([item], middleware=[observed])
    with capture() as captured:
        TestClient(app).get("/items/42")
    assert recorded_route(captured) == "/items/{item_id}"


def test_route_function_is_used_instead_of_the_framework() -> None:
    captured = send_request(quart_app(), "/v1/items/42", route=lambda _: "/from/function")
    assert recorded_route(captured) == "/from/function"


def test_router_that_cannot_be_read_is_recorded_and_the_request_succeeds() -> None:
    app, asked = falcon_app(), []

    class OtherRouter:
        """A router of another version, without the methods of this one."""

        def __getattr__(self, name: str) -> Any:
            asked.append(name)
            raise AttributeError(name)

    app._router = OtherRouter()  # Falcon itself uses the bound method that it has stored
    captured = send_request(app, "/v1/items/1")
    assert asked == ["find"]
    assert recorded_route(captured) == ""
    assert captured.metric("http.server.request.duration", http_response_status_code="200").count == 1
    assert captured.metric("connectsoft.obs.errors", connectsoft_obs_where="asgi.route").value == 1


ROUTE_WARNING = "no request has a route template, so all requests share one series; pass route= to the middleware"


def warnings_after_requests(app: Any, *paths: str, **settings: Any) -> list[dict[str, Any]]:
    with capture() as captured:
        client = TestClient(obs.ObservabilityMiddleware(app, service="routes", **settings))
        for path in paths:
            client.get(path)
    return [line for line in captured.logs if line["message"] == ROUTE_WARNING]


def test_requests_of_an_unknown_framework_cause_one_warning_that_names_route() -> None:
    [warning] = warnings_after_requests(PlainTextResponse("hello"), *["/orders/1"] * 25)
    assert warning["severity"] == "WARN"
    assert warnings_after_requests(PlainTextResponse("hello"), *["/orders/1"] * 5) == []
    assert len(warnings_after_requests(quart_app(), *["/v1/items/1"] * 25, route=lambda _: None)) == 1


@pytest.mark.parametrize("paths", [["/nothing"] * 25, ["/", *["/outside"] * 25]])
def test_unmatched_paths_and_known_routes_cause_no_route_warning(paths: list[str]) -> None:
    inner = Starlette(routes=[Route("/", hello)])

    async def app(scope: Any, receive: Any, send: Any) -> None:
        target = PlainTextResponse("outside") if scope["path"] == "/outside" else inner
        await target(scope, receive, send)

    assert warnings_after_requests(app, *paths) == []
