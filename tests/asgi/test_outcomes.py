"""Outcome, `error.type` and span status of requests on real servers."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
import websockets
from support.otlp import HttpSink, decode_attributes
from support.process import APPS, Service, free_port, wait_for

UNSET, ERROR = 0, 2


def server_command(server: str, port: int) -> list[str]:
    python = [sys.executable, "-m"]
    return {
        "uvicorn-h11": [
            *python,
            "uvicorn",
            "outcomes:app",
            "--http",
            "h11",
            "--loop",
            "asyncio",
            "--ws",
            "wsproto",
            "--port",
            str(port),
        ],
        "uvicorn-httptools": [*python, "uvicorn", "outcomes:app", "--loop", "uvloop", "--port", str(port)],
        "hypercorn": [*python, "hypercorn", "outcomes:app", "-b", f"127.0.0.1:{port}"],
        "granian": [*python, "granian", "outcomes:app", "--interface", "asgi", "--port", str(port)],
        "gunicorn": [
            *python,
            "gunicorn",
            "outcomes:app",
            "-k",
            "uvicorn_worker.UvicornWorker",
            "-b",
            f"127.0.0.1:{port}",
        ],
    }[server]


SERVERS = ["uvicorn-h11", "uvicorn-httptools", "hypercorn", "granian", "gunicorn"]


@pytest.fixture(scope="module", params=SERVERS)
def observed(request: pytest.FixtureRequest) -> Iterator[tuple[Service, Any, str]]:
    with HttpSink() as sink:
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "OTEL_BSP_SCHEDULE_DELAY": "50", "PYTHONPATH": str(APPS)}
        port = free_port()
        with Service(server_command(request.param, port), port, env) as service:
            service.wait_until_ready()
            yield service, sink.received, request.param


def send_request(method: str, path: str) -> Callable[[Service], None]:
    def client_action(service: Service) -> None:
        with suppress(httpx.TransportError):  # the server may close the connection
            httpx.request(method, service.url + path, timeout=5)

    return client_action


def disconnect(request: bytes, delay: float) -> Callable[[Service], None]:
    """Return an action that sends a request and closes the connection after `delay` seconds."""

    def client_action(service: Service) -> None:
        with socket.create_connection(("127.0.0.1", service.port)) as connection:
            connection.sendall(request)
            time.sleep(delay)  # the case depends on the time of the disconnect

    return client_action


def vanish(path: str) -> Callable[[Service], None]:
    """Return an action that opens a WebSocket, reads what the server sends, and resets the connection."""

    def client_action(service: Service) -> None:
        with socket.create_connection(("127.0.0.1", service.port), 5) as connection:
            connection.sendall(
                f"GET {path} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
            )
            received = b""
            while b"xxxx" not in received:
                received += connection.recv(4096)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return client_action


def raw_get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()


def websocket(path: str, *messages: str, wait_close: bool = False) -> Callable[[Service], None]:
    def client_action(service: Service) -> None:
        async def main() -> None:
            try:
                async with websockets.connect(f"ws://127.0.0.1:{service.port}{path}") as connection:
                    for message in messages:
                        await connection.send(message)
                        assert await connection.recv() == message
                    if wait_close:
                        await connection.wait_closed()
            except (websockets.InvalidStatus, websockets.ConnectionClosed):
                pass

        asyncio.run(main())

    return client_action


# case: client action, route, status, outcome, error.type, span status
CASES: dict[str, tuple[Callable[[Service], None], str, int, str, str | None, int]] = {
    "200": (send_request("GET", "/status/200"), "/status/{code}", 200, "success", None, UNSET),
    "204": (send_request("GET", "/status/204"), "/status/{code}", 204, "success", None, UNSET),
    "302": (send_request("GET", "/status/302"), "/status/{code}", 302, "success", None, UNSET),
    "404 by handler": (send_request("GET", "/status/404"), "/status/{code}", 404, "rejected", None, UNSET),
    "429": (send_request("GET", "/status/429"), "/status/{code}", 429, "rejected", None, UNSET),
    "500 by handler": (send_request("GET", "/status/500"), "/status/{code}", 500, "failure", "500", ERROR),
    "503": (send_request("GET", "/status/503"), "/status/{code}", 503, "failure", "503", ERROR),
    "504": (send_request("GET", "/status/504"), "/status/{code}", 504, "timeout", "504", ERROR),
    "HTTPException 404": (send_request("GET", "/http-exception/404"), "/http-exception/{code}", 404, "rejected", None, UNSET),
    "HTTPException 503": (send_request("GET", "/http-exception/503"), "/http-exception/{code}", 503, "failure", "503", ERROR),
    "no route": (send_request("GET", "/nothing/here"), "", 404, "rejected", None, UNSET),
    "wrong method": (send_request("POST", "/raises"), "/raises", 405, "rejected", None, UNSET),
    "exception": (send_request("GET", "/raises"), "/raises", 500, "failure", "LookupError", ERROR),
    "exception during the body": (send_request("GET", "/raises-midway"), "/raises-midway", 200, "failure", "LookupError", ERROR),
    "TimeoutError is raised": (send_request("GET", "/times-out"), "/times-out", 500, "timeout", "TimeoutError", ERROR),
    "task is cancelled": (send_request("GET", "/cancelled"), "/cancelled", 0, "aborted", "cancelled", UNSET),
    "application sends no response": (send_request("GET", "/raw/never"), "/raw/{path}", 500, "failure", "500", ERROR),
    "application sends two responses": (send_request("GET", "/raw/twice"), "/raw/{path}", 200, "success", None, UNSET),
    "disconnect before the first byte": (
        disconnect(raw_get("/slow"), 0.2), "/slow", 200, "aborted", "client_disconnect", UNSET,
    ),
    "disconnect during the body": (disconnect(raw_get("/chunks"), 0.4), "/chunks", 200, "aborted", "client_disconnect", UNSET),
    "disconnect during an upload": (
        disconnect(b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\nabc", 0.3),
        "/upload", 0, "aborted", "client_disconnect", UNSET,
    ),
    "disconnect from an event stream": (
        disconnect(raw_get("/chunks?type=text/event-stream"), 0.4), "/chunks", 200, "success", None, UNSET,
    ),
    "HTTP/1.0": (disconnect(b"GET /status/200 HTTP/1.0\r\nHost: a\r\n\r\n", 0.4), "/status/{code}", 200, "success", None, UNSET),
    "websocket, client closes": (websocket("/ws/echo/a", "one", "two"), "/ws/echo/{room}", 101, "success", None, UNSET),
    "websocket, server closes": (websocket("/ws/closes", wait_close=True), "/ws/closes", 101, "success", None, UNSET),
    "websocket, disconnect is not handled": (websocket("/ws/unread"), "/ws/unread", 101, "success", None, UNSET),
    "websocket, client vanishes": (vanish("/ws/sends"), "/ws/sends", 101, "success", None, UNSET),
    "websocket rejected": (websocket("/ws/rejects"), "/ws/rejects", 403, "rejected", None, UNSET),
    "websocket handler raises": (websocket("/ws/crashes", wait_close=True), "/ws/crashes", 101, "failure", "LookupError", ERROR),
}  # fmt: skip

STREAMS = ("disconnect from an event stream", "websocket")

# granian reports a disconnect only to an application that awaits `receive`.
SERVER_SPECIFIC_OUTCOMES = {("granian", "disconnect before the first byte"): (200, "success", None)}


@pytest.mark.parametrize("case", CASES)
def test_outcome_of_a_request_in_span_and_access_log(observed: tuple[Service, Any, str], case: str) -> None:
    service, received, server = observed
    run_client, route, status, outcome, error_type, span_status = CASES[case]
    status, outcome, error_type = SERVER_SPECIFIC_OUTCOMES.get((server, case), (status, outcome, error_type))
    all_before = len(service.json_lines)
    spans_before, lines_before = len(received.spans), len(access_lines(service))
    run_client(service)
    wait_for(
        lambda: len(access_lines(service)) > lines_before, 10, f"an access line of {case}: {service.output[-2000:]}"
    )
    wait_for(lambda: len(received.spans) > spans_before, 10, "a span")
    [line] = access_lines(service)[lines_before:]
    [span] = [span for span in received.spans[spans_before:] if span.kind == 2]
    attributes = decode_attributes(span.attributes)
    logged = (line.get("http.route", ""), line.get("http.response.status_code", 0), line["connectsoft.outcome"])
    assert logged == (route, status, outcome)
    assert line.get("error.type") == attributes.get("error.type") == error_type
    assert span.status.code == span_status
    assert span.status.message == ""
    assert attributes.get("http.response.status_code", 0) == status
    assert span.trace_id.hex() == line["trace_id"]
    assert not span.events
    severity = {"failure": "ERROR", "timeout": "ERROR"}.get(outcome, "INFO")
    assert line["severity"] == severity
    duration = (
        "connectsoft.http.stream.duration" if case.startswith(STREAMS) else "connectsoft.http.server.request.duration"
    )
    nanoseconds = span.end_time_unix_nano - span.start_time_unix_nano
    assert line[duration] == pytest.approx(nanoseconds / 1e9, abs=1e-9)
    page = httpx.get(f"{service.url}/metrics").text
    active = [
        line for line in page.splitlines() if line.startswith(("http_server_active", "connectsoft_http_stream_active"))
    ]
    assert {float(line.rpartition(" ")[2]) for line in active} == {0.0}
    if "client vanishes" in case:
        assert not [line for line in service.json_lines[all_before:] if line["severity"] == "ERROR"]
    if "websocket, client closes" in case:
        assert attributes["connectsoft.http.stream.messages_sent"] == 2
        assert attributes["connectsoft.http.stream.messages_received"] == 2


def access_lines(service: Service) -> list[dict[str, Any]]:
    return [line for line in service.json_lines if line["logger"] == "connectsoft_obs.access"]


def test_exception_is_logged_once_with_the_ids_of_the_request(observed: tuple[Service, Any, str]) -> None:
    service, _, _ = observed
    before = len(access_lines(service))
    httpx.get(f"{service.url}/raises")
    wait_for(lambda: len(access_lines(service)) > before)
    [line] = access_lines(service)[before:]
    [record] = [
        record
        for record in service.json_lines
        if record.get("trace_id") == line["trace_id"] and "exception.type" in record
    ]
    assert record["otel.event.name"] == "http.server.request.exception"
    assert record["severity"] == "ERROR"
    assert (record["exception.type"], record["exception.message"]) == ("LookupError", "it broke")
    assert record["exception.stacktrace"].rstrip().endswith("LookupError: it broke")
    assert record["span_id"] == line["span_id"]


def test_streams_are_not_in_the_request_duration(observed: tuple[Service, Any, str]) -> None:
    service, _, _ = observed
    lines = httpx.get(f"{service.url}/metrics").text.splitlines()
    streams = [line for line in lines if line.startswith("connectsoft_http_stream_duration_seconds_count")]
    assert all('stream_kind="sse"' in line or 'stream_kind="websocket"' in line for line in streams)
    assert not [line for line in lines if line.startswith("http_server_request") and "/ws/" in line]
