"""A request leaves nothing to the garbage collector: memory that comes back at once is what makes the next one cheap."""

from __future__ import annotations

from contextlib import ExitStack

import httpx
import pytest
from support.otlp import HttpSink
from support.process import uvicorn

TIMES = 200


@pytest.mark.parametrize("http", ["httptools", "h11"])
@pytest.mark.parametrize("path", ["/item", "/stream", "/work", "/missing"])
def test_a_request_on_a_real_server_leaves_no_more_than_without_us(http: str, path: str) -> None:
    def littered(env: dict[str, str]) -> int:
        with uvicorn("gc_probe:app", "--http", http, env=env) as service, httpx.Client(base_url=service.url) as client:
            service.wait_until_ready("/uncollected")
            for _ in range(20):
                client.get(path)
            client.get("/uncollected")
            for _ in range(TIMES):
                client.get(path)
            return int(client.get("/uncollected").json())

    with HttpSink() as sink:
        ours = littered({"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url})
    # A batch of spans on its way may leave some; what each request left would be hundreds.
    assert ours < littered({"BARE": "1"}) + TIMES / 2


@pytest.mark.parametrize("http", ["httptools", "h11"])
def test_a_connection_that_waits_for_its_next_request_does_not_hold_the_last_one(http: str) -> None:
    with uvicorn("gc_probe:app", "--http", http) as service, ExitStack() as kept:
        service.wait_until_ready("/item")
        for path in ("/item", "/stream", "/work", "/missing"):
            client = kept.enter_context(httpx.Client(base_url=service.url))
            client.get(path)  # and the connection stays open
        assert httpx.get(f"{service.url}/open-requests").json() == 1
