"""The names of FastAPI, Starlette, uvicorn and hypercorn that are not public exist in the installed versions.

If a test fails after an upgrade, adapt the module under connectsoft_obs/asgi that the test names.
"""

from __future__ import annotations

import asyncio
from importlib import import_module
from importlib.metadata import version
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI, Request
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware as ContribMiddleware
from starlette.applications import Starlette
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.middleware.opentelemetry import OpenTelemetryMiddleware as StarletteMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from connectsoft_obs.asgi import coexistence, route_template
from connectsoft_obs.asgi.client_disconnect import is_disconnected
from connectsoft_obs.testing import capture

FASTAPI = f"fastapi {version('fastapi')}"
STARLETTE = f"starlette {version('starlette')}"


def test_fastapi_telemetry_can_be_disabled() -> None:
    """Module coexistence."""
    config = getattr(FastAPI(), coexistence.NATIVE_TELEMETRY).config
    assert {*coexistence.FASTAPI_SIGNALS, *coexistence.FASTAPI_SIGNALS.values()} <= config.keys(), FASTAPI
    assert "FastAPI" in coexistence.disable_other_instrumentation(FastAPI()), FASTAPI


def test_fastapi_router_refers_to_its_application() -> None:
    """Module coexistence."""
    app = FastAPI()
    assert coexistence.disable_fastapi_of_stack(app.router), FASTAPI
    config = getattr(app, coexistence.NATIVE_TELEMETRY).config
    assert not config["tracing"], FASTAPI


def test_fastapi_stores_its_span_in_the_scope() -> None:
    """Module coexistence."""
    app = FastAPI()
    spans: list[Any] = []

    @app.get("/")
    def handler(request: Request) -> None:
        spans.append(request.scope[coexistence.FASTAPI_SPAN_KEY].span)

    with capture() as captured:
        TestClient(app).get("/")
    assert spans[0].get_span_context() in [span.get_span_context() for span in captured.spans], FASTAPI


def test_error_middleware_is_in_the_expected_module() -> None:
    """Module coexistence."""
    assert ServerErrorMiddleware.__module__ == coexistence.ERROR_MIDDLEWARE_MODULE, STARLETTE


def test_functions_of_the_contrib_middleware_name_their_module() -> None:
    """Module coexistence."""
    functions: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        functions.extend([receive, send])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    TestClient(ContribMiddleware(app)).get("/")
    assert {function.__globals__["__name__"] for function in functions} == {coexistence.CONTRIB_MODULE}


def test_fastapi_stores_its_effective_route_in_the_scope() -> None:
    """Module route_template."""
    router, app = APIRouter(), FastAPI()
    scopes: list[Any] = []

    @router.get("/item/{id}")
    def handler(id: str, request: Request) -> None:
        scopes.append(request.scope)

    app.include_router(router, prefix="/a")
    TestClient(app).get("/a/item/1")
    context = scopes[0]["fastapi"]["effective_route_context"]
    assert context.original_route is scopes[0]["route"], FASTAPI
    assert context.path_format == "/a/item/{id}", FASTAPI
    included: Any
    [included] = [route for route in app.routes if hasattr(route, "original_router")]
    assert included.original_router is router, FASTAPI
    assert [context.path_format for context in included.effective_route_contexts()] == ["/a/item/{id}"], FASTAPI


@pytest.mark.parametrize("observed", [False, True])
def test_starlette_middleware_skips_observed_requests(observed: bool) -> None:
    """Module coexistence."""
    assert StarletteMiddleware.__module__ == coexistence.STARLETTE_MODULE, STARLETTE
    scope: dict[str, Any] = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b""}
    if observed:
        scope[coexistence.STARLETTE_OBSERVED_KEY] = True

    async def send(_: Any) -> None:
        return None

    with capture() as captured:
        app: Any = StarletteMiddleware(PlainTextResponse("hello"))
        asyncio.run(app(scope, None, send))
    assert len(captured.spans) == (0 if observed else 1), STARLETTE


def test_contrib_middleware_has_excluded_urls() -> None:
    """Module coexistence."""
    middleware: Any = ContribMiddleware(PlainTextResponse("hello"))
    assert hasattr(middleware, "excluded_urls"), version("opentelemetry-instrumentation-asgi")
    disabled = coexistence.disable_other_instrumentation(middleware)
    assert disabled == ["opentelemetry-instrumentation-asgi"]


def test_starlette_has_a_middleware_stack_with_the_error_middleware_outermost() -> None:
    """Module outermost."""
    app = Starlette()
    TestClient(app).get("/")
    assert type(app.middleware_stack) is ServerErrorMiddleware, STARLETTE
    assert hasattr(app.middleware_stack, "handler"), STARLETTE
    assert hasattr(app.middleware_stack, "app"), STARLETTE


def test_starlette_routes_have_templates() -> None:
    """Module route_template."""

    async def handler(_: Any) -> PlainTextResponse:
        return PlainTextResponse("hello")

    mount = Mount("/m/{x}", routes=[Route("/a/{y:int}", handler)])
    [route] = mount.routes
    assert isinstance(route, Route)
    assert (route.path_format, mount.path_format) == ("/a/{y}", "/m/{x}/{path}"), STARLETTE
    assert list(route_template.list_route_paths([mount])) == ["/m/{x}", "/m/{x}/a/{y:int}"], STARLETTE


@pytest.mark.parametrize(
    ("package", "module", "class_name", "attribute", "send"),
    [
        ("uvicorn", "uvicorn.protocols.http.h11_impl", "RequestResponseCycle", "disconnected", "send"),
        ("uvicorn", "uvicorn.protocols.http.httptools_impl", "RequestResponseCycle", "disconnected", "send"),
        ("hypercorn", "hypercorn.protocol.http_stream", "HTTPStream", "closed", "app_send"),
    ],
)
def test_servers_have_an_attribute_for_a_disconnect(
    package: str, module: str, class_name: str, attribute: str, send: str
) -> None:
    """Module client_disconnect."""
    connection_class = getattr(import_module(module), class_name)
    installed = f"{package} {version(package)}"
    assert attribute in connection_class.__init__.__code__.co_names, installed
    connection = object.__new__(connection_class)
    assert getattr(connection, send).__self__ is connection, installed
    setattr(connection, attribute, False)
    assert not is_disconnected(connection)
    setattr(connection, attribute, True)
    assert is_disconnected(connection)
