"""What the application sees and does is what it would see and do without us; clocks stop where they should."""

from __future__ import annotations

import asyncio
import contextvars
import time
from typing import Any

import anyio
import httpx
import pytest
from fastapi import FastAPI
from opentelemetry import trace
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient
from support.process import uvicorn, wait_for

import connectsoft_obs as obs
from connectsoft_obs.testing import capture

mark: contextvars.ContextVar[str] = contextvars.ContextVar("mark", default="unset")


def app(*routes: Any, **options: Any) -> Starlette:
    made = Starlette(routes=list(routes), lifespan=options.pop("lifespan", None))
    made.add_middleware(obs.ObservabilityMiddleware, service="behaviour", **options)
    return made


def test_the_clock_stops_at_the_last_byte_and_not_after_background_work() -> None:
    ran = []

    async def handler(_: Request) -> PlainTextResponse:
        async def later() -> None:
            await asyncio.sleep(0.3)
            ran.append(trace.get_current_span().get_span_context().trace_id)

        return PlainTextResponse("now", background=BackgroundTask(later))

    with capture() as seen:
        TestClient(app(Route("/", handler))).get("/")
        [span] = [one for one in seen.spans if one.kind is trace.SpanKind.SERVER]  # client libraries may trace too
    context = span.get_span_context()
    assert context is not None
    assert span.end_time is not None
    assert span.start_time is not None
    assert (span.end_time - span.start_time) / 1e9 < 0.2
    assert seen.metric("http.server.request.duration").sum < 0.2
    assert ran == [context.trace_id], "background work still sees the request's span"


def test_a_failing_background_task_does_not_change_what_was_answered() -> None:
    async def handler(_: Request) -> PlainTextResponse:
        def later() -> None:
            message = "too late"
            raise RuntimeError(message)

        return PlainTextResponse("now", background=BackgroundTask(later))

    with capture() as seen, pytest.raises(RuntimeError, match="too late"):
        TestClient(app(Route("/", handler))).get("/")
    assert seen.metric("http.server.request.duration", http_response_status_code=200).count == 1
    assert seen.metric("http.server.request.duration").count == 1
    assert seen.log("GET / 200")["connectsoft.outcome"] == "success"


def test_a_response_of_a_thousand_chunks_is_one_span_and_all_its_bytes() -> None:
    async def handler(_: Request) -> StreamingResponse:
        async def body() -> Any:
            for _ in range(1000):
                yield b"x" * 100

        return StreamingResponse(body())

    with capture() as seen:
        answer = TestClient(app(Route("/", handler))).get("/")
    assert len(answer.content) == 100_000
    [span] = [one for one in seen.spans if one.kind is trace.SpanKind.SERVER]  # client libraries may trace too
    attributes: dict[str, Any] = dict(span.attributes or {})
    assert attributes["http.response.body.size"] == 100_000
    assert 0 < attributes["connectsoft.http.time_to_first_byte"] <= seen.metric("http.server.request.duration").sum


def test_an_event_stream_has_its_own_instruments_and_one_span() -> None:
    async def handler(_: Request) -> StreamingResponse:
        async def body() -> Any:
            for number in range(5):
                yield f"data: {number}\n\n"

        return StreamingResponse(body(), media_type="text/event-stream")

    with capture() as seen:
        TestClient(app(Route("/events", handler))).get("/events")
    assert seen.metric("http.server.request.duration").count == 0
    stream = seen.metric("connectsoft.http.stream.duration", connectsoft_http_stream_kind="sse")
    assert (stream.count, len(seen.spans)) == (1, 1)
    assert seen.metric("connectsoft.http.stream.active").value == 0
    assert seen.metric("http.server.active_requests").value == 0
    line = seen.log("GET /events 200")
    assert line["connectsoft.http.stream.kind"] == "sse"
    assert "connectsoft.http.stream.duration" in line


def test_trailers_and_files_by_path_end_the_response() -> None:
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

    with capture() as seen:
        asyncio.run(main())
    assert [message["type"].rpartition(".")[2] for message in sent] == [
        "start",
        "body",
        "trailers",
        "start",
        "pathsend",
    ]
    assert seen.metric("http.server.request.duration", http_route="/trailers").sum >= 0.05
    assert {line["connectsoft.outcome"] for line in seen.logs if line["logger"] == "connectsoft_obs.access"} == {
        "success"
    }


