"""External metrics with the name of an existing metric are left out, counted and logged once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from opentelemetry import metrics
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import REGISTRY, Counter, Gauge, Histogram, Info
from prometheus_client.core import GaugeMetricFamily
from support.exposition import MetricsPage, parse_page, scrape
from support.otlp import HttpSink
from support.process import uvicorn, wait_for

import connectsoft_obs as obs
from connectsoft_obs.endpoints import EndpointRequest, EndpointRouter
from connectsoft_obs.testing import capture

DROPPED = {"connectsoft_obs_signal": "metrics", "connectsoft_obs_reason": "name_taken"}


def render_page(seen: Any, openmetrics: bool) -> MetricsPage:
    headers = {b"accept": b"application/openmetrics-text"} if openmetrics else {}
    response = EndpointRouter(seen.telemetry).pages["/metrics"](EndpointRequest("GET", b"", headers, None))
    assert response.status == 200
    return parse_page(response.body.decode(), openmetrics)


def conflict_warnings(seen: Any) -> list[str]:
    return [line["connectsoft.obs.metric"] for line in seen.logs if "is left out of /metrics" in line["message"]]


def test_request_metrics_of_other_libraries_are_left_out() -> None:
    with HttpSink() as sink:
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "OTEL_METRIC_EXPORT_INTERVAL": "100"}
        with uvicorn("name_conflicts:app", env=env) as service:
            service.wait_until_ready()
            for _ in range(4):
                httpx.get(f"{service.url}/work")

            def exported_metrics(name: str) -> list[Any]:
                """Scope and content of each export of a metric."""
                return [
                    (scope.scope.name, metric)
                    for kind, message in list(sink.received.requests)
                    for resource in (message.resource_metrics if kind == "/v1/metrics" else ())
                    for scope in resource.scope_metrics
                    for metric in scope.metrics
                    if metric.name.lower().replace(".", "_").removesuffix("_seconds") == name
                ]

            wait_for(lambda: exported_metrics("other_own"), 10, "the metric without a conflict is exported")
            wait_for(
                lambda: (
                    sum(
                        point.count
                        for point in exported_metrics("http_server_request_duration")[-1][1].histogram.data_points
                    )
                    == 4
                )
            )
            assert {scope for scope, _ in exported_metrics("http_server_request_duration")} == {"connectsoft_obs"}
            assert {scope for scope, _ in exported_metrics("http_server_active_requests")} == {"connectsoft_obs"}
            for openmetrics in (False, True):
                page = scrape(service.url, openmetrics)
                assert page.value("http_server_request_duration_seconds_count") == 4
                assert page.value("http_server_request_duration_seconds_sum") < 4, (
                    "the other libraries record two seconds per request"
                )
                assert page.value("http_server_active_requests") == 0
                assert page.value("other_own_total") == 4
                assert not page.has("http_server_request_duration_count")
            # Three names of the Meter API, two of which differ only in case, and three of prometheus_client.
            assert scrape(service.url).value("connectsoft_obs_dropped_total", **DROPPED) == 6
        warnings = [
            (line["connectsoft.obs.by"], line["connectsoft.obs.metric"])
            for line in service.json_lines
            if "is left out of /metrics" in line["message"]
        ]
        assert len(warnings) == len(set(warnings)) == 6, "each conflict is logged once"
        assert {source for source, _ in warnings} == {"other.library", "prometheus_client"}


def with_meter(record: Callable[[Any], Any]) -> Callable[[], Any]:
    return lambda: record(metrics.get_meter("other.library"))


CONFLICTS: dict[str, Callable[[], Any]] = {
    "the same name": with_meter(lambda meter: meter.create_histogram("doc.size", "By").record(7777)),
    "another unit": with_meter(lambda meter: meter.create_histogram("doc.size", "KiBy").record(7777)),
    "another case": with_meter(lambda meter: meter.create_histogram("Doc.Size", "By").record(7777)),
    "the Prometheus name": with_meter(lambda meter: meter.create_histogram("doc_size_bytes").record(7777)),
    "a histogram sample": with_meter(lambda meter: meter.create_gauge("doc.size.bytes.count").set(7777)),
    "a counter sample": with_meter(lambda meter: meter.create_gauge("doc.seen.total").set(7777)),
    "target_info": with_meter(lambda meter: meter.create_gauge("target.info").set(7777)),
    "client histogram": lambda: Histogram("doc_size_bytes", "External metric.").observe(7777),
    "client histogram with dots": lambda: Histogram("doc.size", "External metric.").observe(7777),
    "client sample": lambda: Gauge("doc_size_bytes_sum", "External metric.").set(7777),
    "client total": lambda: Gauge("doc_seen_total", "External metric.").set(7777),
    "client counter": lambda: Counter("doc.seen", "External metric.").inc(7777),
    "client target_info": lambda: Info("target", "External metric.").info({"external": "7"}),
}


@pytest.fixture
def registry() -> Iterator[None]:
    """Unregisters the collectors that the test registered with prometheus_client."""
    existing = set(REGISTRY._collector_to_names)
    yield
    for collector in set(REGISTRY._collector_to_names) - existing:
        REGISTRY.unregister(collector)


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize("openmetrics", [False, True])
@pytest.mark.parametrize("conflict", CONFLICTS)
def test_conflicting_metric_is_left_out_counted_and_logged_once(conflict: str, openmetrics: bool) -> None:
    with capture(service="shop") as seen:
        obs.histogram("doc.size", unit="By").record(50)
        obs.counter("doc.seen").add(1)
        CONFLICTS[conflict]()
        for _ in range(3):
            page = render_page(seen, openmetrics)
            assert page.value("doc_size_bytes_count") == 1
            assert page.value("doc_size_bytes_sum") == 50
            assert page.value("doc_seen_total") == 1
            assert [sample.value for sample in page.samples("target_info")] == [1.0]
            assert 'external="7"' not in page.text
            assert " 7777.0\n" not in page.text
        assert page.value("connectsoft_obs_dropped_total", **DROPPED) == 1
        assert len(conflict_warnings(seen)) == 1


def test_two_external_metrics_with_one_name_are_scraped_once() -> None:
    """Prometheus rejects a page that contains a family twice."""
    with capture(service="shop") as seen:
        meter = metrics.get_meter("other.library")
        meter.create_counter("nuts.cracked").add(1)
        meter.create_counter("nuts_cracked").add(2)
        client_counter = Counter("nuts.cracked", "External metric.")
        try:
            page = render_page(seen, True)
        finally:
            REGISTRY.unregister(client_counter)
    assert page.text.count("# TYPE nuts_cracked ") == 1
    assert page.value("nuts_cracked_total") in (1, 2)
    assert len(conflict_warnings(seen)) == 2


def test_opentelemetry_prometheus_exporter_duplicates_no_series() -> None:
    """The exporter registers its target_info and the metrics of its provider in the default registry."""
    reader = PrometheusMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    try:
        with capture(service="shop") as seen:
            obs.get_logger().info("begin")
            meter = provider.get_meter("fastapi")
            meter.create_histogram("http.server.request.duration", "s").record(1)
            meter.create_counter("other.requests").add(1)
            page = render_page(seen, True)
    finally:
        provider.shutdown()
    assert [sample.labels["service_name"] for sample in page.samples("target_info")] == ["shop"]
    assert page.value("http_server_request_duration_seconds_count") == 0
    assert page.value("other_requests_total") == 1


def test_number_of_reported_conflicts_is_limited() -> None:
    class ConflictingCollector:
        """Spellings of an existing name that differ in dots and are equal in Prometheus."""

        def describe(self) -> list[Any]:
            return []

        def collect(self) -> Iterator[Any]:
            for number in range(300):
                yield GaugeMetricFamily(f"connectsoft{'.' * (number + 1)}build_info", "Conflict.", 1)

    collector = ConflictingCollector()
    REGISTRY.register(collector)
    try:
        with capture(service="shop") as seen:
            page = render_page(seen, False)
            assert page.value("connectsoft_build_info") == 1
            assert len(conflict_warnings(seen)) == 100
            assert render_page(seen, False).value("connectsoft_obs_dropped_total", **DROPPED) == 100
    finally:
        REGISTRY.unregister(collector)
