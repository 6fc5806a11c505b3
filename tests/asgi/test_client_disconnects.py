"""A client that leaves while the server sends: `send` and `receive` raise, as ASGI 2.4 allows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

import connectsoft_obs as obs
from connectsoft_obs.testing import Captured, capture


class ClientGone(OSError):
    """What a server raises; uvicorn's `ClientDisconnected` is one as well."""


async def plain_text(request: Request) -> Response:
    return PlainTextResponse("a body")


async def chunks(request: Request) -> Response:
    async def body() -> Any:
        for _ in range(3):
            yield b"chunk"

    return StreamingResponse(body())


async def event_stream(request: Request) -> Response:
    response = await chunks(request)
    response.headers["content-type"] = "text/event-stream"
    return response


async def error_response(request: Request) -> Response:
    return PlainTextResponse("no", 503)


async def database(request: Request) -> Response:
    message = "the database refuses"
    raise ConnectionRefusedError(message)


async def grouped(request: Request) -> Response:
    class Grouping(Response):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(super().__call__(scope, receive, send))

    return Grouping(b"body")


async def reset_later(request: Request) -> Response:
    class FailingAfterSend(Response):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            try:
                await super().__call__(scope, receive, send)
            except OSError:
                await database(request)

    return FailingAfterSend(b"body")


async def grouped_with_a_failure(request: Request) -> Response:
    class FailingTwice(Response):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            try:
                await super().__call__(scope, receive, send)
            except OSError as error:
                group = "both"
                raise ExceptionGroup(group, [error, ConnectionRefusedError("the database refuses")]) from None

    return FailingTwice(b"body")


class ClientDisconnect(Exception):
    """An exception of the application with the name of the one in Starlette."""


async def upstream(request: Request) -> Response:
    raise ClientDisconnect


async def socket_sends(socket: WebSocket) -> None:
    await socket.accept()
    while True:
        await socket.send_text("tick")


async def socket_fails(socket: WebSocket) -> None:
    await socket.accept()
    message = "the database refuses"
    raise ConnectionRefusedError(message)


HTTP_PATHS = {"/plain": plain_text, "/chunks": chunks, "/events": event_stream, "/503": error_response, "/db": database,
              "/grouped": grouped, "/reset-later": reset_later, "/upstream": upstream,
              "/grouped-with-failure": grouped_with_a_failure}  # fmt: skip


def service() -> obs.ObservabilityMiddleware:
    routes: list[Any] = [Route(path, handler) for path, handler in HTTP_PATHS.items()]
    routes += [WebSocketRoute("/socket", socket_sends), WebSocketRoute("/socket-fails", socket_fails)]
    return obs.ObservabilityMiddleware(Starlette(routes=routes), service="disconnects")


class CallableSend:
    """A `send` that is an object with `__call__`, and with a method that is another `send`."""

    def __init__(self, send: Any) -> None:
        self._send = send

    async def __call__(self, message: Any) -> None:
        await self._send(message)

    async def method(self, message: Any) -> None:
        await self._send(message)


SEND_KINDS: dict[str, Callable[[Any], Any]] = {
    "function": lambda send: send,
    "method": lambda send: CallableSend(send).method,
    "callable object": CallableSend,
    "partial": partial,
}


def run(kind: str, path: str, fails_at: int, error: OSError, send_kind: str = "function") -> tuple[Captured, Any]:
    """Handle one connection whose `send` raises at a message. Return what was recorded and what was raised."""
    scope: dict[str, Any] = {"type": kind, "path": path, "raw_path": path.encode(), "query_string": b"", "headers": [],
                             "method": "GET", "scheme": "http" if kind == "http" else "ws", "http_version": "1.1",
                             "client": ("10.0.0.1", 1), "server": ("a", 80), "subprotocols": [],
                             "asgi": {"version": "3.0", "spec_version": "2.4"}, "extensions": {}}  # fmt: skip
    if kind == "websocket":
        del scope["method"]
    sent = 0

    async def send(message: Any) -> None:
        nonlocal sent
        sent += 1
        if sent > fails_at:
            raise error

    async def receive() -> Any:
        if kind == "websocket":
            return {"type": "websocket.connect"}
        return {"type": "http.request", "body": b"", "more_body": False}

    raised: BaseException | None = None
    with capture() as seen:
        try:
            asyncio.run(service()(scope, receive, SEND_KINDS[send_kind](send)))
        except BaseException as failure:
            raised = failure
    return seen, raised


def access_line(seen: Captured) -> dict[str, Any]:
    [line] = [line for line in seen.logs if line["logger"] == "connectsoft_obs.access"]
    return line