def test_the_application_runs_in_the_servers_task_and_context() -> None:
    found: dict[str, Any] = {}

    async def raw(scope: Any, receive: Any, send: Any) -> None:
        found.update(task=asyncio.current_task(), before=mark.get(), scope=scope)
        mark.set("by the application")
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async def main() -> None:
        mark.set("by the server")
        scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b"", "mine": 1}

        async def send(_: Any) -> None:
            return None

        before = trace.get_current_span()
        await obs.ObservabilityMiddleware(raw, service="a")(scope, None, send)  # type: ignore[arg-type]
        assert found["task"] is asyncio.current_task()
        assert found["before"] == "by the server"
        assert mark.get() == "by the application"
        assert found["scope"] is scope
        assert scope["mine"] == 1
        assert trace.get_current_span() is before, "nothing leaks to the next request on the connection"

    with capture():
        asyncio.run(main())


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_hundred_requests_at_once_keep_their_facts_apart(backend: str) -> None:
    log = obs.get_logger("app")

    async def handler(request: Request) -> PlainTextResponse:
        name = request.path_params["name"]
        obs.bind(order_id=name)
        await anyio.sleep(0.01)
        await anyio.to_thread.run_sync(lambda: log.info("in a thread", mine=name))
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 0.001)
        log.info("done", mine=name)
        return PlainTextResponse(name)

    observed = app(Route("/{name}", handler))

    async def main() -> None:
        transport = httpx.ASGITransport(observed)
        async with (
            httpx.AsyncClient(transport=transport, base_url="http://a") as client,
            anyio.create_task_group() as group,
        ):
            for number in range(100):
                group.start_soon(client.get, f"/n{number}")

    with capture() as seen:
        anyio.run(main, backend=backend)
    lines = [line for line in seen.logs if "mine" in line]
    assert len(lines) == 200
    assert all(line["order_id"] == line["mine"] for line in lines)
    by_request = {line["order_id"]: line["trace_id"] for line in lines}
    assert len(set(by_request.values())) == 100
    assert all(by_request[line["order_id"]] == line["trace_id"] for line in lines)
    assert seen.metric("http.server.active_requests").value == 0


def test_sync_endpoints_see_their_request() -> None:
    api = FastAPI()
    api.add_middleware(obs.ObservabilityMiddleware, service="sync")
    log = obs.get_logger("sync")

    @api.get("/{name}")
    def handler(name: str) -> str:
        obs.bind(tenant_id=name)
        log.info("sync")
        return name

    with capture() as seen, TestClient(api) as client:
        client.get("/acme")
    line = seen.log("sync")
    assert line["connectsoft.tenant.id"] == "acme"
    [span] = [one for one in seen.spans if one.kind is trace.SpanKind.SERVER]  # client libraries may trace too
    context = span.get_span_context()
    assert context is not None
    assert line["trace_id"] == f"{context.trace_id:032x}"
    assert dict(span.attributes or {})["connectsoft.tenant.id"] == "acme"


def test_lifespan_state_and_its_errors_pass_through() -> None:
    from contextlib import asynccontextmanager

    @asynccontextmanager
    async def lifespan(_: Any) -> Any:
        yield {"pool": "mine"}

    async def handler(request: Request) -> PlainTextResponse:
        return PlainTextResponse(request.state.pool)

    with capture(), TestClient(app(Route("/", handler), lifespan=lifespan)) as client:
        assert client.get("/").text == "mine"

    @asynccontextmanager
    async def broken(_: Any) -> Any:
        message = "no database"
        raise RuntimeError(message)
        yield  # type: ignore[unreachable]

    with capture(), pytest.raises(RuntimeError, match="no database"), TestClient(app(lifespan=broken)):
        pass


def test_an_application_that_routes_our_paths_keeps_them_except_the_probes() -> None:
    async def own(_: Request) -> PlainTextResponse:
        return PlainTextResponse("own")

    observed = app(
        Route("/health", own),
        Route("/info", own),
        Mount("/metrics", routes=[Route("/", own)]),
        Route("/health/live", own),
    )
    with capture() as seen, TestClient(observed) as client:
        answers = {path: client.get(path).text for path in ("/health", "/info", "/metrics/", "/health/live")}
    assert answers["/health"] == answers["/info"] == answers["/metrics/"] == "own"
    assert "Healthy" in answers["/health/live"]
    warnings = [line for line in seen.logs if line["severity"] == "WARN"]
    assert {(line["path"], line["setting"]) for line in warnings} == {
        ("/health", "CONNECTSOFT_OBS_HEALTH_PATH"),
        ("/info", "CONNECTSOFT_OBS_INFO_PATH"),
        ("/metrics", "CONNECTSOFT_OBS_METRICS_PATH"),
    }


