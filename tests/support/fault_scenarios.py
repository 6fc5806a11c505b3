"""Scenarios for fault injection: requests, WebSockets, jobs, messages, log lines and scrapes.

Each scenario builds an action, a function whose result can be compared between a run with and one without a fault.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import structlog
from opentelemetry import trace
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

import connectsoft_obs as obs
from connectsoft_obs.telemetry import Telemetry

Action = Callable[[], object]
AppResult = tuple[list[dict[str, Any]], str | None]
Scenario = Callable[[Telemetry | None, asyncio.AbstractEventLoop], Action]

HEADERS = [
    (b"host", b"shop.example:8443"),
    (b"user-agent", b"faults/1"),
    (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    (b"tracestate", b"vendor=1"),
    (b"baggage", b"connectsoft.tenant.id=acme"),
    (b"x-correlation-id", b"order-17"),
    (b"x-forwarded-for", b"203.0.113.9"),
    (b"x-seen", b"yes"),
]
_ADDED_HEADERS = {b"x-correlation-id"}


def call_app(
    app: Any, scope: dict[str, Any], incoming: list[dict[str, Any]], loop: asyncio.AbstractEventLoop
) -> AppResult:
    """Run an application for one connection; return the messages it sent and the exception it raised."""
    sent: list[dict[str, Any]] = []
    pending = list(incoming)

    async def receive() -> dict[str, Any]:
        return pending.pop(0) if pending else {"type": f"{scope['type']}.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        headers = tuple(header for header in message.get("headers", ()) if header[0].lower() not in _ADDED_HEADERS)
        sent.append({**message, "headers": headers} if "headers" in message else dict(message))

    async def run() -> AppResult:
        # Tasks of the package, such as health checks, belong to this loop and continue between two requests.
        try:
            await app({**scope, "headers": list(scope.get("headers", ()))}, receive, send)
        except Exception as error:
            return sent, f"{type(error).__name__}: {error}"
        return sent, None

    return loop.run_until_complete(run())


def http_scope(path: str, query: bytes = b"", method: str = "GET") -> dict[str, Any]:
    """The ASGI scope of a request."""
    return {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": query, "root_path": "", "headers": HEADERS,
        "client": ("127.0.0.1", 4711), "server": ("127.0.0.1", 8000), "state": {},
    }  # fmt: skip


BODY: list[dict[str, Any]] = [{"type": "http.request", "body": b"hello", "more_body": False}]


async def place_order(request: Request) -> Response:
    obs.bind(tenant_id="acme", order_id=7)
    obs.get_logger("shop").info("placed", total=9.5)
    body = await request.body()
    return PlainTextResponse(body, headers={"x-answered": "yes"})


async def fail(_: Request) -> Response:
    raise ValueError("raised by the application")


def stream_events(_: Request) -> Response:
    async def chunks() -> AsyncIterator[str]:
        for number in range(3):
            yield f"data: {number}\n\n"

    return StreamingResponse(chunks(), media_type="text/event-stream")


async def echo(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text(await socket.receive_text())
    await socket.close()


class RecordingLifespan:
    """A lifespan of the application that records its start and its stop."""

    def __init__(self) -> None:
        self.events: list[str] = []

    @asynccontextmanager
    async def __call__(self, _: Any) -> AsyncIterator[None]:
        self.events.append("started")
        yield
        self.events.append("stopped")


def create_shop(telemetry: Telemetry | None, lifespan: RecordingLifespan | None = None) -> Starlette:
    """An application with a route of each kind."""
    app = Starlette(
        routes=[
            Route("/orders/{id}", place_order, methods=["GET", "POST"]),
            Route("/fails", fail),
            Route("/events", stream_events),
            WebSocketRoute("/echo", echo),
        ],
        lifespan=lifespan,
    )
    app.add_middleware(obs.ObservabilityMiddleware, telemetry=telemetry)
    return app


def request_scenario(path: str, query: bytes = b"", method: str = "GET") -> Scenario:
    """A request to the shop."""

    def scenario(telemetry: Telemetry | None, loop: asyncio.AbstractEventLoop) -> Action:
        app = create_shop(telemetry)
        return lambda: call_app(app, http_scope(path, query, method), BODY, loop)

    return scenario


def websocket_scenario(telemetry: Telemetry | None, loop: asyncio.AbstractEventLoop) -> Action:
    """A WebSocket from its handshake to its close."""
    app = create_shop(telemetry)
    scope = {**http_scope("/echo"), "type": "websocket", "scheme": "ws"}
    incoming = [{"type": "websocket.connect"}, {"type": "websocket.receive", "text": "hello"}]
    return lambda: call_app(app, scope, incoming, loop)


def lifespan_scenario(telemetry: Telemetry | None, loop: asyncio.AbstractEventLoop) -> Action:
    """The server starts and stops the application."""

    def act() -> object:
        lifespan = RecordingLifespan()
        incoming = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
        scope = {"type": "lifespan", "asgi": {}, "state": {}}
        return call_app(create_shop(telemetry, lifespan), scope, incoming, loop), lifespan.events

    return act


def jobs_scenario(telemetry: Telemetry | None, loop: asyncio.AbstractEventLoop) -> Action:
    """Jobs of every kind of function, nested, with recorded arguments, and one that fails."""

    @obs.job("add", telemetry=telemetry, record=["number"], attempt="attempt", attempts=3)
    def add(number: int, attempt: int = 1) -> int:
        return number + attempt

    @obs.job("wait", telemetry=telemetry, timeout=30)
    async def wait(number: int) -> int:
        await asyncio.sleep(0)
        return add(number)

    @obs.job("count", telemetry=telemetry)
    def count() -> Iterator[int]:
        yield from (1, 2, 3)

    @obs.job("stream", telemetry=telemetry)
    async def stream() -> AsyncIterator[int]:
        yield 1
        yield 2

    @obs.job("fails", telemetry=telemetry)
    def failing() -> None:
        raise ValueError("raised by the job")

    async def consume_stream() -> list[int]:
        return [number async for number in stream()]

    def act() -> object:
        waited, streamed = loop.run_until_complete(wait(2)), loop.run_until_complete(consume_stream())
        return add(1), waited, list(count()), streamed, raised_by(failing)

    return act


def messages_scenario(telemetry: Telemetry | None, _: asyncio.AbstractEventLoop) -> Action:
    """Consumers of one message and of a batch, and a producer."""
    message = {"headers": dict(HEADERS), "body": b'{"a": 1}', "timestamp": 1700000000, "message_id": "m-1"}

    @obs.consumer("events", system="rabbitmq", telemetry=telemetry)
    def consume(message: Any) -> int:
        return len(message)

    @obs.consumer("events", system="rabbitmq", telemetry=telemetry)
    def consume_batch(messages: list[Any]) -> int:
        raise KeyError("raised by the consumer")

    def act() -> object:
        with obs.producer("events", system="rabbitmq", telemetry=telemetry) as headers:
            header_type = type(headers)
        return consume(message), raised_by(lambda: consume_batch([message, message])), header_type

    return act


def log_lines_scenario(telemetry: Telemetry | None, _: asyncio.AbstractEventLoop) -> Action:
    """Log lines through the package's logger, the standard library and structlog."""
    log, standard, native = obs.get_logger("faults"), logging.getLogger("faults"), structlog.get_logger("faults")

    def act() -> object:
        log.info("plain", password="hunter2", nested={"a": [1, {"b": object()}]})
        log.bind(tenant="acme").warning("bound, %s", "formatted")
        standard.warning("standard %d", 3, extra={"number": 3})
        native.info("structlog", number=4)
        try:
            raise ValueError("caught by the application")
        except ValueError:
            log.exception("it failed")
            standard.exception("it failed")
        return "logged"

    return act


