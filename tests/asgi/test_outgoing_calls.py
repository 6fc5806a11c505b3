"""Installed client instrumentation traces each outgoing call once; exports are not traced."""

from __future__ import annotations

import os
from typing import Any

import httpx
import pytest
from support.otlp import HttpSink, decode_attributes
from support.process import uvicorn, wait_for

import connectsoft_obs as obs
from connectsoft_obs.telemetry import auto_instrumentation


def spans_of_kind(received: Any, kind: int) -> list[Any]:
    return [span for span in received.spans if span.kind == kind]


@pytest.mark.parametrize("path", ["httpx", "requests"])
def test_outgoing_call_has_one_span_with_stable_attributes(path: str) -> None:
    with HttpSink() as sink:
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "OTEL_BSP_SCHEDULE_DELAY": "50"}
        with uvicorn("outgoing_calls:app", env=env) as service:
            service.wait_until_ready()
            headers = httpx.get(f"{service.url}/{path}", headers={"x-correlation-id": "c-1"}).json()
            wait_for(lambda: len(sink.received.spans) >= 3, 10)
            service.stop()
        [caller] = [span for span in spans_of_kind(sink.received, 2) if span.name == f"GET /{path}"]
        [callee] = [span for span in spans_of_kind(sink.received, 2) if span.name == "GET /headers"]
        [client] = [
            span
            for span in spans_of_kind(sink.received, 3)
            if "http.request.method" in decode_attributes(span.attributes)
        ][:1]
        assert caller.trace_id == client.trace_id == callee.trace_id
        assert headers["traceparent"].split("-")[1] == caller.trace_id.hex()
        assert headers["x-correlation-id"] == "c-1"
        assert decode_attributes(client.attributes)["http.response.status_code"] == 200
        assert not {"http.method", "http.status_code", "http.url"} & decode_attributes(client.attributes).keys()
        export_spans = [
            span for span in spans_of_kind(sink.received, 3) if sink.url in str(decode_attributes(span.attributes))
        ]
        assert export_spans == []
        [configured] = [line for line in service.json_lines if line["message"] == "observability configured"]
        assert {"httpx", "requests", "urllib3"} <= set(configured["connectsoft.obs.instrumented"])


@pytest.mark.parametrize("path", ["httpx", "requests"])
def test_correlation_id_of_the_application_is_not_replaced(path: str) -> None:
    with uvicorn("outgoing_calls:app") as service:
        service.wait_until_ready()
        headers = httpx.get(f"{service.url}/{path}?correlation_id=order-7").json()
    assert headers["x-correlation-id"] == "order-7"
    assert "traceparent" in headers


def test_inject_replaces_the_ids_of_an_earlier_operation() -> None:
    headers: dict[str, str] = {}
    with obs.operation("first", parent=obs.extract({"x-correlation-id": "c-1"})):
        obs.inject(headers)
    with obs.operation("second", parent=obs.extract({"x-correlation-id": "c-2"})):
        obs.inject(headers)
    assert headers["X-Correlation-Id"] == "c-2"


def test_instrumentations_none_disables_client_instrumentation() -> None:
    env = {"CONNECTSOFT_OBS_INSTRUMENTATIONS": "none"}
    with uvicorn("outgoing_calls:app", env=env) as service:
        service.wait_until_ready()
        headers = httpx.get(f"{service.url}/httpx").json()
        service.stop()
    assert "traceparent" not in headers


def test_unavailable_instrumentation_is_reported() -> None:
    enabled, failed = auto_instrumentation.instrument_clients(("no-such-library", "urllib3"))
    assert failed == {"no-such-library": "no installed package provides this instrumentation"}
    assert enabled == ["urllib3"]


def test_instrumentation_that_raises_does_not_affect_others(monkeypatch: pytest.MonkeyPatch) -> None:
    class BrokenEntryPoint:
        name = "httpx"

        def load(self) -> Any:
            message = "broken package"
            raise ImportError(message)

    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [BrokenEntryPoint()])
    monkeypatch.setattr(auto_instrumentation, "_instrumented", set())
    enabled, failed = auto_instrumentation.instrument_clients(("auto",))
    assert (enabled, failed) == ([], {"httpx": "ImportError: broken package"})


def test_instrument_clients_restores_the_environment() -> None:
    before = dict(os.environ)
    auto_instrumentation.instrument_clients(("auto",))
    assert dict(os.environ) == before
