"""Request duration, context, lifespan and endpoints of the middleware, in-process."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import time
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient
from support.process import Service, free_port, uvicorn, wait_for

import connectsoft_obs as obs
from connectsoft_obs.testing import Captured, capture

server_variable: contextvars.ContextVar[str] = contextvars.ContextVar("server_variable", default="unset")


def create_app(*routes: Any, **options: Any) -> Starlette:
    app = Starlette(routes=list(routes), lifespan=options.pop("lifespan", None))
    app.add_middleware(obs.ObservabilityMiddleware, service="behaviour", **options)
    return app


def server_span(captured: Captured) -> ReadableSpan:
    """Return the server span; instrumented HTTP clients may have added other spans."""
    [span] = [span for span in captured.spans if span.kind is trace.SpanKind.SERVER]
    return span


def test_duration_excludes_background_tasks() -> None:
    trace_ids = []

    async def handler(_: Request) -> PlainTextResponse:
        async def background() -> None:
            await asyncio.sleep(0.3)
            trace_ids.append(trace.get_current_span().get_span_context().trace_id)

        return PlainTextResponse("now", background=BackgroundTask(background))

    with capture() as captured:
        TestClient(create_app(Route("/", handler))).get("/")
        span = server_span(captured)
    context = span.get_span_context()
    assert context is not None
    assert span.end_time is not None
    assert span.start_time is not None
    assert (span.end_time - span.start_time) / 1e9 < 0.2
    assert captured.metric("http.server.request.duration").sum < 0.2
    assert trace_ids == [context.trace_id], "background tasks run with the span of the request"


def test_failing_background_task_does_not_change_the_outcome() -> None:
    async def handler(_: Request) -> PlainTextResponse:
        def background() -> None:
            message = "background failure"
            raise RuntimeError(message)

        return PlainTextResponse("now", background=BackgroundTask(background))

    with capture() as captured, pytest.raises(RuntimeError, match="background failure"):
        TestClient(create_app(Route("/", handler))).get("/")
    assert captured.metric("http.server.request.duration", http_response_status_code=200).count == 1
    assert captured.metric("http.server.request.duration").count == 1
    assert captured.log("GET / 200")["connectsoft.outcome"] == "success"


def test_chunked_response_is_one_span_with_the_total_size() -> None:
    async def handler(_: Request) -> StreamingResponse:
        async def body() -> Any:
            for _ in range(1000):
                yield b"x" * 100

        return StreamingResponse(body())

    with capture() as captured:
        response = TestClient(create_app(Route("/", handler))).get("/")
    assert len(response.content) == 100_000
    span = server_span(captured)
    attributes: dict[str, Any] = dict(span.attributes or {})
    assert attributes["http.response.body.size"] == 100_000
    assert 0 < attributes["connectsoft.http.time_to_first_byte"] <= captured.metric("http.server.request.duration").sum


def test_event_stream_has_its_own_metrics_and_one_span() -> None:
    async def handler(_: Request) -> StreamingResponse:
        async def body() -> Any:
            for number in range(5):
                yield f"data: {number}\n\n"

        return StreamingResponse(body(), media_type="text/event-stream")

    with capture() as captured:
        TestClient(create_app(Route("/events", handler))).get("/events")
    assert captured.metric("http.server.request.duration").count == 0
    stream = captured.metric("connectsoft.http.stream.duration", connectsoft_http_stream_kind="sse")
    assert (stream.count, len(captured.spans)) == (1, 1)
    assert captured.metric("connectsoft.http.stream.active").value == 0
    assert captured.metric("http.server.active_requests").value == 0
    line = captured.log("GET /events 200")
    assert line["connectsoft.http.stream.kind"] == "sse"
    assert "connectsoft.http.stream.duration" in line


def test_trailers_and_pathsend_end_the_response() -> None:
    async def raw(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/trailers":
            await send({"type": "http.response.start", "status": 200, "headers": [], "trailers": True})
            await send({"type": "http.response.body", "body": b"x"})
            await asyncio.sleep(0.05)
            await send({"type": "http.response.trailers", "headers": [(b"a", b"b")]})
        else:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.pathsend", "path": "/dev/null"})

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def main() -> None:
        observed = obs.ObservabilityMiddleware(raw, service="a", route=lambda scope: scope["path"])
        for path in ("/trailers", "/file"):
            scope: dict[str, Any] = {"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b""}
            await observed(scope, None, send)  # type: ignore[arg-type]

    with capture() as captured:
        asyncio.run(main())
    assert [message["type"].rpartition(".")[2] for message in sent] == [
        "start",
        "body",
        "trailers",
        "start",
        "pathsend",
    ]
    assert captured.metric("http.server.request.duration", http_route="/trailers").sum >= 0.05
    assert {line["connectsoft.outcome"] for line in captured.logs if line["logger"] == "connectsoft_obs.access"} == {
        "success"
    }


@pytest.mark.parametrize(
    ("messages", "size"),
    [
        (lambda file: [{"type": "http.response.pathsend", "path": file.name}], 5000),
        (lambda file: [{"type": "http.response.pathsend", "path": f"{file.name}.missing"}], None),
        (lambda file: [{"type": "http.response.zerocopysend", "file": file}], 5000),
        (lambda file: [{"type": "http.response.zerocopysend", "file": file, "offset": 1000}], 4000),
        (lambda file: [{"type": "http.response.zerocopysend", "file": file, "offset": 1000, "count": 10}], 10),
        (lambda file: [{"type": "http.response.zerocopysend", "file": file.seek(3000) and file}], 2000),
        (lambda file: [{"type": "http.response.zerocopysend", "file": None}], None),
        (
            lambda file: [
                {"type": "http.response.zerocopysend", "file": file, "count": 3, "more_body": True},
                {"type": "http.response.body", "body": b"four"},
            ],
            7,
        ),
    ],
)
def test_sent_files_count_as_body_of_the_response(tmp_path: Path, messages: Any, size: int | None) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    (tmp_path / "file").write_bytes(b"x" * 5000)
    with (tmp_path / "file").open("rb") as file, capture() as captured:
        expected = messages(file)
        position = file.tell()

        async def raw(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for message in expected:
                await send(message)

        scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b""}
        asyncio.run(obs.ObservabilityMiddleware(raw, service="a")(scope, None, send))  # type: ignore[arg-type]
        assert file.tell() == position
    assert sent[1:] == expected
    line = captured.log("GET 200")
    assert line["connectsoft.outcome"] == "success"
    assert line.get("http.response.body.size") == size or (size is None and not line["http.response.body.size"])
    assert (server_span(captured).attributes or {}).get("http.response.body.size") == size


@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_size_of_a_request_is_that_of_all_its_messages(kind: str) -> None:
    bodies = [b"ab", b"", b"cde", b"f"]
    received = iter(
        [{"type": "http.request", "body": body, "more_body": body != b"f"} for body in bodies]
        if kind == "http"
        else [{"type": "websocket.connect"}, *({"type": "websocket.receive", "bytes": body} for body in bodies)]
    )

    async def receive() -> Any:
        return next(received)

    async def send(_: Any) -> None: ...

    async def raw(scope: Any, receive: Any, send: Any) -> None:
        messages = [await receive() for _ in range(4 if kind == "http" else 5)]
        assert b"".join(message.get("body", message.get("bytes", b"")) for message in messages) == b"abcdef"
        if kind == "http":
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body"})
        else:
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.close"})

    scope = {"type": kind, "method": "POST", "path": "/", "headers": [], "query_string": b"", "scheme": "http"}
    with capture() as captured:
        asyncio.run(obs.ObservabilityMiddleware(raw, service="a")(scope, receive, send))
    assert (server_span(captured).attributes or {})["http.request.body.size"] == 6
    [line] = [line for line in captured.logs if line["logger"] == "connectsoft_obs.access"]
    assert line["http.request.body.size"] == 6


def test_file_that_granian_sends_by_its_path_has_its_size(tmp_path: Path) -> None:
    (tmp_path / "files.py").write_text(
        "from starlette.applications import Starlette\n"
        "from starlette.responses import FileResponse\n"
        "from starlette.routing import Route\n"
        "import connectsoft_obs as obs\n"
        "async def file(request):\n"
        "    assert 'http.response.pathsend' in request.scope['extensions']\n"
        "    return FileResponse(__file__)\n"
        "app = Starlette(routes=[Route('/file', file)])\n"
        "app.add_middleware(obs.ObservabilityMiddleware, service='files')\n"
    )
    port = free_port()
    command = [sys.executable, "-m", "granian", "files:app", "--interface", "asgi", "--port", str(port)]
    with Service(command, port, {"PYTHONPATH": str(tmp_path)}) as service:
        service.wait_until_ready()
        content = httpx.get(f"{service.url}/file").content
        assert content == (tmp_path / "files.py").read_bytes()
        wait_for(lambda: [line for line in service.json_lines if line["logger"] == "connectsoft_obs.access"])
        [line] = [line for line in service.json_lines if line["logger"] == "connectsoft_obs.access"]
    assert line["http.response.body.size"] == len(content)


def test_application_runs_in_the_task_and_context_of_the_server() -> None:
    observed: dict[str, Any] = {}

    async def raw(scope: Any, receive: Any, send: Any) -> None:
        observed.update(task=asyncio.current_task(), before=server_variable.get(), scope=scope)
        server_variable.set("by the application")
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async def main() -> None:
        server_variable.set("by the server")
        scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b"", "custom": 1}

        async def send(_: Any) -> None:
            return None

        before = trace.get_current_span()
        await obs.ObservabilityMiddleware(raw, service="a")(scope, None, send)  # type: ignore[arg-type]
        assert observed["task"] is asyncio.current_task()
        assert observed["before"] == "by the server"
        assert server_variable.get() == "by the application"
        assert observed["scope"] is scope
        assert scope["custom"] == 1
        assert trace.get_current_span() is before, "the span is not current after the request"

    with capture():
        asyncio.run(main())


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_concurrent_requests_have_separate_bindings(backend: str) -> None:
    log = obs.get_logger("app")

    async def handler(request: Request) -> PlainTextResponse:
        name = request.path_params["name"]
        obs.bind(order_id=name)
        await anyio.sleep(0.01)
        await anyio.to_thread.run_sync(lambda: log.info("thread", expected=name))
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 0.001)
        log.info("done", expected=name)
        return PlainTextResponse(name)

    observed = create_app(Route("/{name}", handler))

    async def main() -> None:
        transport = httpx.ASGITransport(observed)
        async with (
            httpx.AsyncClient(transport=transport, base_url="http://a") as client,
            anyio.create_task_group() as group,
        ):
            for number in range(100):
                group.start_soon(client.get, f"/n{number}")

    with capture() as captured:
        anyio.run(main, backend=backend)
    lines = [line for line in captured.logs if "expected" in line]
    assert len(lines) == 200
    assert all(line["order_id"] == line["expected"] for line in lines)
    trace_ids = {line["order_id"]: line["trace_id"] for line in lines}
    assert len(set(trace_ids.values())) == 100
    assert all(trace_ids[line["order_id"]] == line["trace_id"] for line in lines)
    assert captured.metric("http.server.active_requests").value == 0


def test_sync_endpoint_has_the_request_context() -> None:
    api = FastAPI()
    api.add_middleware(obs.ObservabilityMiddleware, service="sync")
    log = obs.get_logger("sync")

    @api.get("/{name}")
    def handler(name: str) -> str:
        obs.bind(tenant_id=name)
        log.info("sync")
        return name

    with capture() as captured, TestClient(api) as client:
        client.get("/acme")
    line = captured.log("sync")
    assert line["connectsoft.tenant.id"] == "acme"
    span = server_span(captured)
    context = span.get_span_context()
    assert context is not None
    assert line["trace_id"] == f"{context.trace_id:032x}"
    assert dict(span.attributes or {})["connectsoft.tenant.id"] == "acme"


def test_lifespan_state_and_errors_are_passed_through() -> None:
    from contextlib import asynccontextmanager

    @asynccontextmanager
    async def lifespan(_: Any) -> Any:
        yield {"pool": "connections"}

    async def handler(request: Request) -> PlainTextResponse:
        return PlainTextResponse(request.state.pool)

    with capture(), TestClient(create_app(Route("/", handler), lifespan=lifespan)) as client:
        assert client.get("/").text == "connections"

    @asynccontextmanager
    async def failing_lifespan(_: Any) -> Any:
        message = "no database"
        raise RuntimeError(message)
        yield  # type: ignore[unreachable]

    with capture(), pytest.raises(RuntimeError, match="no database"), TestClient(create_app(lifespan=failing_lifespan)):
        pass


def test_application_routes_take_precedence_over_endpoints_except_probes() -> None:
    async def app_page(_: Request) -> PlainTextResponse:
        return PlainTextResponse("application")

    observed = create_app(
        Route("/health", app_page),
        Route("/info", app_page),
        Mount("/metrics", routes=[Route("/", app_page)]),
        Route("/health/live", app_page),
    )
    with capture() as captured, TestClient(observed) as client:
        bodies = {path: client.get(path).text for path in ("/health", "/info", "/metrics/", "/health/live")}
    assert bodies["/health"] == bodies["/info"] == bodies["/metrics/"] == "application"
    assert "Healthy" in bodies["/health/live"]
    warnings = [line for line in captured.logs if line["severity"] == "WARN"]
    assert {(line["connectsoft.obs.path"], line["connectsoft.obs.setting"]) for line in warnings} == {
        ("/health", "CONNECTSOFT_OBS_HEALTH_PATH"),
        ("/info", "CONNECTSOFT_OBS_INFO_PATH"),
        ("/metrics", "CONNECTSOFT_OBS_METRICS_PATH"),
    }


def test_catch_all_route_does_not_disable_endpoints() -> None:
    async def page(_: Request) -> PlainTextResponse:
        return PlainTextResponse("single page application")

    with capture(), TestClient(create_app(Route("/{path:path}", page))) as client:
        assert "Healthy" in client.get("/health").text
        assert client.get("/anything").text == "single page application"
        assert client.post("/health").status_code == 405, "only GET and HEAD are served by the endpoints"


def test_mounted_application_does_not_serve_endpoints() -> None:
    inner = create_app()
    with capture(), TestClient(create_app(Mount("/sub", app=inner))) as client:
        assert client.get("/health").status_code == 200
        assert client.get("/sub/health").status_code == 404


def test_endpoint_paths_are_configurable_and_can_be_disabled() -> None:
    with capture(), TestClient(create_app(liveness_path="/livez", liveness_path_alias="", metrics_path="")) as client:
        assert client.get("/livez").status_code == 200
        assert [client.get(path).status_code for path in ("/health/live", "/alive", "/metrics")] == [404, 404, 404]


def test_disabled_middleware_serves_only_the_endpoints() -> None:
    async def handler(_: Request) -> PlainTextResponse:
        return PlainTextResponse(str(trace.get_current_span().is_recording()))

    with capture(disabled=True) as captured, TestClient(create_app(Route("/", handler))) as client:
        response = client.get("/")
        assert client.get("/health/ready").status_code == 200
    assert response.text == "False"
    assert "x-correlation-id" not in response.headers
    assert captured.spans == []
    assert captured.logs == []
    assert captured.metric("http.server.request.duration").count == 0


def test_other_middlewares_run_once_per_request() -> None:
    calls: list[str] = []

    class OtherMiddleware:
        def __init__(self, inner: Any) -> None:
            self.app = inner

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                calls.append("call")
            await self.app(scope, receive, send)

    async def handler(_: Request) -> PlainTextResponse:
        return PlainTextResponse("x")

    app = Starlette(routes=[Route("/", handler)], middleware=[Middleware(OtherMiddleware)])
    app.add_middleware(obs.ObservabilityMiddleware, service="a")
    app.add_middleware(OtherMiddleware)
    with capture():
        client = TestClient(app)
        for _ in range(3):
            client.get("/")
    assert calls == ["call"] * 6, "both instances are called once per request, including the first request"


def test_second_service_in_a_process_is_rejected() -> None:
    with capture() as captured:
        first = TestClient(create_app(), raise_server_exceptions=True)
        first.get("/")
        second = Starlette()
        second.add_middleware(obs.ObservabilityMiddleware, service="another")
        with pytest.raises(obs.ConfigurationError, match="this process already reports with service='behaviour'"):
            TestClient(second).__enter__()
        assert TestClient(second).get("/").status_code == 404, (
            "without a lifespan, requests are passed through unchanged"
        )
    assert len(captured.spans) == 1


def test_explicit_telemetry_is_used() -> None:
    from connectsoft_obs.settings import load_settings

    with capture() as captured:
        telemetry = obs.Telemetry(load_settings({}, service="explicit"), exports=False)
        app = Starlette()
        app.add_middleware(obs.ObservabilityMiddleware, telemetry=telemetry)
        TestClient(app).get("/")
    assert captured.spans == []
    series = {snapshot.metric.name: snapshot.series for snapshot in telemetry.metrics.snapshots()}
    assert series["http.server.request.duration"]


def test_lifespan_shutdown_flushes_pending_telemetry() -> None:
    from support.otlp import HttpSink

    with HttpSink() as sink:
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "OTEL_BSP_SCHEDULE_DELAY": "60000"}
        with uvicorn("orders:app", env=env) as service:
            service.wait_until_ready()
            for number in range(20):
                httpx.get(f"{service.url}/items/{number}")
            start = time.monotonic()
            service.stop()
            assert time.monotonic() - start < 5
        wait_for(lambda: len(sink.received.spans) == 20, 5)
        assert sink.received.metric("http.server.request.duration") is not None


def test_iterable_headers_and_empty_body_are_passed_on() -> None:
    """ASGI: "headers (Iterable[[byte string, byte string]])". A generator can be iterated only once."""

    async def raw(scope: Any, receive: Any, send: Any) -> None:
        pairs = ((name, b"1") for name in (b"a", b"content-type"))
        await send({"type": "http.response.start", "status": 200, "headers": pairs})
        await send({"type": "http.response.body", "body": None})

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b""}
    with capture() as captured:
        observed = obs.ObservabilityMiddleware(raw, service="a")
        asyncio.run(observed(scope, None, send))  # type: ignore[arg-type]
        assert captured.metric("connectsoft.obs.errors").series == ()
    assert [name for name, _ in sent[0]["headers"]] == [b"a", b"content-type", b"x-correlation-id"]
    assert sent[1] == {"type": "http.response.body", "body": None}
