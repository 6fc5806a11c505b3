"""Metrics created with prometheus_client or the OpenTelemetry Meter API are scraped and exported exactly once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry import metrics, trace
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Enum, Gauge, Histogram, Info, Summary
from prometheus_client.core import GaugeMetricFamily
from support.exposition import MetricsPage, parse_page, scrape
from support.otlp import HttpSink, decode_attributes
from support.process import gunicorn, uvicorn, wait_for

import connectsoft_obs as obs
from connectsoft_obs.endpoints import EndpointRequest, EndpointRouter
from connectsoft_obs.signals.metrics import otlp_encoder
from connectsoft_obs.signals.metrics.bridges import prometheus_client
from connectsoft_obs.testing import capture

meter = metrics.get_meter("tests.import")
"""Created before `configure()`, as libraries do at import."""

import_counter = meter.create_counter("early.birds", unit="{bird}", description="Created at import.")


def render_page(seen: Any, openmetrics: bool = True) -> MetricsPage:
    headers = {b"accept": b"application/openmetrics-text"} if openmetrics else {}
    response = EndpointRouter(seen.telemetry).pages["/metrics"](EndpointRequest("GET", b"", headers, None))
    assert response.status == 200
    return parse_page(response.body.decode(), openmetrics)


# --- OpenTelemetry's Meter API ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("openmetrics", [False, True])
def test_meter_api_instruments_are_on_the_metrics_page(openmetrics: bool) -> None:
    with capture(service="shop") as seen:
        obs.get_logger().info("begin")
        all_meter = metrics.get_meter("tests.all", "2.0")
        import_counter.add(3, {"kind": "robin", "ringed": True})
        all_meter.create_up_down_counter("nests.open", "{nest}").add(-2)
        all_meter.create_histogram("flight.duration", "ms", explicit_bucket_boundaries_advisory=[10, 100]).record(
            50, {"n": 1}
        )
        all_meter.create_gauge("feeder.weight", "g").set(12.5)
        page = render_page(seen, openmetrics)
    assert page.value("early_birds_total", kind="robin", ringed="true") == 3
    assert page.value("nests_open") == -2
    assert page.value("flight_duration_milliseconds_bucket", le="100.0", n="1") == 1
    assert page.value("flight_duration_milliseconds_sum") == 50
    assert page.value("feeder_weight_grams") == 12.5
    assert page.families["early_birds"].documentation == "Created at import."


def test_observable_callbacks_run_at_each_scrape_of_each_telemetry() -> None:
    calls = 0

    def callback(_: Any) -> Iterator[metrics.Observation]:
        nonlocal calls
        calls += 1
        yield metrics.Observation(calls, {"hall": "a"})

    with capture(service="shop") as seen:
        obs.get_logger().info("begin")
        meter.create_observable_gauge("hall.load", [callback])
        meter.create_observable_counter("hall.visits", [lambda _: [metrics.Observation(9)]])
        meter.create_observable_up_down_counter("hall.seats", [lambda _: [metrics.Observation(-4)]])
        first, second = render_page(seen), render_page(seen)
        assert (first.value("hall_load"), second.value("hall_load")) == (1, 2)
        assert (first.value("hall_visits_total"), first.value("hall_seats")) == (9, -4)
    with capture(service="shop") as seen:
        obs.get_logger().info("begin")
        assert render_page(seen).value("hall_load") == 3, "another Telemetry observes the instrument too"


def test_instruments_record_into_the_current_capture_from_zero() -> None:
    for _ in range(2):
        with capture(service="shop") as seen:
            obs.get_logger().info("begin")
            import_counter.add(1)
            assert render_page(seen).value("early_birds_total") == 1


def test_invalid_instrument_name_does_not_raise_when_recording() -> None:
    with capture(service="shop") as seen:
        obs.get_logger().info("begin")
        meter.create_counter("no spaces allowed").add(1)
        meter.create_counter("no spaces allowed").add(1)
        assert render_page(seen).value("connectsoft_obs_errors_total", connectsoft_obs_where="metrics.meter") == 2


def test_meter_api_histogram_has_exemplars() -> None:
    with capture(service="shop") as seen:
        with obs.operation("work"):
            meter.create_histogram("nest.size", "{egg}").record(3)
            span_context = trace.get_current_span().get_span_context()
        [exemplar] = render_page(seen).exemplars("nest_size_bucket")
    assert exemplar.labels["trace_id"] == f"{span_context.trace_id:032x}"


def test_existing_meter_provider_is_not_replaced() -> None:
    code = (
        "from opentelemetry import metrics\n"
        "from opentelemetry.sdk.metrics import MeterProvider\n"
        "from opentelemetry.sdk.metrics.export import InMemoryMetricReader\n"
        "reader = InMemoryMetricReader(); provider = MeterProvider([reader]); metrics.set_meter_provider(provider)\n"
        "import connectsoft_obs as obs\n"
        "telemetry = obs.configure(service='shop')\n"
        "assert metrics.get_meter_provider() is provider\n"
        "metrics.get_meter('x').create_counter('a.b').add(1)\n"
        "print(telemetry.meters.has_instruments(), bool(reader.get_metrics_data()))\n"
    )
    assert _run_python(code).split() == ["False", "True"]


def test_sdk_is_not_imported_before_the_first_measurement() -> None:
    code = (
        "import sys, connectsoft_obs as obs\n"
        "obs.configure(service='shop', instrumentations='none').serve()\n"
        "from opentelemetry import metrics\n"
        "counter = metrics.get_meter('x').create_counter('a.b')\n"
        "assert 'opentelemetry.sdk.metrics' not in sys.modules\n"
        "counter.add(1)\n"
        "assert 'opentelemetry.sdk.metrics' in sys.modules\n"
    )
    _run_python(code)


def _run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout


# --- prometheus_client ------------------------------------------------------------------------------------------------
@pytest.fixture
def registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    Counter("c", "Counter.", ["a"], registry=registry, unit="seconds").labels("x").inc(2.5)
    Gauge("g", "Gauge.", registry=registry).set(-3)
    histogram = Histogram("h", "Histogram.", ["a"], registry=registry, buckets=(1, 2))
    for value in (0.5, 1.5, 1.5, 9):
        histogram.labels("y").observe(value)
    summary = Summary("s", "Summary.", registry=registry)
    summary.observe(2)
    summary.observe(3)
    Info("i", "Info.", registry=registry).info({"version": "1"})
    Enum("e", "Enum.", states=["on", "off"], registry=registry).state("off")
    return registry


def test_client_family_types_are_converted_with_their_names(registry: CollectorRegistry) -> None:
    from opentelemetry.proto.metrics.v1.metrics_pb2 import ScopeMetrics

    encoded = b"".join(otlp_encoder.encode_metrics(prometheus_client.snapshots(registry.collect()), 1, 2))
    exported = {metric.name: metric for metric in ScopeMetrics.FromString(encoded).metrics}
    kinds = {name: decode_attributes(metric.metadata)["prometheus.type"] for name, metric in exported.items()}
    assert kinds == {
        "c_seconds": "counter", "g": "gauge", "h": "histogram", "s": "summary", "i_info": "info", "e": "stateset",
    }  # fmt: skip
    assert (exported["c_seconds"].unit, exported["c_seconds"].sum.is_monotonic) == ("s", True)
    assert exported["c_seconds"].sum.data_points[0].as_double == 2.5
    assert decode_attributes(exported["c_seconds"].sum.data_points[0].attributes) == {"a": "x"}
    assert exported["g"].gauge.data_points[0].as_int == -3
    [point] = exported["h"].histogram.data_points
    assert (point.count, point.sum, list(point.bucket_counts), list(point.explicit_bounds)) == (
        4,
        12.5,
        [1, 2, 1],
        [1, 2],
    )
    [total] = exported["s"].histogram.data_points
    assert (total.count, total.sum) == (2, 5)
    assert [(decode_attributes(point.attributes), point.as_int) for point in exported["i_info"].sum.data_points] == [
        ({"version": "1"}, 1)
    ]
    assert {decode_attributes(point.attributes)["e"]: point.as_int for point in exported["e"].sum.data_points} == {
        "on": 0,
        "off": 1,
    }


def test_client_families_are_scraped_and_exported() -> None:
    with HttpSink() as sink:
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "OTEL_METRIC_EXPORT_INTERVAL": "200"}
        with uvicorn("shop:app", env=env) as service:
            service.wait_until_ready()
            for _ in range(3):
                httpx.get(f"{service.url}/order")
            page = scrape(service.url)
            assert page.value("legacy_sales_total", shop="north") == 3
            assert page.value("parcels_shipped_total", carrier="dhl") == 6
            assert page.value("warehouse_load", hall="a") == 7
            assert page.has("process_cpu_seconds_total")

            def exported_value(name: str) -> float:
                metric = sink.received.metric(name)
                return sum(point.as_int or point.as_double for point in metric.sum.data_points) if metric else -1

            wait_for(lambda: exported_value("legacy_sales") == 3, 10, "the prometheus_client counter is exported")
            wait_for(lambda: exported_value("parcels.shipped") == 6, 10, "the Meter API counter is exported")
            assert exported_value("process.cpu.time") > 0
            assert sink.received.metric("warehouse.load").gauge.data_points[0].as_int == 7
            resources = {tuple(sorted(resource.items())) for resource in sink.received.resources}
            assert len(resources) == 1, "all exports have the same resource"


class FailingCollector:
    """A collector that raises after its first family."""

    def describe(self) -> list[Any]:
        return []

    def collect(self) -> Iterator[Any]:
        yield GaugeMetricFamily("before_error", "Before the error.", 1)
        raise RuntimeError("no database")


def test_failing_collector_does_not_fail_the_page() -> None:
    collector = FailingCollector()
    REGISTRY.register(collector)
    try:
        with capture(service="shop") as seen:
            obs.get_logger().info("begin")
            page = render_page(seen)
            assert page.value("before_error") == 1
            assert page.has("target_info")
            assert (
                render_page(seen).value("connectsoft_obs_errors_total", connectsoft_obs_where="metrics.collector") >= 1
            )
    finally:
        REGISTRY.unregister(collector)


def test_client_families_are_aggregated_in_multiprocess_mode(tmp_path: Path) -> None:
    env = {
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path),
        "CONNECTSOFT_OBS_METRICS_MULTIPROCESS_DIR": str(tmp_path / "connectsoft_obs"),
    }
    (tmp_path / "connectsoft_obs").mkdir()
    with gunicorn("shop:app", workers=3, env=env) as service:
        service.wait_until_ready()
        pids = {httpx.get(f"{service.url}/order").json()["pid"] for _ in range(60)}
        assert len(pids) > 1
        for _ in range(5):
            page = scrape(service.url)
            assert page.value("legacy_sales_total", shop="north") == 60
            assert page.value("orders_placed_total") == 60
            assert not page.has("python_gc_collections_total"), "describes one process only"
            assert page.value("process_threads") > 3
            assert not page.has("parcels_shipped_total"), "the share of one worker"
        assert "prometheus_client metrics are left out" not in service.output
        assert os.listdir(tmp_path)


@pytest.mark.parametrize("word", ["bucket", "count", "created", "info", "sum"])
def test_counter_with_a_reserved_last_word_is_exposed_with_total(word: str) -> None:
    with capture() as seen:
        obs.counter(f"tests.books.{word}").add(3)
        page = render_page(seen)
    assert page.value(f"tests_books_{word}_total") == 3
    assert seen.metric(f"tests.books.{word}").value == 3