@pytest.mark.parametrize(
    "error", [ClientGone("gone"), BrokenPipeError(32, "broken pipe"), TimeoutError(110, "timed out")]
)
@pytest.mark.parametrize(
    ("path", "fails_at"),
    [
        ("/plain", 0),
        ("/plain", 1),
        ("/chunks", 0),
        ("/chunks", 2),
        ("/chunks", 4),
        ("/503", 0),
        ("/503", 1),
        ("/grouped", 1),
    ],
)
def test_send_that_raises_is_an_aborted_request(path: str, fails_at: int, error: OSError) -> None:
    seen, raised = run("http", path, fails_at, error)
    line = access_line(seen)
    assert raised is not None
    assert (line["connectsoft.outcome"], line["error.type"]) == ("aborted", "client_disconnect")
    assert line.get("http.response.status_code", 0) < 500
    assert not [line for line in seen.logs if line["severity"] == "ERROR"]
    [span] = [span for span in seen.spans if span.kind.name == "SERVER"]
    assert span.status.status_code.value != 2


@pytest.mark.parametrize("kind", SEND_KINDS)
def test_exception_of_any_kind_of_send_is_recognized(kind: str) -> None:
    seen, _ = run("http", "/plain", 0, ClientGone("gone"), kind)
    assert access_line(seen)["connectsoft.outcome"] == "aborted"


def test_exception_of_send_propagates_unchanged() -> None:
    error = ClientGone("gone")
    _, raised = run("http", "/plain", 1, error)
    assert raised is error


class Connection:
    """Owns `send`, as a server's object for one request does, and ignores what it is to send after a disconnect."""

    def __init__(self, disconnected: bool) -> None:
        self.disconnected = disconnected

    async def send(self, message: Any) -> None: ...


@pytest.mark.parametrize("starts", [True, False])
@pytest.mark.parametrize("disconnected", [True, False])
def test_response_that_the_application_does_not_complete(starts: bool, disconnected: bool) -> None:
    async def incomplete(scope: Any, receive: Any, send: Any) -> None:
        if starts:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"part", "more_body": True})

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    scope: dict[str, Any] = {"type": "http", "path": "/", "query_string": b"", "headers": [], "method": "GET"}
    with capture() as seen:
        app = obs.ObservabilityMiddleware(incomplete, service="a")
        asyncio.run(app(scope, receive, Connection(disconnected).send))
    line = access_line(seen)
    actual = (line["connectsoft.outcome"], line["error.type"], line.get("http.response.status_code", 0))
    if disconnected:
        assert actual == ("aborted", "client_disconnect", 200 if starts else 0)
    else:
        assert actual == ("failure", *(("incomplete_response", 200) if starts else ("500", 500)))


def test_event_stream_whose_client_left_is_a_success() -> None:
    seen, _ = run("http", "/events", 2, ClientGone("gone"))
    assert access_line(seen)["connectsoft.outcome"] == "success"


@pytest.mark.parametrize("fails_at", [0, 1, 5])
def test_websocket_whose_client_vanished_is_a_success(fails_at: int) -> None:
    seen, raised = run("websocket", "/socket", fails_at, ClientGone("gone"))
    line = access_line(seen)
    assert raised is not None
    assert line["connectsoft.outcome"] == "success"
    assert "error.type" not in line
    assert not [line for line in seen.logs if line["severity"] == "ERROR"]


@pytest.mark.parametrize(
    ("kind", "path", "fails_at"),
    [("http", "/db", 99), ("websocket", "/socket-fails", 99), ("http", "/reset-later", 1)],
)
def test_os_error_of_the_application_is_its_failure(kind: str, path: str, fails_at: int) -> None:
    seen, raised = run(kind, path, fails_at, ClientGone("gone"))
    assert isinstance(raised, ConnectionRefusedError)
    line = access_line(seen)
    assert (line["connectsoft.outcome"], line["error.type"]) == ("failure", "ConnectionRefusedError")
    assert [line for line in seen.logs if line["severity"] == "ERROR"]


@pytest.mark.parametrize(
    ("path", "fails_at", "error_type"),
    [("/upstream", 99, "ClientDisconnect"), ("/grouped-with-failure", 1, "ExceptionGroup")],
)
def test_failure_is_not_hidden_by_a_disconnect(path: str, fails_at: int, error_type: str) -> None:
    seen, _ = run("http", path, fails_at, ClientGone("gone"))
    line = access_line(seen)
    assert line["connectsoft.outcome"] == "failure"
    assert line["error.type"].endswith(error_type)