def public_calls_scenario(telemetry: Telemetry | None, _: asyncio.AbstractEventLoop) -> Action:
    """Calls of the public API: operations, OpenTelemetry spans, application metrics, header propagation."""
    placed = obs.counter("faults.placed", labels=("tier",))
    size = obs.histogram("faults.size", unit="By")
    depth = obs.gauge("faults.depth")

    def act() -> object:
        with obs.operation("named"), trace.get_tracer("faults").start_as_current_span("inner") as span:
            span.set_attribute("a", 1)
            span.add_event("seen")
            span.record_exception(ValueError("recorded"))
            obs.bind(order_id=3)
            placed.add(1, tier="gold")
            size.record(300)
            depth.set(3)
            headers: dict[str, str] = {}
            obs.inject(headers)
            obs.extract({"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"})
        return "done"

    return act


def raised_by(function: Callable[[], object]) -> str:
    """Type and message of the exception that a call raises, or "nothing"."""
    try:
        function()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def endpoints_scenario(compare_status: bool, *paths: str) -> Scenario:
    """Requests of probers and scrapers; compares exceptions and, for probes, the status."""

    def scenario(telemetry: Telemetry | None, loop: asyncio.AbstractEventLoop) -> Action:
        app = create_shop(telemetry)
        direct = {
            "headers": HEADERS[:2],
            "client": ("10.0.0.9", 4711),
        }  # not through the trusted proxy, so that pages are shown

        def act() -> object:
            results = []
            for path in paths:
                sent, error = call_app(app, {**http_scope(path), **direct}, BODY, loop)
                status = [message["status"] for message in sent if "status" in message]
                results.append((error, status if compare_status else bool(status)))
            return results

        return act

    return scenario


SCENARIOS: dict[str, Scenario] = {
    "request": request_scenario("/orders/42", b"page=2&token=hidden", "POST"),
    "failing request": request_scenario("/fails"),
    "unknown path": request_scenario("/nowhere"),
    "event stream": request_scenario("/events"),
    "WebSocket": websocket_scenario,
    "lifespan": lifespan_scenario,
    "jobs": jobs_scenario,
    "messages": messages_scenario,
    "log lines": log_lines_scenario,
    "public calls": public_calls_scenario,
    "probes": endpoints_scenario(True, "/health/live", "/health/ready", "/health"),
    "scrape": endpoints_scenario(False, "/metrics", "/info"),
}
