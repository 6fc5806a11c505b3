"""A request creates no reference cycles, so that its memory is freed without a garbage collection."""

from __future__ import annotations

from contextlib import ExitStack

import httpx
import pytest
from support.otlp import HttpSink
from support.process import uvicorn

REQUESTS = 200


@pytest.mark.parametrize("http", ["httptools", "h11"])
@pytest.mark.parametrize("path", ["/item", "/stream", "/work", "/missing"])
def test_request_leaves_no_more_garbage_than_without_middleware(http: str, path: str) -> None:
    def garbage_objects(env: dict[str, str]) -> int:
        with uvicorn("gc_probe:app", "--http", http, env=env) as service, httpx.Client(base_url=service.url) as client:
            service.wait_until_ready("/uncollected")
            for _ in range(20):
                client.get(path)
            client.get("/uncollected")
            for _ in range(REQUESTS):
                client.get(path)
            return int(client.get("/uncollected").json())

    with HttpSink() as sink:
        count = garbage_objects({"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url})
    # The export of a batch of spans may leave some objects; one object per request would exceed the limit.
    assert count < garbage_objects({"BARE": "1"}) + REQUESTS / 2


@pytest.mark.parametrize("http", ["httptools", "h11"])
def test_idle_connection_does_not_reference_the_last_request(http: str) -> None:
    with uvicorn("gc_probe:app", "--http", http) as service, ExitStack() as connections:
        service.wait_until_ready("/item")
        for path in ("/item", "/stream", "/work", "/missing"):
            client = connections.enter_context(httpx.Client(base_url=service.url))
            client.get(path)  # the connection stays open
        assert httpx.get(f"{service.url}/open-requests").json() == 1
