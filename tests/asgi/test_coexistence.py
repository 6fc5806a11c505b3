"""Each request has one server span, one sample and one log line if other instrumentation is installed as well."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException
from opentelemetry import baggage, context, trace
from opentelemetry.instrumentation._semconv import (
    _OpenTelemetrySemanticConventionStability,
    _OpenTelemetryStabilitySignalType,
    _StabilityMode,
)
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware as ContribMiddleware
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import SpanKind, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.opentelemetry import OpenTelemetryMiddleware as StarletteMiddleware
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

import connectsoft_obs as obs
from connectsoft_obs.testing import capture


async def hello(_: Any) -> PlainTextResponse:
    return PlainTextResponse("hello")


def starlette_app() -> Starlette:
    return Starlette(routes=[Route("/hello/{name}", hello)])


def fastapi_app(**options: Any) -> FastAPI:
    app = FastAPI(**options)

    @app.get("/hello/{name}")
    async def handler(name: str) -> str:
        return name

    return app


def trace_id(span: ReadableSpan) -> int:
    span_context = span.get_span_context()
    assert span_context is not None
    return span_context.trace_id


def with_inner_middleware(app: Any) -> Any:
    app.add_middleware(obs.ObservabilityMiddleware, service="one")
    return app


def with_outer_middleware(app: Any) -> Any:
    return obs.ObservabilityMiddleware(app, service="one")


def contrib_instrumented_app() -> Any:
    app = fastapi_app()
    FastAPIInstrumentor.instrument_app(app)
    return app


def starlette_instrumented_app() -> Any:
    app = starlette_app()
    app.add_middleware(StarletteMiddleware)
    return with_inner_middleware(app)


def mounted_app() -> Any:
    return with_inner_middleware(Starlette(routes=[Mount("/", app=with_inner_middleware(starlette_app()))]))


def mounted_fastapi_app() -> Any:
    app = with_inner_middleware(fastapi_app())
    app.mount("/sub", with_inner_middleware(fastapi_app()))
    return app


# Function that creates the application, path of the request, whether another instrumentation creates the server span.
COMBINATIONS: dict[str, tuple[Callable[[], Any], str, bool]] = {
    "starlette, inner": (lambda: with_inner_middleware(starlette_app()), "/hello/a", False),
    "starlette, outer": (lambda: with_outer_middleware(starlette_app()), "/hello/a", False),
    "starlette, inner twice": (
        lambda: with_inner_middleware(with_inner_middleware(starlette_app())),
        "/hello/a",
        False,
    ),
    "starlette, inner and outer": (
        lambda: with_outer_middleware(with_inner_middleware(starlette_app())),
        "/hello/a",
        False,
    ),
    "starlette, parent and mounted": (mounted_app, "/hello/a", False),
    "fastapi telemetry, inner": (lambda: with_inner_middleware(fastapi_app()), "/hello/a", False),
    "fastapi telemetry, outer": (lambda: with_outer_middleware(fastapi_app()), "/hello/a", False),
    "fastapi telemetry, parent and mounted": (mounted_fastapi_app, "/sub/hello/a", False),
    "starlette middleware, innermost": (starlette_instrumented_app, "/hello/a", False),
    "starlette middleware, outermost": (
        lambda: StarletteMiddleware(with_inner_middleware(starlette_app())),
        "/hello/a",
        True,
    ),
    "contrib middleware, outermost": (
        lambda: ContribMiddleware(with_inner_middleware(starlette_app())),
        "/hello/a",
        True,
    ),
    "contrib middleware, innermost": (
        lambda: with_outer_middleware(ContribMiddleware(starlette_app())),
        "/hello/a",
        False,
    ),
    "contrib instrument_app, inner": (lambda: with_inner_middleware(contrib_instrumented_app()), "/hello/a", False),
    "contrib instrument_app, outer": (lambda: with_outer_middleware(contrib_instrumented_app()), "/hello/a", False),
}


@pytest.mark.parametrize("lifespan", [True, False], ids=["lifespan", "no lifespan"])
@pytest.mark.parametrize("name", COMBINATIONS)
def test_request_has_one_server_span_one_sample_and_one_log_line(name: str, lifespan: bool) -> None:
    create_app, path, is_adopted = COMBINATIONS[name]
    with capture() as captured:
        client = TestClient(create_app())
        if lifespan:
            client.__enter__()
        for _ in range(3):
            assert client.get(path).status_code == 200
        if lifespan:
            client.__exit__(None, None, None)
    server_spans: list[Any] = [span for span in captured.spans if span.kind is SpanKind.SERVER]
    access_lines = [line for line in captured.logs if line["logger"] == "connectsoft_obs.access"]
    duration = captured.metric("http.server.request.duration")
    assert len(server_spans) == duration.count == len(access_lines) == 3
    assert captured.metric("http.server.active_requests").value == 0
    assert {line["http.route"] for line in access_lines} == {f"{path.removesuffix('a')}{{name}}"}
    assert [line["trace_id"] for line in access_lines] == [f"{trace_id(span):032x}" for span in server_spans]
    if not is_adopted:
        # Without a lifespan, OpenTelemetry's outer instrumentation observes the first request before it can be disabled,
        # and its span is adopted. An inner instrumentation adds spans to that request only.
        first_is_adopted = not lifespan and name == "contrib instrument_app, inner"
        own_spans = server_spans[1:] if first_is_adopted else server_spans
        assert {span.instrumentation_scope.name for span in own_spans} == {"connectsoft_obs"}
        later_traces = {trace_id(span) for span in server_spans[1:]}
        assert len([span for span in captured.spans if trace_id(span) in later_traces]) == 2
        if lifespan:
            assert len(captured.spans) == 3
    for span in server_spans:
        assert span.attributes["client.address"] == "testclient"


@pytest.mark.parametrize("middleware_around", [False, True], ids=["outermost", "inside another middleware"])
def test_health_probe_that_is_the_first_request_is_not_traced(middleware_around: bool) -> None:
    app = with_inner_middleware(fastapi_app(middleware=[Middleware(GZipMiddleware)]))
    if middleware_around:
        app.add_middleware(GZipMiddleware)
    with capture() as captured:
        client = TestClient(app)
        for path in ("/health/live", "/health/ready", "/metrics"):
            assert client.get(path).status_code == 200
        assert captured.spans == []
        client.get("/hello/a")
        assert [span.name for span in captured.spans] == ["GET /hello/{name}"]


def test_fastapi_reports_a_signal_whose_provider_the_application_has_configured() -> None:
    exporter: Any = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    app = FastAPI(telemetry={"logger_provider": provider})

    @app.get("/fail")
    async def fail() -> None:
        raise ValueError

    with_inner_middleware(app)
    with capture() as captured:
        client = TestClient(app, raise_server_exceptions=False)
        assert [client.get("/fail").status_code for _ in range(2)] == [500, 500]
        assert len(captured.spans) == captured.metric("http.server.request.duration").count == 2
    records = [item.log_record for item in exporter.get_finished_logs()]
    assert [record.trace_id for record in records] == [trace_id(span) for span in captured.spans]


def test_trace_id_of_an_adopted_span_is_the_correlation_id() -> None:
    with capture() as captured:
        response = TestClient(ContribMiddleware(with_inner_middleware(starlette_app()))).get("/hello/a")
    [span] = [span for span in captured.spans if span.kind is SpanKind.SERVER]
    assert response.headers["x-correlation-id"] == f"{trace_id(span):032x}"


async def injected_headers(_: Any) -> JSONResponse:
    headers: dict[str, str] = {}
    obs.inject(headers)
    return JSONResponse({**headers, "value": context.get_value("outer.value")})


@pytest.mark.parametrize("sampler", [ALWAYS_OFF, ParentBased(ALWAYS_OFF)])
def test_outer_server_span_that_is_not_sampled_is_adopted(sampler: Any) -> None:
    app = with_inner_middleware(Starlette(routes=[Route("/", injected_headers)]))
    outer = ContribMiddleware(app, tracer_provider=TracerProvider(sampler=sampler))
    trace_of_caller = "0af7651916cd43dd8448eb211c80319c"
    with capture() as captured:
        response = TestClient(outer).get("/", headers={"traceparent": f"00-{trace_of_caller}-b7ad6b7169203331-00"})
    assert response.json()["traceparent"].startswith(f"00-{trace_of_caller}-")
    assert response.json()["traceparent"].endswith("-00")
    assert response.headers["x-correlation-id"] == trace_of_caller
    assert not [span for span in captured.spans if span.kind is SpanKind.SERVER]
    assert captured.metric("http.server.request.duration").count == 1


def test_outer_root_span_that_is_not_sampled_is_adopted() -> None:
    app = with_inner_middleware(Starlette(routes=[Route("/", injected_headers)]))
    outer = ContribMiddleware(app, tracer_provider=TracerProvider(sampler=ALWAYS_OFF))
    with capture() as captured:
        response = TestClient(outer).get("/")
    assert not int(response.json()["traceparent"][-2:], 16) & TraceFlags.SAMPLED
    assert not [span for span in captured.spans if span.kind is SpanKind.SERVER]


@pytest.mark.parametrize("headers", [{}, {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}])
def test_span_of_the_process_that_is_not_sampled_is_not_adopted(headers: dict[str, str]) -> None:
    app = with_inner_middleware(Starlette(routes=[Route("/", injected_headers)]))
    tracer = TracerProvider(sampler=ALWAYS_OFF).get_tracer("process")
    with capture() as captured, tracer.start_as_current_span("main") as main:
        response = TestClient(app).get("/", headers=headers)
    (span,) = [span for span in captured.spans if span.kind is SpanKind.SERVER]
    assert trace_id(span) != main.get_span_context().trace_id
    assert response.json()["traceparent"].startswith(f"00-{trace_id(span):032x}-")


def test_caller_span_in_the_same_process_that_is_not_sampled_is_the_parent() -> None:
    app = with_inner_middleware(Starlette(routes=[Route("/", injected_headers)]))
    tracer = TracerProvider(sampler=ALWAYS_OFF).get_tracer("client")
    with capture() as captured, tracer.start_as_current_span("GET") as caller:
        carrier: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(carrier)
        response = TestClient(app).get("/", headers=carrier)
    span_context = caller.get_span_context()
    assert response.json()["traceparent"].startswith(f"00-{span_context.trace_id:032x}-")
    assert f"-{span_context.span_id:016x}-" not in response.json()["traceparent"]
    assert not captured.spans


class OrderError(Exception):
    """Raised by the applications below."""


def failing_fastapi_app(has_own_provider: bool) -> Any:
    """An application; with a tracer provider of its own, its telemetry stays enabled."""
    app = FastAPI(telemetry={"tracer_provider": trace.get_tracer_provider() if has_own_provider else None})

    @app.get("/unhandled")
    def unhandled() -> None:
        raise OrderError

    @app.get("/handled")
    def handled() -> None:
        raise HTTPException(503)

    return with_inner_middleware(app)


async def failing_asgi_app(scope: Any, receive: Any, send: Any) -> None:
    raise OrderError


FAILING_APPS: dict[str, Callable[[], Any]] = {
    "fastapi": lambda: failing_fastapi_app(True),
    "contrib, fastapi": lambda: ContribMiddleware(failing_fastapi_app(False)),
    "contrib, asgi": lambda: ContribMiddleware(obs.ObservabilityMiddleware(failing_asgi_app, service="orders-api")),
}


@pytest.mark.parametrize("mode", [_StabilityMode.DEFAULT, _StabilityMode.HTTP], ids=["old names", "stable names"])
@pytest.mark.parametrize(("name", "path"), [(name, "/unhandled") for name in FAILING_APPS] + [("fastapi", "/handled")])
def test_adopted_span_has_the_error_type_of_the_other_signals(
    name: str, path: str, mode: _StabilityMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The instrumentation reads the conventions from the environment once per process.
    conventions = {_OpenTelemetryStabilitySignalType.HTTP: mode}
    monkeypatch.setattr(_OpenTelemetrySemanticConventionStability, "_initialized", True)
    monkeypatch.setattr(
        _OpenTelemetrySemanticConventionStability, "_OTEL_SEMCONV_STABILITY_SIGNAL_MAPPING", conventions
    )
    with capture() as captured:
        client = TestClient(FAILING_APPS[name](), raise_server_exceptions=False)
        for _ in range(2):
            client.get(path)
    spans = [span for span in captured.spans if span.kind is SpanKind.SERVER]
    (series,) = captured.metric("http.server.request.duration").series
    expected = series["error_type"]
    assert expected == (f"{__name__}.OrderError" if path == "/unhandled" else "503")
    assert [dict(span.attributes or {})["error.type"] for span in spans] == 2 * [expected]
    assert [line["error.type"] for line in captured.logs if line["logger"] == "connectsoft_obs.access"] == 2 * [
        expected
    ]
    assert {span.instrumentation_scope.name for span in spans if span.instrumentation_scope} != {"connectsoft_obs"}


@pytest.mark.parametrize("headers", [{}, {"baggage": "sent=1,both=inner"}])
def test_context_values_of_an_outer_layer_are_visible_and_propagated(headers: dict[str, str]) -> None:
    app = with_inner_middleware(Starlette(routes=[Route("/", injected_headers)]))

    async def outer(scope: Any, receive: Any, send: Any) -> None:
        values = context.set_value("outer.value", "kept", baggage.set_baggage("both", "outer"))
        token = context.attach(values)
        try:
            await app(scope, receive, send)
        finally:
            context.detach(token)

    with capture():
        result = TestClient(outer).get("/", headers=headers).json()
    assert result["value"] == "kept"
    assert sorted(result["baggage"].split(",")) == (["both=outer", "sent=1"] if headers else ["both=outer"])


def test_application_called_in_process_is_a_separate_request() -> None:
    inner = with_inner_middleware(starlette_app())

    async def call(_: Any) -> PlainTextResponse:
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "GET", "path": "/hello/b", "headers": [], "query_string": b""}
        await inner(scope, receive, send)
        return PlainTextResponse(str(sent[0]["status"]))

    with capture() as captured:
        assert TestClient(with_inner_middleware(Starlette(routes=[Route("/call", call)]))).get("/call").text == "200"
    assert sorted(span.name for span in captured.spans) == ["GET /call", "GET /hello/{name}"]
    assert captured.metric("http.server.request.duration").count == 2


@pytest.mark.parametrize("max_body_size", [None, 5])
def test_outer_middleware_handles_an_exception_of_the_first_request(max_body_size: int | None) -> None:
    """Without a lifespan, the first request is in the framework's stack before this middleware is outermost."""

    class Refusal(Exception):
        pass

    class RefusalMiddleware:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            try:
                await self.app(scope, receive, send)
            except Refusal:
                await PlainTextResponse("refused", 503)(scope, receive, send)

    app = FastAPI(max_body_size=max_body_size)

    @app.post("/")
    async def refuse() -> None:
        raise Refusal

    with_inner_middleware(app)
    app.add_middleware(RefusalMiddleware)
    with capture():
        client = TestClient(app)
        assert [client.post("/").status_code for _ in range(2)] == [503, 503]


def test_first_request_with_a_body_that_is_too_large_is_observed() -> None:
    app = FastAPI(max_body_size=5)

    @app.middleware("http")
    async def read_body(request: Any, call_next: Any) -> Any:
        await request.body()
        return await call_next(request)

    with_inner_middleware(app)
    with capture() as captured:
        client = TestClient(app)
        responses = [client.post("/", content=iter([b"123", b"456"])) for _ in range(2)]
    assert [response.status_code for response in responses] == [413, 413]
    assert all("x-correlation-id" in response.headers for response in responses)
    assert [dict(span.attributes or {})["http.response.status_code"] for span in captured.spans] == [413, 413]
