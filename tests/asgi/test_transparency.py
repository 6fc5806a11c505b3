"""For any input, an application has the same response and exception with and without the middleware."""

from __future__ import annotations

import asyncio
import random
import socket
import traceback
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from orders import bare, routes
from starlette.applications import Starlette
from starlette.testclient import TestClient
from support.process import uvicorn

import connectsoft_obs as obs
from connectsoft_obs.testing import capture

observed = Starlette(routes=routes)
observed.add_middleware(obs.ObservabilityMiddleware, service="fuzz", trusted_proxies="*", tenant_header="x-tenant")

NAMES = [
    b"traceparent", b"tracestate", b"baggage", b"x-correlation-id", b"x-request-id", b"host", b"user-agent",
    b"x-forwarded-for", b"forwarded", b"x-tenant", b"content-length", b"accept", b"authorization", b"cookie",
]  # fmt: skip


async def call_app(app: Any, scope: dict[str, Any]) -> tuple[Any, ...]:
    """Return the messages that an application sends, and the exception that it raises."""
    sent: list[Any] = []
    body = [{"type": "http.request", "body": b"x", "more_body": False}]

    async def receive() -> Any:
        return body.pop() if body else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    raised = None
    try:
        await app(scope, receive, send)
    except Exception as error:
        raised = (type(error), str(error))
    messages = [
        {**message, "headers": [pair for pair in message["headers"] if pair[0] != b"x-correlation-id"]}
        if message["type"] == "http.response.start"
        else message
        for message in sent
    ]
    return messages, raised


SCOPES = st.fixed_dictionaries(
    dict(
        method=st.one_of(st.sampled_from(["GET", "HEAD", "POST", "OPTIONS"]), st.text(max_size=12)),
        path=st.one_of(
            st.sampled_from(["/items/1", "/boom", "/status/204", "/status/503", "/stream", "/api/v1/items/x", "/echo"]),
            st.text(max_size=40).map(lambda text: "/" + text),
        ),
        query=st.binary(max_size=60),
        headers=st.lists(
            st.tuples(st.one_of(st.sampled_from(NAMES), st.binary(max_size=16)), st.binary(max_size=120)), max_size=6
        ),
        scheme=st.sampled_from(["http", "https", "ftp", ""]),
        version=st.sampled_from(["1.0", "1.1", "2", "3", "9", ""]),
        client=st.one_of(st.none(), st.tuples(st.text(max_size=20), st.integers(0, 65535))),
    )
)


@pytest.mark.parametrize("examples", [1000, pytest.param(6000, marks=pytest.mark.full)])
def test_response_to_any_scope_is_the_same_without_the_middleware(examples: int) -> None:
    with capture() as captured, asyncio.Runner() as runner:

        @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
        @given(SCOPES)
        def check_response(values: dict[str, Any]) -> None:
            def scope() -> dict[str, Any]:
                return {
                    **{key: values[key] for key in ("method", "path", "scheme", "client")},
                    "type": "http",
                    "asgi": {"version": "3.0"},
                    "raw_path": values["path"].encode("utf-8", "replace"),
                    "query_string": values["query"],
                    "headers": list(values["headers"]),
                    "http_version": values["version"],
                    "root_path": "",
                    "server": ("127.0.0.1", 80),
                }

            response = runner.run(call_app(observed, scope()))
            assert response == runner.run(call_app(bare, scope()))
            assert captured.metric("connectsoft.obs.errors").series == (), captured.logs

        check_response()
    assert captured.telemetry is not None


def _random_request(random_source: random.Random) -> bytes:
    """A request with random bytes in method, path, query and headers."""

    def random_bytes(max_size: int, alphabet: bytes | None = None) -> bytes:
        size = random_source.randrange(max_size)
        return bytes(random_source.choice(alphabet) for _ in range(size)) if alphabet else random_source.randbytes(size)

    token = b"ABCDEFGHIJabcdefghij0123456789!#$%&'*+-.^_`|~"
    method = random_source.choice([b"GET", b"GET", b"HEAD", b"POST", random_bytes(10, token) or b"X"])
    path = random_source.choice(
        [b"/items/1", b"/boom", b"/status/503", b"/api/v2/items/9", b"/" + random_bytes(30, token)]
    )
    query = b"?" + random_bytes(30, token + b"=&%;") if random_source.random() < 0.5 else b""
    lines = [
        method + b" " + path + query + b" HTTP/1.1",
        b"host: " + random_bytes(20, token + b":[]") if random_source.random() < 0.3 else b"host: a",
    ]
    for _ in range(random_source.randrange(5)):
        value = bytes(byte for byte in random_bytes(60) if byte not in b"\r\n\0")
        lines.append(random_source.choice([*NAMES[:5], NAMES[6], NAMES[7]]) + b": " + value)
    return b"\r\n".join([*lines, b"connection: close", b"", b""])


def _send_to_socket(port: int, request: bytes) -> tuple[bytes, list[bytes], bytes]:
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.settimeout(10)
        connection.sendall(request)
        response = b""
        try:
            while part := connection.recv(65536):
                response += part
        except ConnectionResetError:
            pass
    head, _, body = response.partition(b"\r\n\r\n")
    status, *headers = head.split(b"\r\n")
    ignored = (b"date:", b"x-correlation-id:")
    return status, sorted(line for line in headers if not line.lower().startswith(ignored)), body


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_response_to_random_bytes_is_the_same_without_the_middleware(http: str) -> None:
    random_source = random.Random(20261123)
    with (
        uvicorn("orders:app", "--http", http) as observed_service,
        uvicorn("orders:bare", "--http", http) as bare_service,
    ):
        observed_service.wait_until_ready()
        bare_service.wait_until_ready("/items/1")
        for number in range(2000):
            request = _random_request(random_source)
            assert _send_to_socket(observed_service.port, request) == _send_to_socket(bare_service.port, request), (
                number,
                request,
            )


def test_exception_is_passed_through_unchanged() -> None:
    class AppError(Exception):
        pass

    error = AppError("failed")

    async def handler(_: Any) -> Any:
        raise error

    app = Starlette()
    app.add_route("/", handler)
    app.add_middleware(obs.ObservabilityMiddleware, service="a")
    with capture(), pytest.raises(AppError) as raised:
        TestClient(app).get("/")
    assert raised.value is error
    assert traceback.extract_tb(error.__traceback__)[-1].name == "handler"
    assert error.__cause__ is None
    assert error.__context__ is None
    assert not hasattr(error, "__notes__")
    assert error.__dict__ == {}
