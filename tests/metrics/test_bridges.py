"""Metrics that others made, with prometheus_client or with OpenTelemetry's Meter API, go the same ways out, once."""

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

meter = metrics.get_meter("tests.before")
"""Taken before anything of ours was set up, as libraries do at import."""

early = meter.create_counter("early.birds", unit="{bird}", description="Made at import.")


def written(seen: Any, openmetrics: bool = True) -> MetricsPage:
    headers = {b"accept": b"application/openmetrics-text"} if openmetrics else {}
    answered = EndpointRouter(seen.telemetry).pages["/metrics"](EndpointRequest("GET", b"", headers, None))
    assert answered.status == 200
    return parse_page(answered.body.decode(), openmetrics)


# --- OpenTelemetry's Meter API ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("openmetrics", [False, True])
def test_every_instrument_of_the_meter_api_is_on_the_page(openmetrics: bool) -> None:
    with capture(service="shop") as seen:
        obs.get_logger().info("begin")
        own = metrics.get_meter("tests.all", "2.0")
        early.add(3, {"kind": "robin", "ringed": True})
        own.create_up_down_counter("nests.open", "{nest}").add(-2)
        own.create_histogram("flight.duration", "ms", explicit_bucket_boundaries_advisory=[10, 100]).record(
            50, {"n": 1}
        )
        own.create_gauge("feeder.weight", "g").set(12.5)
        found = written(seen, openmetrics)
    assert found.value("early_birds_total", kind="robin", ringed="true") == 3
    assert found.value("nests_open") == -2
    assert found.value("flight_duration_milliseconds_bucket", le="100.0", n="1") == 1
    assert found.value("flight_duration_milliseconds_sum") == 50
    assert found.value("feeder_weight_grams") == 12.5
    assert found.families["early_birds"].documentation == "Made at import."


def test_observable_instruments_are_asked_at_each_scrape_of_each_telemetry() -> None:
    asked = 0

    def callback(_: Any) -> Iterator[metrics.Observation]:
        nonlocal asked
        asked += 1
        yield metrics.Observation(asked, {"hall": "a"})

    with capture(service="shop") as seen:
        obs.get_logger().info("begin")
        meter.create_observable_gauge("hall.load", [callback])
        meter.create_observable_counter("hall.visits", [lambda _: [metrics.Observation(9)]])
        meter.create_observable_up_down_counter("hall.seats", [lambda _: [metrics.Observation(-4)]])
        first, second = written(seen), written(seen)
        assert (first.value("hall_load"), second.value("hall_load")) == (1, 2)
        assert (first.value("hall_visits_total"), first.value("hall_seats")) == (9, -4)
    with capture(service="shop") as seen:
        obs.get_logger().info("begin")
        assert written(seen).value("hall_load") == 3, "another Telemetry observes it too"


def test_instruments_follow_captures_and_begin_at_zero() -> None:
    for _ in range(2):
        with capture(service="shop") as seen:
            obs.get_logger().info("begin")
            early.add(1)
            assert written(seen).value("early_birds_total") == 1


def test_an_instrument_that_the_sdk_refuses_does_not_stop_who_records() -> None:
    with capture(service="shop") as seen:
        obs.get_logger().info("begin")
        meter.create_counter("no spaces allowed").add(1)
        meter.create_counter("no spaces allowed").add(1)
        assert written(seen).value("connectsoft_obs_errors_total", connectsoft_obs_where="metrics.meter") == 2


def test_a_histogram_of_theirs_has_exemplars_too() -> None:
    with capture(service="shop") as seen:
        with obs.operation("work"):
            meter.create_histogram("nest.size", "{egg}").record(3)
            here = trace.get_current_span().get_span_context()
        [exemplar] = written(seen).exemplars("nest_size_bucket")
    assert exemplar.labels["trace_id"] == f"{here.trace_id:032x}"


def test_a_provider_that_somebody_set_before_us_is_kept() -> None:
    code = (
        "from opentelemetry import metrics\n"
        "from opentelemetry.sdk.metrics import MeterProvider\n"
        "from opentelemetry.sdk.metrics.export import InMemoryMetricReader\n"
        "reader = InMemoryMetricReader(); theirs = MeterProvider([reader]); metrics.set_meter_provider(theirs)\n"
        "import connectsoft_obs as obs\n"
        "telemetry = obs.configure(service='shop')\n"
        "assert metrics.get_meter_provider() is theirs\n"
        "metrics.get_meter('x').create_counter('a.b').add(1)\n"
        "print(telemetry.meters.used(), bool(reader.get_metrics_data()))\n"
    )
    assert _run(code).split() == ["False", "True"]


def test_nothing_of_the_sdk_is_imported_before_something_is_recorded() -> None:
    code = (
        "import sys, connectsoft_obs as obs\n"
        "obs.configure(service='shop', instrumentations='none').serve()\n"
        "from opentelemetry import metrics\n"
        "counter = metrics.get_meter('x').create_counter('a.b')\n"
        "assert 'opentelemetry.sdk.metrics' not in sys.modules\n"
        "counter.add(1)\n"
        "assert 'opentelemetry.sdk.metrics' in sys.modules\n"
    )
    _run(code)


def _run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout


# --- prometheus_client ------------------------------------------------------------------------------------------------
@pytest.fixture
def registry() -> CollectorRegistry:
    made = CollectorRegistry()
    Counter("c", "Counter.", ["a"], registry=made, unit="seconds").labels("x").inc(2.5)
    Gauge("g", "Gauge.", registry=made).set(-3)
    histogram = Histogram("h", "Histogram.", ["a"], registry=made, buckets=(1, 2))
    for value in (0.5, 1.5, 1.5, 9):
        histogram.labels("y").observe(value)
    summary = Summary("s", "Summary.", registry=made)
    summary.observe(2)
    summary.observe(3)
    Info("i", "Info.", registry=made).info({"version": "1"})
    Enum("e", "Enum.", states=["on", "off"], registry=made).state("off")
    return made


def test_each_kind_of_a_plain_family_is_bridged_under_its_own_name(registry: CollectorRegistry) -> None:
    from opentelemetry.proto.metrics.v1.metrics_pb2 import ScopeMetrics

    encoded = b"".join(otlp_encoder.metrics(prometheus_client.snapshots(registry.collect()), 1, 2))
    found = {metric.name: metric for metric in ScopeMetrics.FromString(encoded).metrics}
    kinds = {name: decode_attributes(metric.metadata)["prometheus.type"] for name, metric in found.items()}
    assert kinds == {
        "c_seconds": "counter", "g": "gauge", "h": "histogram", "s": "summary", "i_info": "info", "e": "stateset",
    }  # fmt: skip
    assert (found["c_seconds"].unit, found["c_seconds"].sum.is_monotonic) == ("s", True)
    assert found["c_seconds"].sum.data_points[0].as_double == 2.5
    assert decode_attributes(found["c_seconds"].sum.data_points[0].attributes) == {"a": "x"}
    assert found["g"].gauge.data_points[0].as_int == -3
    [point] = found["h"].histogram.data_points
    assert (point.count, point.sum, list(point.bucket_counts), list(point.explicit_bounds)) == (
        4,
        12.5,
        [1, 2, 1],
        [1, 2],
    )
    [total] = found["s"].histogram.data_points
    assert (total.count, total.sum) == (2, 5)
    assert [(decode_attributes(p.attributes), p.as_int) for p in found["i_info"].sum.data_points] == [
        ({"version": "1"}, 1)
    ]
    assert {decode_attributes(p.attributes)["e"]: p.as_int for p in found["e"].sum.data_points} == {"on": 0, "off": 1}


def test_plain_families_are_on_the_page_and_sent_over_otlp() -> None:
    with HttpSink() as sink:
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "OTEL_METRIC_EXPORT_INTERVAL": "200"}
        with uvicorn("shop:app", env=env) as service:
            service.wait_until_ready()
            for _ in range(3):
                httpx.get(f"{service.url}/order")
            found = scrape(service.url)
            assert found.value("legacy_sales_total", shop="north") == 3
            assert found.value("parcels_shipped_total", carrier="dhl") == 6
            assert found.value("warehouse_load", hall="a") == 7
            assert found.has("process_cpu_seconds_total")

            def sent(name: str) -> float:
                metric = sink.received.metric(name)
                return sum(p.as_int or p.as_double for p in metric.sum.data_points) if metric else -1

            wait_for(lambda: sent("legacy_sales") == 3, 10, "the plain counter")
            wait_for(lambda: sent("parcels.shipped") == 6, 10, "the counter of the Meter API")
            assert sent("process_cpu_seconds") > 0
            assert sink.received.metric("warehouse.load").gauge.data_points[0].as_int == 7
            resources = {tuple(sorted(r.items())) for r in sink.received.resources}
            assert len(resources) == 1, "all of them are reported by the same process of the same service"


class Breaking:
    """A collector that raises after its first family."""

    def describe(self) -> list[Any]:
        return []

    def collect(self) -> Iterator[Any]:
        yield GaugeMetricFamily("before_it_broke", "Fine.", 1)
        raise RuntimeError("no database")


def test_a_collector_that_raises_costs_itself_and_not_the_page() -> None:
    broken = Breaking()
    REGISTRY.register(broken)
    try:
        with capture(service="shop") as seen:
            obs.get_logger().info("begin")
            found = written(seen)
            assert found.value("before_it_broke") == 1
            assert found.has("target_info")
            assert written(seen).value("connectsoft_obs_errors_total", connectsoft_obs_where="metrics.collector") >= 1
    finally:
        REGISTRY.unregister(broken)


def test_plain_families_add_up_where_their_directory_is_set(tmp_path: Path) -> None:
    env = {
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path),
        "CONNECTSOFT_OBS_METRICS_MULTIPROCESS_DIR": str(tmp_path / "ours"),
    }
    (tmp_path / "ours").mkdir()
    with gunicorn("shop:app", workers=3, env=env) as service:
        service.wait_until_ready()
        pids = {httpx.get(f"{service.url}/order").json()["pid"] for _ in range(60)}
        assert len(pids) > 1
        for _ in range(5):
            found = scrape(service.url)
            assert found.value("legacy_sales_total", shop="north") == 60
            assert found.value("orders_placed_total") == 60
            assert not found.has("python_gc_collections_total"), "of one process alone"
            assert found.value("process_threads") > 3
        assert "made with prometheus_client itself" not in service.output
        assert os.listdir(tmp_path)
