"""What applications do, as one call each whose result can be compared: requests, WebSockets, work, lines, scrapes."""

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

Act = Callable[[], object]
Sent = tuple[list[dict[str, Any]], str | None]
Scene = Callable[[Telemetry | None, asyncio.AbstractEventLoop], Act]

HEADERS = [
    (b"host", b"shop.example:8443"),
    (b"user-agent", b"fire/1"),
    (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    (b"tracestate", b"vendor=1"),
    (b"baggage", b"connectsoft.tenant.id=acme"),
    (b"x-correlation-id", b"order-17"),
    (b"x-forwarded-for", b"203.0.113.9"),
    (b"x-seen", b"yes"),
]
_OURS = {b"x-correlation-id"}


def ask(app: Any, scope: dict[str, Any], incoming: list[dict[str, Any]], loop: asyncio.AbstractEventLoop) -> Sent:
    """Run an application for one connection: what it sent, and what escaped from it."""
    sent: list[dict[str, Any]] = []
    waiting = list(incoming)

    async def receive() -> dict[str, Any]:
        return waiting.pop(0) if waiting else {"type": f"{scope['type']}.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        headers = tuple((name, value) for name, value in message.get("headers", ()) if name.lower() not in _OURS)
        sent.append({**message, "headers": headers} if "headers" in message else dict(message))

    async def run() -> Sent:
        # What of our own runs besides (health) belongs to this loop, and goes on between two requests.
        try:
            await app({**scope, "headers": list(scope.get("headers", ()))}, receive, send)
        except Exception as error:
            return sent, f"{type(error).__name__}: {error}"
        return sent, None

    return loop.run_until_complete(run())


def http(path: str, query: bytes = b"", method: str = "GET") -> dict[str, Any]:
    """The scope of a request."""
    return {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": query, "root_path": "", "headers": HEADERS,
        "client": ("127.0.0.1", 4711), "server": ("127.0.0.1", 8000), "state": {},
    }  # fmt: skip


EMPTY: list[dict[str, Any]] = [{"type": "http.request", "body": b"hello", "more_body": False}]


async def placed(request: Request) -> Response:
    obs.bind(tenant_id="acme", order_id=7)
    obs.get_logger("shop").info("placed", total=9.5)
    body = await request.body()
    return PlainTextResponse(body, headers={"x-answered": "yes"})


async def fails(_: Request) -> Response:
    raise ValueError("the application's own")


def events(_: Request) -> Response:
    async def chunks() -> AsyncIterator[str]:
        for number in range(3):
            yield f"data: {number}\n\n"

    return StreamingResponse(chunks(), media_type="text/event-stream")


async def echo(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text(await socket.receive_text())
    await socket.close()


class Life:
    """An application's own lifespan: whether it started and stopped."""

    def __init__(self) -> None:
        self.told: list[str] = []

    @asynccontextmanager
    async def __call__(self, _: Any) -> AsyncIterator[None]:
        self.told.append("started")
        yield
        self.told.append("stopped")


def shop(telemetry: Telemetry | None, life: Life | None = None) -> Starlette:
    """An application with a route of each kind."""
    made = Starlette(
        routes=[
            Route("/orders/{id}", placed, methods=["GET", "POST"]),
            Route("/fails", fails),
            Route("/events", events),
            WebSocketRoute("/echo", echo),
        ],
        lifespan=life,
    )
    made.add_middleware(obs.ObservabilityMiddleware, telemetry=telemetry)
    return made


def request(path: str, query: bytes = b"", method: str = "GET") -> Scene:
    """A request to the shop."""

    def scene(telemetry: Telemetry | None, loop: asyncio.AbstractEventLoop) -> Act:
        app = shop(telemetry)
        return lambda: ask(app, http(path, query, method), EMPTY, loop)

    return scene


def conversation(telemetry: Telemetry | None, loop: asyncio.AbstractEventLoop) -> Act:
    """A WebSocket from its handshake to its end."""
    app = shop(telemetry)
    scope = {**http("/echo"), "type": "websocket", "scheme": "ws"}
    incoming = [{"type": "websocket.connect"}, {"type": "websocket.receive", "text": "hello"}]
    return lambda: ask(app, scope, incoming, loop)


def lifespan(telemetry: Telemetry | None, loop: asyncio.AbstractEventLoop) -> Act:
    """The server starts the application, and stops it."""

    def act() -> object:
        life = Life()
        incoming = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
        return ask(shop(telemetry, life), {"type": "lifespan", "asgi": {}, "state": {}}, incoming, loop), life.told

    return act


def jobs(telemetry: Telemetry | None, loop: asyncio.AbstractEventLoop) -> Act:
    """Jobs of every kind of function, nested, with arguments, and one that fails."""

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
        raise ValueError("the job's own")

    async def streamed() -> list[int]:
        return [number async for number in stream()]

    def act() -> object:
        return (
            add(1),
            loop.run_until_complete(wait(2)),
            list(count()),
            loop.run_until_complete(streamed()),
            escaped(failing),
        )

    return act


def messages(telemetry: Telemetry | None, _: asyncio.AbstractEventLoop) -> Act:
    """Consumers of one message and of several, and a producer."""
    message = {"headers": dict(HEADERS), "body": b'{"a": 1}', "timestamp": 1700000000, "message_id": "m-1"}

    @obs.consumer("events", system="rabbitmq", telemetry=telemetry)
    def one(message: Any) -> int:
        return len(message)

    @obs.consumer("events", system="rabbitmq", telemetry=telemetry)
    def several(messages: list[Any]) -> int:
        raise KeyError("the consumer's own")

    def act() -> object:
        with obs.producer("events", system="rabbitmq", telemetry=telemetry) as headers:
            sent = type(headers)
        return one(message), escaped(lambda: several([message, message])), sent

    return act


def lines(telemetry: Telemetry | None, _: asyncio.AbstractEventLoop) -> Act:
    """Lines by each way there is to write one."""
    ours, standard, others = obs.get_logger("fire"), logging.getLogger("fire"), structlog.get_logger("fire")

    def act() -> object:
        ours.info("ours", password="hunter2", nested={"a": [1, {"b": object()}]})
        ours.bind(tenant="acme").warning("ours, %s", "bound")
        standard.warning("standard %d", 3, extra={"number": 3})
        others.info("structlog", number=4)
        try:
            raise ValueError("caught by the application")
        except ValueError:
            ours.exception("it failed")
            standard.exception("it failed")
        return "said"

    return act


def blocks(telemetry: Telemetry | None, _: asyncio.AbstractEventLoop) -> Act:
    """What applications call inside: operations, spans of OpenTelemetry, metrics of their own, headers for others."""
    placed, size, depth = (
        obs.counter("fire.placed", labels=("tier",)),
        obs.histogram("fire.size", unit="By"),
        obs.gauge("fire.depth"),
    )

    def act() -> object:
        with obs.operation("named"), trace.get_tracer("fire").start_as_current_span("inner") as span:
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


def escaped(function: Callable[[], object]) -> str:
    """What a call raised."""
    try:
        function()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def pages(statuses: bool, *paths: str) -> Scene:
    """Endpoints of ours, asked by a prober or scraper: what escapes is compared, and of probes their status."""

    def scene(telemetry: Telemetry | None, loop: asyncio.AbstractEventLoop) -> Act:
        app = shop(telemetry)

        def act() -> object:
            found = []
            for path in paths:
                sent, error = ask(app, {**http(path), "headers": HEADERS[:2]}, EMPTY, loop)
                status = [message["status"] for message in sent if "status" in message]
                found.append((error, status if statuses else bool(status)))
            return found

        return act

    return scene


SCENES: dict[str, Scene] = {
    "request": request("/orders/42", b"page=2&token=hidden", "POST"),
    "failing request": request("/fails"),
    "unknown path": request("/nowhere"),
    "event stream": request("/events"),
    "WebSocket": conversation,
    "lifespan": lifespan,
    "jobs": jobs,
    "messages": messages,
    "lines": lines,
    "blocks": blocks,
    "probes": pages(True, "/health/live", "/health/ready", "/health"),
    "scrape": pages(False, "/metrics", "/info"),
}
