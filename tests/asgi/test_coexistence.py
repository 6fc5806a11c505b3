"""Exactly one server span, one sample, one in-flight count and one line, whoever else observes requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware as Contrib
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind
from starlette.applications import Starlette
from starlette.middleware.opentelemetry import OpenTelemetryMiddleware as StarletteOwn
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

import connectsoft_obs as obs
from connectsoft_obs.testing import capture


async def hello(_: Any) -> PlainTextResponse:
    return PlainTextResponse("hello")


def starlette() -> Starlette:
    return Starlette(routes=[Route("/hello/{name}", hello)])


def fastapi(**options: Any) -> FastAPI:
    app = FastAPI(**options)

    @app.get("/hello/{name}")
    async def handler(name: str) -> str:
        return name

    return app


def trace_id(span: ReadableSpan) -> int:
    context = span.get_span_context()
    assert context is not None
    return context.trace_id


def inside(app: Any) -> Any:
    app.add_middleware(obs.ObservabilityMiddleware, service="one")
    return app


def outside(app: Any) -> Any:
    return obs.ObservabilityMiddleware(app, service="one")


def contrib_instrumented() -> Any:
    app = fastapi()
    FastAPIInstrumentor.instrument_app(app)
    return app


def with_starlettes_own() -> Any:
    app = starlette()
    app.add_middleware(StarletteOwn)
    return inside(app)


def mounted() -> Any:
    return inside(Starlette(routes=[Mount("/", app=inside(starlette()))]))


def mounted_fastapi() -> Any:
    app = inside(fastapi())
    app.mount("/sub", inside(fastapi()))
    return app


# Each: how the application is put together, the path to ask, and whether the server span is somebody else's.
COMBINATIONS: dict[str, tuple[Callable[[], Any], str, bool]] = {
    "starlette, inside": (lambda: inside(starlette()), "/hello/a", False),
    "starlette, outside": (lambda: outside(starlette()), "/hello/a", False),
    "starlette, inside twice": (lambda: inside(inside(starlette())), "/hello/a", False),
    "starlette, inside and outside": (lambda: outside(inside(starlette())), "/hello/a", False),
    "starlette, parent and mounted": (mounted, "/hello/a", False),
    "fastapi's own, inside": (lambda: inside(fastapi()), "/hello/a", False),
    "fastapi's own, outside": (lambda: outside(fastapi()), "/hello/a", False),
    "fastapi's own, parent and mounted": (mounted_fastapi, "/sub/hello/a", False),
    "starlette's own, inside ours": (with_starlettes_own, "/hello/a", False),
    "starlette's own, around": (lambda: StarletteOwn(inside(starlette())), "/hello/a", True),
    "contrib, around": (lambda: Contrib(inside(starlette())), "/hello/a", True),
    "contrib, between": (lambda: outside(Contrib(starlette())), "/hello/a", False),
    "contrib instrument_app, inside": (lambda: inside(contrib_instrumented()), "/hello/a", False),
    "contrib instrument_app, outside": (lambda: outside(contrib_instrumented()), "/hello/a", False),
}


@pytest.mark.parametrize("lifespan", [True, False], ids=["lifespan", "no lifespan"])
@pytest.mark.parametrize("name", COMBINATIONS)
def test_one_span_one_sample_one_line(name: str, lifespan: bool) -> None:
    build, path, adopted = COMBINATIONS[name]
    with capture() as seen:
        client = TestClient(build())
        if lifespan:
            client.__enter__()
        for _ in range(3):
            assert client.get(path).status_code == 200
        if lifespan:
            client.__exit__(None, None, None)
    servers: list[Any] = [span for span in seen.spans if span.kind is SpanKind.SERVER]
    lines = [line for line in seen.logs if line["logger"] == "connectsoft_obs.access"]
    duration = seen.metric("http.server.request.duration")
    assert len(servers) == duration.count == len(lines) == 3
    assert seen.metric("http.server.active_requests").value == 0
    assert {line["http.route"] for line in lines} == {f"{path.removesuffix('a')}{{name}}"}
    assert [line["trace_id"] for line in lines] == [f"{trace_id(span):032x}" for span in servers]
    if not adopted:
        # Who stands outside us observes the first request of a server without lifespan before we can switch it off;
        # that span is adopted. Who stands inside adds its inner spans to that one request at the most.
        first_is_theirs = not lifespan and name in ("fastapi's own, inside", "fastapi's own, parent and mounted",
                                                    "contrib instrument_app, inside")  # fmt: skip
        ours = servers[1:] if first_is_theirs else servers
        assert {span.instrumentation_scope.name for span in ours} == {"connectsoft_obs"}
        after_the_first = {trace_id(span) for span in servers[1:]}
        assert len([span for span in seen.spans if trace_id(span) in after_the_first]) == 2
        if lifespan:
            assert len(seen.spans) == 3
    for span in servers:
        assert span.attributes["client.address"] == "testclient"


def test_an_adopted_span_is_enriched_and_correlates() -> None:
    with capture() as seen:
        answer = TestClient(Contrib(inside(starlette()))).get("/hello/a")
    [span] = [span for span in seen.spans if span.kind is SpanKind.SERVER]
    assert answer.headers["x-correlation-id"] == f"{trace_id(span):032x}"


def test_an_application_called_from_inside_a_request_is_a_request_of_its_own() -> None:
    inner = inside(starlette())

    async def call(_: Any) -> PlainTextResponse:
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "GET", "path": "/hello/b", "headers": [], "query_string": b""}
        await inner(scope, receive, send)
        return PlainTextResponse(str(sent[0]["status"]))

    with capture() as seen:
        assert TestClient(inside(Starlette(routes=[Route("/call", call)]))).get("/call").text == "200"
    assert sorted(span.name for span in seen.spans) == ["GET /call", "GET /hello/{name}"]
    assert seen.metric("http.server.request.duration").count == 2