def test_a_catch_all_route_does_not_take_our_paths_away() -> None:
    async def page(_: Request) -> PlainTextResponse:
        return PlainTextResponse("single page application")

    with capture(), TestClient(app(Route("/{path:path}", page))) as client:
        assert "Healthy" in client.get("/health").text
        assert client.get("/anything").text == "single page application"
        assert client.post("/health").status_code == 405, "only GET and HEAD are ours"


def test_a_mounted_application_does_not_answer_a_second_time() -> None:
    inner = app()
    with capture(), TestClient(app(Mount("/sub", app=inner))) as client:
        assert client.get("/health").status_code == 200
        assert client.get("/sub/health").status_code == 404


def test_paths_move_and_aliases_are_switched_off() -> None:
    with capture(), TestClient(app(liveness_path="/livez", liveness_path_alias="", metrics_path="")) as client:
        assert client.get("/livez").status_code == 200
        assert [client.get(path).status_code for path in ("/health/live", "/alive", "/metrics")] == [404, 404, 404]


def test_disabled_means_endpoints_and_nothing_else() -> None:
    async def handler(_: Request) -> PlainTextResponse:
        return PlainTextResponse(str(trace.get_current_span().is_recording()))

    with capture(disabled=True) as seen, TestClient(app(Route("/", handler))) as client:
        answer = client.get("/")
        assert client.get("/health/ready").status_code == 200
    assert answer.text == "False"
    assert "x-correlation-id" not in answer.headers
    assert seen.spans == []
    assert seen.logs == []
    assert seen.metric("http.server.request.duration").count == 0


def test_another_middleware_further_out_sees_what_it_would() -> None:
    order: list[str] = []

    class Outer:
        def __init__(self, inner: Any) -> None:
            self.app = inner

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                order.append("in")
            await self.app(scope, receive, send)

    async def handler(_: Request) -> PlainTextResponse:
        return PlainTextResponse("x")

    made = Starlette(routes=[Route("/", handler)], middleware=[Middleware(Outer)])
    made.add_middleware(obs.ObservabilityMiddleware, service="a")
    made.add_middleware(Outer)
    with capture():
        client = TestClient(made)
        for _ in range(3):
            client.get("/")
    assert order == ["in"] * 6, "each of the two once a request, the first one included"


def test_two_services_in_one_process_need_two_telemetries() -> None:
    with capture() as seen:
        first = TestClient(app(), raise_server_exceptions=True)
        first.get("/")
        second = Starlette()
        second.add_middleware(obs.ObservabilityMiddleware, service="another")
        with pytest.raises(obs.ConfigurationError, match="this process already reports with service='behaviour'"):
            TestClient(second).__enter__()
        assert TestClient(second).get("/").status_code == 404, "without a lifespan it serves untouched"
    assert len(seen.spans) == 1


def test_a_telemetry_can_be_passed_explicitly() -> None:
    from connectsoft_obs.settings import load_settings

    with capture() as seen:
        own = obs.Telemetry(load_settings({}, service="mine"), exports=False)
        made = Starlette()
        made.add_middleware(obs.ObservabilityMiddleware, telemetry=own)
        TestClient(made).get("/")
    assert seen.spans == []
    counted = {snapshot.metric.name: snapshot.series for snapshot in own.metrics.snapshots()}
    assert counted["http.server.request.duration"]


def test_a_flush_at_the_end_of_the_lifespan_sends_what_a_signal_would_lose() -> None:
    from support.otlp import HttpSink

    with HttpSink() as sink:
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "OTEL_BSP_SCHEDULE_DELAY": "60000"}
        with uvicorn("orders:app", env=env) as service:
            service.wait_until_ready()
            for number in range(20):
                httpx.get(f"{service.url}/items/{number}")
            began = time.monotonic()
            service.stop()
            assert time.monotonic() - began < 5
        wait_for(lambda: len(sink.received.spans) == 20, 5)
        assert sink.received.metric("http.server.request.duration") is not None


def test_headers_of_any_iterable_and_a_body_of_none_pass_as_they_are() -> None:
    """ASGI: "headers (Iterable[[byte string, byte string]])"; what we have read the server must be able to read too."""

    async def raw(scope: Any, receive: Any, send: Any) -> None:
        pairs = ((name, b"1") for name in (b"a", b"content-type"))
        await send({"type": "http.response.start", "status": 200, "headers": pairs})
        await send({"type": "http.response.body", "body": None})

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b""}
    with capture() as seen:
        observed = obs.ObservabilityMiddleware(raw, service="a")
        asyncio.run(observed(scope, None, send))  # type: ignore[arg-type]
        assert seen.metric("connectsoft.obs.errors").series == ()
    assert [name for name, _ in sent[0]["headers"]] == [b"a", b"content-type", b"x-correlation-id"]
    assert sent[1] == {"type": "http.response.body", "body": None}
