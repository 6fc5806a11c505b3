"""Outcome, `error.type` and span status of everything that can become of a request, on real servers."""

from __future__ import annotations

import asyncio
import socket
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


def command(server: str, port: int) -> list[str]:
    python = [sys.executable, "-m"]
    return {
        "uvicorn-h11": [*python, "uvicorn", "outcomes:app", "--http", "h11", "--loop", "asyncio", "--port", str(port)],
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
        with Service(command(request.param, port), port, env) as service:
            service.wait_until_ready()
            yield service, sink.received, request.param


def ask(method: str, path: str) -> Callable[[Service], None]:
    def act(service: Service) -> None:
        with suppress(httpx.TransportError):  # a connection that the server cuts
            httpx.request(method, service.url + path, timeout=5)

    return act


def leave(request: bytes, after: float) -> Callable[[Service], None]:
    """Send a request and hang up."""

    def act(service: Service) -> None:
        with socket.create_connection(("127.0.0.1", service.port)) as connection:
            connection.sendall(request)
            time.sleep(after)  # the moment of leaving is the subject

    return act


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()


def talk(path: str, *messages: str, wait_close: bool = False) -> Callable[[Service], None]:
    def act(service: Service) -> None:
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

    return act


# what happened: how it is done, route, status, outcome, error.type, span status
CASES: dict[str, tuple[Callable[[Service], None], str, int, str, str | None, int]] = {
    "200": (ask("GET", "/status/200"), "/status/{code}", 200, "success", None, UNSET),
    "204": (ask("GET", "/status/204"), "/status/{code}", 204, "success", None, UNSET),
    "302": (ask("GET", "/status/302"), "/status/{code}", 302, "success", None, UNSET),
    "404 by handler": (ask("GET", "/status/404"), "/status/{code}", 404, "rejected", None, UNSET),
    "429": (ask("GET", "/status/429"), "/status/{code}", 429, "rejected", None, UNSET),
    "500 by handler": (ask("GET", "/status/500"), "/status/{code}", 500, "failure", "500", ERROR),
    "503": (ask("GET", "/status/503"), "/status/{code}", 503, "failure", "503", ERROR),
    "504": (ask("GET", "/status/504"), "/status/{code}", 504, "timeout", "504", ERROR),
    "HTTPException 404": (ask("GET", "/http-exception/404"), "/http-exception/{code}", 404, "rejected", None, UNSET),
    "HTTPException 503": (ask("GET", "/http-exception/503"), "/http-exception/{code}", 503, "failure", "503", ERROR),
    "no route": (ask("GET", "/nothing/here"), "", 404, "rejected", None, UNSET),
    "wrong method": (ask("POST", "/raises"), "/raises", 405, "rejected", None, UNSET),
    "exception": (ask("GET", "/raises"), "/raises", 500, "failure", "LookupError", ERROR),
    "exception in mid-body": (ask("GET", "/raises-midway"), "/raises-midway", 200, "failure", "LookupError", ERROR),
    "timeout escapes": (ask("GET", "/times-out"), "/times-out", 500, "timeout", "TimeoutError", ERROR),
    "cancelled": (ask("GET", "/cancelled"), "/cancelled", 0, "aborted", "cancelled", UNSET),
    "never sends": (ask("GET", "/raw/never"), "/raw/{path}", 500, "failure", "500", ERROR),
    "sends twice": (ask("GET", "/raw/twice"), "/raw/{path}", 200, "success", None, UNSET),
    "client leaves before the first byte": (
        leave(get("/slow"), 0.2), "/slow", 200, "aborted", "client_disconnect", UNSET,
    ),
    "client leaves in mid-body": (leave(get("/chunks"), 0.4), "/chunks", 200, "aborted", "client_disconnect", UNSET),
    "client leaves in an upload": (
        leave(b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\nabc", 0.3),
        "/upload", 0, "aborted", "client_disconnect", UNSET,
    ),
    "client leaves an event stream": (
        leave(get("/chunks?type=text/event-stream"), 0.4), "/chunks", 200, "success", None, UNSET,
    ),
    "HTTP/1.0": (leave(b"GET /status/200 HTTP/1.0\r\nHost: a\r\n\r\n", 0.4), "/status/{code}", 200, "success", None, UNSET),
    "websocket, client closes": (talk("/ws/echo/a", "one", "two"), "/ws/echo/{room}", 101, "success", None, UNSET),
    "websocket, server closes": (talk("/ws/closes", wait_close=True), "/ws/closes", 101, "success", None, UNSET),
    "websocket, close unread": (talk("/ws/unread"), "/ws/unread", 101, "success", None, UNSET),
    "websocket rejected": (talk("/ws/rejects"), "/ws/rejects", 403, "rejected", None, UNSET),
    "websocket crashes": (talk("/ws/crashes", wait_close=True), "/ws/crashes", 101, "failure", "LookupError", ERROR),
}  # fmt: skip

STREAMS = ("client leaves an event stream", "websocket")

# granian answers for an application what it likes and tells nobody that a client left unless the application asks.
EXCEPTIONS = {("granian", "client leaves before the first byte"): (200, "success", None)}


@pytest.mark.parametrize("case", CASES)
def test_outcome(observed: tuple[Service, Any, str], case: str) -> None:
    service, received, server = observed
    act, route, status, outcome, error, span_status = CASES[case]
    status, outcome, error = EXCEPTIONS.get((server, case), (status, outcome, error))
    spans_before, lines_before = len(received.spans), len(access(service))
    act(service)
    wait_for(lambda: len(access(service)) > lines_before, 10, f"an access line of {case}: {service.output[-2000:]}")
    wait_for(lambda: len(received.spans) > spans_before, 10, "a span")
    [line] = access(service)[lines_before:]
    [span] = [span for span in received.spans[spans_before:] if span.kind == 2]
    found = decode_attributes(span.attributes)
    shown = (line.get("http.route", ""), line.get("http.response.status_code", 0), line["connectsoft.outcome"])
    assert shown == (route, status, outcome)
    assert line.get("error.type") == found.get("error.type") == error
    assert span.status.code == span_status
    assert span.status.message == ""
    assert found.get("http.response.status_code", 0) == status
    assert span.trace_id.hex() == line["trace_id"]
    assert not span.events
    level = {"failure": "ERROR", "timeout": "ERROR"}.get(outcome, "INFO")
    assert line["severity"] == level
    kind = "connectsoft.http.stream.duration" if case.startswith(STREAMS) else "http.server.request.duration"
    nanoseconds = span.end_time_unix_nano - span.start_time_unix_nano
    assert line[kind] == pytest.approx(nanoseconds / 1e9, abs=1e-9)
    page = httpx.get(f"{service.url}/metrics").text
    in_flight = [
        row for row in page.splitlines() if row.startswith(("http_server_active", "connectsoft_http_stream_active"))
    ]
    assert {float(row.rpartition(" ")[2]) for row in in_flight} == {0.0}
    if "websocket, client" in case:
        assert found["connectsoft.http.stream.messages_sent"] == 2
        assert found["connectsoft.http.stream.messages_received"] == 2


def access(service: Service) -> list[dict[str, Any]]:
    return [line for line in service.json_lines if line["logger"] == "connectsoft_obs.access"]


def test_an_exception_is_recorded_once_with_the_ids_of_its_request(observed: tuple[Service, Any, str]) -> None:
    service, _, _ = observed
    before = len(access(service))
    httpx.get(f"{service.url}/raises")
    wait_for(lambda: len(access(service)) > before)
    [line] = access(service)[before:]
    records = [one for one in service.json_lines if one.get("trace_id") == line["trace_id"] and "exception.type" in one]
    [record] = records
    assert record["otel.event.name"] == "http.server.request.exception"
    assert record["severity"] == "ERROR"
    assert (record["exception.type"], record["exception.message"]) == ("LookupError", "it broke")
    assert record["exception.stacktrace"].rstrip().endswith("LookupError: it broke")
    assert record["span_id"] == line["span_id"]


def test_a_stream_is_in_its_own_instruments_and_not_in_the_request_duration(observed: tuple[Service, Any, str]) -> None:
    service, _, _ = observed
    page = httpx.get(f"{service.url}/metrics").text
    rows = [row for row in page.splitlines() if row.startswith("connectsoft_http_stream_duration_seconds_count")]
    kinds = {kind for kind in ("sse", "websocket") if any(f'stream_kind="{kind}"' in row for row in rows)}
    if rows:
        assert kinds <= {"sse", "websocket"}
    assert not [row for row in page.splitlines() if row.startswith("http_server_request") and "/ws/" in row]
