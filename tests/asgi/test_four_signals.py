"""Span, metric, log line and OTLP metric of a request on a real server are consistent and have standard names."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from support.otlp import GrpcSink, HttpSink, ReceivedTelemetry, decode_attributes
from support.process import Service, uvicorn, wait_for
from support.servers import rotel

AGENT = "test-client/1.0"
Observed = tuple[Service, ReceivedTelemetry, httpx.Response, str]


@pytest.fixture(scope="module", params=["inside", "outside"])
def observed(request: pytest.FixtureRequest) -> Iterator[Observed]:
    """A service that exports to a sink, after one request for /items/42, with the middleware inside and outside."""
    with HttpSink() as sink:
        env = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "OTEL_METRIC_EXPORT_INTERVAL": "200",
            "WRAP": request.param,
        }
        with uvicorn("orders:app", env=env) as service:
            service.wait_until_ready()
            response = httpx.get(f"{service.url}/items/42?page=2&sig=SECRET", headers={"user-agent": AGENT})
            assert response.status_code == 200
            wait_for(lambda: sink.received.spans, 10, "a span at the sink")
            wait_for(lambda: sink.received.metric("http.server.request.duration"), 10, "a metric at the sink")
            page = httpx.get(f"{service.url}/metrics", headers={"accept": "application/openmetrics-text"}).text
            service.stop()
            yield service, sink.received, response, page


def test_span_has_standard_name_kind_and_attributes(observed: Observed) -> None:
    service, received, _, _ = observed
    [span] = received.spans
    attributes = decode_attributes(span.attributes)
    assert (span.name, span.kind) == ("GET /items/{id}", 2)
    assert span.status.code == 0
    assert {
        "http.request.method": "GET",
        "url.path": "/items/42",
        "url.query": "page=2&sig=REDACTED",
        "url.scheme": "http",
        "http.route": "/items/{id}",
        "http.response.status_code": 200,
        "network.protocol.version": "1.1",
        "server.address": "127.0.0.1",
        "server.port": service.port,
        "client.address": "127.0.0.1",
        "network.peer.address": "127.0.0.1",
        "user_agent.original": AGENT,
    }.items() <= attributes.items()
    assert "network.protocol.name" not in attributes
    assert "error.type" not in attributes
    assert not span.events
    assert type(attributes["network.peer.port"]) is int


def test_otlp_metric_has_its_opentelemetry_name(observed: Observed) -> None:
    _, received, _, _ = observed
    metric = received.metric("http.server.request.duration")
    assert (metric.unit, metric.description) == ("s", "Duration of HTTP server requests.")
    assert metric.histogram.aggregation_temporality == 2
    [point] = metric.histogram.data_points
    assert list(point.explicit_bounds) == [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10]
    assert decode_attributes(point.attributes) == {
        "http.request.method": "GET",
        "url.scheme": "http",
        "http.response.status_code": 200,
        "http.route": "/items/{id}",
        "network.protocol.version": "1.1",
    }
    assert point.count == sum(point.bucket_counts) == 1
    active = received.metric("http.server.active_requests")
    assert active.unit == "{request}"
    assert not active.sum.is_monotonic
    assert [point.as_int for point in active.sum.data_points] == [0]


def test_log_line_has_the_documented_field_order(observed: Observed) -> None:
    service, _, _, _ = observed
    [line] = [line for line in service.json_lines if line["logger"] == "connectsoft_obs.access"]
    expected = ["timestamp", "severity", "message", "logger", "trace_id", "span_id", "trace_flags", "service.name"]
    assert list(line)[:8] == expected
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line["timestamp"])
    assert line["severity"] == "INFO"
    assert line["message"] == "GET /items/{id} 200"
    assert line["service.name"] == "orders-api"
    assert "/items/42" not in str(line)
    assert "page" not in str(line)


def test_trace_id_is_equal_in_span_log_line_exemplar_and_header(observed: Observed) -> None:
    service, received, response, page = observed
    trace_id = received.spans[0].trace_id.hex()
    [line] = [line for line in service.json_lines if line["logger"] == "connectsoft_obs.access"]
    assert line["trace_id"] == trace_id
    assert int(line["trace_flags"], 16) & 1
    assert line["span_id"] == received.spans[0].span_id.hex()
    assert response.headers["x-correlation-id"] == trace_id
    families = parse_openmetrics(page)  # type: ignore[no-untyped-call]
    [family] = [family for family in families if family.name == "http_server_request_duration_seconds"]
    [exemplar] = [sample.exemplar for sample in family.samples if sample.exemplar]
    assert exemplar.labels["trace_id"] == trace_id


def test_duration_is_equal_in_span_metric_and_log_line(observed: Observed) -> None:
    service, received, _, page = observed
    [span] = received.spans
    nanoseconds = span.end_time_unix_nano - span.start_time_unix_nano
    [line] = [line for line in service.json_lines if line["logger"] == "connectsoft_obs.access"]
    [total] = [
        sample.value
        for family in parse_openmetrics(page)  # type: ignore[no-untyped-call]
        for sample in family.samples
        if sample.name == "http_server_request_duration_seconds_sum"
    ]
    assert line["connectsoft.http.server.request.duration"] == pytest.approx(nanoseconds / 1e9, abs=1e-9)
    assert total == pytest.approx(nanoseconds / 1e9, abs=1e-9)


def test_probes_and_scrapes_are_not_observed(observed: Observed) -> None:
    service, received, _, page = observed
    assert len(received.spans) == 1
    assert not [line for line in service.json_lines if "/health" in line["message"] or "/metrics" in line["message"]]
    assert "/health" not in page.replace("connectsoft_health", "")


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_each_span_is_exported_once_through_a_collector(protocol: str) -> None:
    with HttpSink() as sink, rotel(sink.url) as collector:
        env = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.grpc if protocol == "grpc" else collector.http,
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_METRIC_EXPORT_INTERVAL": "300",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }
        with uvicorn("orders:app", env=env) as service, httpx.Client() as client:
            service.wait_until_ready()
            for number in range(200):
                assert client.get(f"{service.url}/items/{number}").status_code == 200
            service.stop()
            wait_for(lambda: len(sink.received.spans) >= 200, 15, "200 spans")
            paths = [decode_attributes(span.attributes)["url.path"] for span in sink.received.spans]
            assert sorted(paths) == sorted(f"/items/{number}" for number in range(200))
            assert len({span.span_id for span in sink.received.spans}) == 200

            def request_counts() -> list[int]:
                metric = sink.received.metric("http.server.request.duration")
                return [point.count for point in metric.histogram.data_points] if metric else []

            wait_for(lambda: request_counts() == [200], 10, "one series of 200 requests")
            assert sink.received.metric("http.server.request.duration").unit == "s"
            assert {resource["service.name"] for resource in sink.received.resources} == {"orders-api"}
            assert len({resource["service.instance.id"] for resource in sink.received.resources}) == 1


def test_otlp_grpc_export() -> None:
    with GrpcSink() as sink:
        env = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            "OTEL_EXPORTER_OTLP_HEADERS": "api-key=abc%20def",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
        }
        with uvicorn("orders:app", env=env) as service:
            service.wait_until_ready()
            httpx.get(f"{service.url}/items/1")
            service.stop()
        assert [span.name for span in sink.received.spans] == ["GET /items/{id}"]
        assert sink.received.headers[0]["api-key"] == "abc def"


def test_prometheus_client_parses_the_text_format() -> None:
    with uvicorn("orders:app") as service:
        service.wait_until_ready()
        httpx.get(f"{service.url}/items/1")
        response = httpx.get(f"{service.url}/metrics")
        families = {family.name: family for family in parse_text(response.text)}
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "http_server_request_duration_seconds" in families
    assert "process_cpu_seconds" in families
    assert "target_info" in families or "target" in families
    assert "# {" not in response.text


def test_without_endpoint_nothing_is_exported_and_no_thread_runs() -> None:
    with uvicorn("orders:app", env={"LOG_LEVEL": "debug"}) as service:
        service.wait_until_ready()
        httpx.get(f"{service.url}/items/1")
        export_lines = [line for line in service.json_lines if "export" in line["message"]]
        threads = httpx.get(f"{service.url}/threads").json()
        service.stop()
    assert export_lines == []
    assert "MainThread" in threads
    assert not [name for name in threads if name in ("obs-traces", "obs-metrics", "obs-logs")]
