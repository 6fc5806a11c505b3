"""Whoever else reports a metric under one of our names makes no second series of it, and an operator gets to know."""

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


def written(seen: Any, openmetrics: bool) -> MetricsPage:
    headers = {b"accept": b"application/openmetrics-text"} if openmetrics else {}
    answered = EndpointRouter(seen.telemetry).pages["/metrics"](EndpointRequest("GET", b"", headers, None))
    assert answered.status == 200
    return parse_page(answered.body.decode(), openmetrics)


def warned(seen: Any) -> list[str]:
    return [line["metric"] for line in seen.logs if "is left out of /metrics" in line["message"]]


def test_requests_are_one_series_however_many_others_count_them() -> None:
    with HttpSink() as sink:
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "OTEL_METRIC_EXPORT_INTERVAL": "100"}
        with uvicorn("name_conflicts:app", env=env) as service:
            service.wait_until_ready()
            for _ in range(4):
                httpx.get(f"{service.url}/work")

            def sent(name: str) -> list[Any]:
                """Each time it was sent, by whom."""
                return [
                    (scope.scope.name, metric)
                    for kind, message in list(sink.received.requests)
                    for resource in (message.resource_metrics if kind == "/v1/metrics" else ())
                    for scope in resource.scope_metrics
                    for metric in scope.metrics
                    if metric.name.lower().replace(".", "_").removesuffix("_seconds") == name
                ]

            wait_for(lambda: sent("other_own"), 10, "what has a name of its own")
            wait_for(
                lambda: sum(p.count for p in sent("http_server_request_duration")[-1][1].histogram.data_points) == 4
            )
            assert {scope for scope, _ in sent("http_server_request_duration")} == {"connectsoft_obs"}
            assert {scope for scope, _ in sent("http_server_active_requests")} == {"connectsoft_obs"}
            for openmetrics in (False, True):
                found = scrape(service.url, openmetrics)
                assert found.value("http_server_request_duration_seconds_count") == 4
                assert found.value("http_server_request_duration_seconds_sum") < 4, "theirs are two seconds each"
                assert found.value("http_server_active_requests") == 0
                assert found.value("other_own_total") == 4
                assert not found.has("http_server_request_duration_count")
            # Three names of the Meter API, two of which differ in case alone, and three of prometheus_client.
            assert scrape(service.url).value("connectsoft_obs_dropped_total", **DROPPED) == 6
        said = [
            (line["by"], line["metric"]) for line in service.json_lines if "is left out of /metrics" in line["message"]
        ]
        assert len(said) == len(set(said)) == 6, "each is said once, however often it was met"
        assert {by for by, _ in said} == {"other.library", "prometheus_client"}


def _meter(make: Callable[[Any], Any]) -> Callable[[], Any]:
    return lambda: make(metrics.get_meter("other.library"))


TWINS: dict[str, Callable[[], Any]] = {
    "the same name": _meter(lambda m: m.create_histogram("doc.size", "By").record(7777)),
    "another unit": _meter(lambda m: m.create_histogram("doc.size", "KiBy").record(7777)),
    "another case": _meter(lambda m: m.create_histogram("Doc.Size", "By").record(7777)),
    "Prometheus' name": _meter(lambda m: m.create_histogram("doc_size_bytes").record(7777)),
    "a sample of it": _meter(lambda m: m.create_gauge("doc.size.bytes.count").set(7777)),
    "a sample of a counter": _meter(lambda m: m.create_gauge("doc.seen.total").set(7777)),
    "target_info": _meter(lambda m: m.create_gauge("target.info").set(7777)),
    "plain": lambda: Histogram("doc_size_bytes", "Theirs.").observe(7777),
    "plain with dots": lambda: Histogram("doc.size", "Theirs.").observe(7777),
    "plain sample": lambda: Gauge("doc_size_bytes_sum", "Theirs.").set(7777),
    "plain total": lambda: Gauge("doc_seen_total", "Theirs.").set(7777),
    "plain counter": lambda: Counter("doc.seen", "Theirs.").inc(7777),
    "plain target_info": lambda: Info("target", "Theirs.").info({"mine": "7"}),
}


@pytest.fixture
def registry() -> Iterator[None]:
    """What a test registers with prometheus_client goes when it ends."""
    before = set(REGISTRY._collector_to_names)
    yield
    for collector in set(REGISTRY._collector_to_names) - before:
        REGISTRY.unregister(collector)


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize("openmetrics", [False, True])
@pytest.mark.parametrize("twin", TWINS)
def test_a_twin_of_any_kind_is_left_out_counted_and_said_once(twin: str, openmetrics: bool) -> None:
    with capture(service="shop") as seen:
        obs.histogram("doc.size", unit="By").record(50)
        obs.counter("doc.seen").add(1)
        TWINS[twin]()
        for _ in range(3):
            found = written(seen, openmetrics)
            assert found.value("doc_size_bytes_count") == 1
            assert found.value("doc_size_bytes_sum") == 50
            assert found.value("doc_seen_total") == 1
            assert [sample.value for sample in found.samples("target_info")] == [1.0]
            assert 'mine="7"' not in found.text
            assert " 7777.0\n" not in found.text
        assert found.value("connectsoft_obs_dropped_total", **DROPPED) == 1
        assert len(warned(seen)) == 1


def test_a_name_is_once_on_the_page_whoever_of_the_others_has_it_twice() -> None:
    """A scraper refuses a page that has a family twice."""
    with capture(service="shop") as seen:
        meter = metrics.get_meter("other.library")
        meter.create_counter("nuts.cracked").add(1)
        meter.create_counter("nuts_cracked").add(2)
        plain = Counter("nuts.cracked", "Theirs.")
        try:
            found = written(seen, True)
        finally:
            REGISTRY.unregister(plain)
    assert found.text.count("# TYPE nuts_cracked ") == 1
    assert found.value("nuts_cracked_total") in (1, 2)
    assert len(warned(seen)) == 2


def test_the_official_exporter_in_the_same_process_doubles_nothing() -> None:
    """It puts its own target_info and whatever its provider counts into the default registry."""
    reader = PrometheusMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    try:
        with capture(service="shop") as seen:
            obs.get_logger().info("begin")
            theirs = provider.get_meter("fastapi")
            theirs.create_histogram("http.server.request.duration", "s").record(1)
            theirs.create_counter("theirs.alone").add(1)
            found = written(seen, True)
    finally:
        provider.shutdown()
    assert [sample.labels["service_name"] for sample in found.samples("target_info")] == ["shop"]
    assert found.value("http_server_request_duration_seconds_count") == 0
    assert found.value("theirs_alone_total") == 1


def test_a_collector_that_makes_up_names_does_not_fill_the_memory() -> None:
    class Endless:
        """One of our names, spelled so that each is new and all are the same to Prometheus."""

        def describe(self) -> list[Any]:
            return []

        def collect(self) -> Iterator[Any]:
            for number in range(300):
                yield GaugeMetricFamily(f"connectsoft{'.' * (number + 1)}build_info", "Made up.", 1)

    endless = Endless()
    REGISTRY.register(endless)
    try:
        with capture(service="shop") as seen:
            found = written(seen, False)
            assert found.value("connectsoft_build_info") == 1
            assert len(warned(seen)) == 100
            assert written(seen, False).value("connectsoft_obs_dropped_total", **DROPPED) == 100
    finally:
        REGISTRY.unregister(endless)
