"""The application answers what it answers without us, whatever strangers send."""

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


async def answer(app: Any, scope: dict[str, Any]) -> tuple[Any, ...]:
    """What an application sends, and what it raises."""
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
    shown = [
        {**message, "headers": [pair for pair in message["headers"] if pair[0] != b"x-correlation-id"]}
        if message["type"] == "http.response.start"
        else message
        for message in sent
    ]
    return shown, raised


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


def test_any_scope_gets_the_answer_of_the_bare_application() -> None:
    with capture() as seen, asyncio.Runner() as runner:

        @settings(max_examples=6000, deadline=None, suppress_health_check=list(HealthCheck))
        @given(SCOPES)
        def same(given: dict[str, Any]) -> None:
            def scope() -> dict[str, Any]:
                return {
                    **{key: given[key] for key in ("method", "path", "scheme", "client")},
                    "type": "http",
                    "asgi": {"version": "3.0"},
                    "raw_path": given["path"].encode("utf-8", "replace"),
                    "query_string": given["query"],
                    "headers": list(given["headers"]),
                    "http_version": given["version"],
                    "root_path": "",
                    "server": ("127.0.0.1", 80),
                }

            ours = runner.run(answer(observed, scope()))
            assert ours == runner.run(answer(bare, scope()))
            assert seen.metric("connectsoft.obs.errors").series == (), seen.logs

        same()
    assert seen.telemetry is not None


def _request(source: random.Random) -> bytes:
    """A request with random bytes in method, path, query and headers."""

    def noise(most: int, alphabet: bytes | None = None) -> bytes:
        size = source.randrange(most)
        return bytes(source.choice(alphabet) for _ in range(size)) if alphabet else source.randbytes(size)

    token = b"ABCDEFGHIJabcdefghij0123456789!#$%&'*+-.^_`|~"
    method = source.choice([b"GET", b"GET", b"HEAD", b"POST", noise(10, token) or b"X"])
    path = source.choice([b"/items/1", b"/boom", b"/status/503", b"/api/v2/items/9", b"/" + noise(30, token)])
    query = b"?" + noise(30, token + b"=&%;") if source.random() < 0.5 else b""
    lines = [
        method + b" " + path + query + b" HTTP/1.1",
        b"host: " + noise(20, token + b":[]") if source.random() < 0.3 else b"host: a",
    ]
    for _ in range(source.randrange(5)):
        value = bytes(byte for byte in noise(60) if byte not in b"\r\n\0")
        lines.append(source.choice([*NAMES[:5], NAMES[6], NAMES[7]]) + b": " + value)
    return b"\r\n".join([*lines, b"connection: close", b"", b""])


def _exchange(port: int, request: bytes) -> tuple[bytes, list[bytes], bytes]:
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.settimeout(10)
        connection.sendall(request)
        answer = b""
        try:
            while part := connection.recv(65536):
                answer += part
        except ConnectionResetError:
            pass
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *headers = head.split(b"\r\n")
    apart = (b"date:", b"x-correlation-id:")
    return status, sorted(line for line in headers if not line.lower().startswith(apart)), body


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_random_bytes_on_sockets_get_the_answer_of_the_bare_application(http: str) -> None:
    source = random.Random(20261123)
    with uvicorn("orders:app", "--http", http) as ours, uvicorn("orders:bare", "--http", http) as theirs:
        ours.wait_until_ready()
        theirs.wait_until_ready("/items/1")
        for number in range(2000):
            request = _request(source)
            assert _exchange(ours.port, request) == _exchange(theirs.port, request), (number, request)


def test_an_exception_passes_through_unchanged() -> None:
    class Own(Exception):
        pass

    error = Own("mine")

    async def handler(_: Any) -> Any:
        raise error

    app = Starlette()
    app.add_route("/", handler)
    app.add_middleware(obs.ObservabilityMiddleware, service="a")
    with capture(), pytest.raises(Own) as raised:
        TestClient(app).get("/")
    assert raised.value is error
    assert traceback.extract_tb(error.__traceback__)[-1].name == "handler"
    assert error.__cause__ is None
    assert error.__context__ is None
    assert not hasattr(error, "__notes__")
    assert error.__dict__ == {}
