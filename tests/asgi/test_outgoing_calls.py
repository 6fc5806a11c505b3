"""Outgoing calls are traced by whatever client instrumentation is installed, once, and our own exports never."""

from __future__ import annotations

import os
from typing import Any

import httpx
import pytest
from support.otlp import HttpSink, decode_attributes
from support.process import uvicorn, wait_for

from connectsoft_obs.telemetry import auto_instrumentation


def spans(received: Any, kind: int) -> list[Any]:
    return [span for span in received.spans if span.kind == kind]


@pytest.mark.parametrize("path", ["httpx", "requests"])
def test_a_call_is_one_client_span_on_the_stable_convention_and_carries_the_trace(path: str) -> None:
    with HttpSink() as sink:
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "OTEL_BSP_SCHEDULE_DELAY": "50"}
        with uvicorn("outgoing_calls:app", env=env) as service:
            service.wait_until_ready()
            headers = httpx.get(f"{service.url}/{path}", headers={"x-correlation-id": "c-1"}).json()
            wait_for(lambda: len(sink.received.spans) >= 3, 10)
            service.stop()
        [outer] = [span for span in spans(sink.received, 2) if span.name == f"GET /{path}"]
        [inner] = [span for span in spans(sink.received, 2) if span.name == "GET /headers"]
        [client] = [
            span for span in spans(sink.received, 3) if "http.request.method" in decode_attributes(span.attributes)
        ][:1]
        assert outer.trace_id == client.trace_id == inner.trace_id
        assert headers["traceparent"].split("-")[1] == outer.trace_id.hex()
        assert headers["x-correlation-id"] == "c-1"
        assert decode_attributes(client.attributes)["http.response.status_code"] == 200
        assert not {"http.method", "http.status_code", "http.url"} & decode_attributes(client.attributes).keys()
        ours = [span for span in spans(sink.received, 3) if sink.url in str(decode_attributes(span.attributes))]
        assert ours == [], "exports are nobody's telemetry"
        [started] = [line for line in service.json_lines if line["message"] == "observability configured"]
        assert {"httpx", "requests", "urllib3"} <= set(started["instrumented"])


def test_none_switches_them_off_and_inject_does_it_by_hand() -> None:
    env = {"CONNECTSOFT_OBS_INSTRUMENTATIONS": "none"}
    with uvicorn("outgoing_calls:app", env=env) as service:
        service.wait_until_ready()
        headers = httpx.get(f"{service.url}/httpx").json()
        service.stop()
    assert "traceparent" not in headers


def test_one_that_fails_is_reported_and_the_others_work() -> None:
    on, failed = auto_instrumentation.instrument_clients(("no-such-library", "urllib3"))
    assert failed == {"no-such-library": "no installed package provides this instrumentation"}
    assert on == ["urllib3"]


def test_an_instrumentation_that_raises_is_isolated(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        name = "httpx"

        def load(self) -> Any:
            message = "broken package"
            raise ImportError(message)

    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [Broken()])
    monkeypatch.setattr(auto_instrumentation, "_instrumented", set())
    on, failed = auto_instrumentation.instrument_clients(("auto",))
    assert (on, failed) == ([], {"httpx": "ImportError: broken package"})


def test_the_environment_is_left_as_it_was() -> None:
    before = dict(os.environ)
    auto_instrumentation.instrument_clients(("auto",))
    assert dict(os.environ) == before
