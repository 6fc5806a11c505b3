"""Our OTLP bytes say what the official SDK and encoder say for the same measurements."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from support.otlp import decode_attributes

from connectsoft_obs.export import otlp_request
from connectsoft_obs.signals.metrics import MetricRegistry, otlp_encoder
from connectsoft_obs.vocabulary import (
    ACTIVE_REQUESTS,
    CHECK_STATUS,
    JOB_LAST_SUCCESS,
    LOG_RECORDS,
    METRICS,
    REQUEST_DURATION,
    SCHEMA_URL,
    Instrument,
    Metric,
)

TEXT = some.text(max_size=20)
FINITE = some.floats(allow_nan=False, allow_infinity=False, width=32)


def ours(metrics: MetricRegistry, start: int = 1, now: int = 2) -> dict[str, Any]:
    """Our families as a collector decodes them, by name."""
    encoded = otlp_encoder.metrics(metrics.snapshots(), start, now)
    scope = otlp_request.scope("connectsoft_obs", "1", SCHEMA_URL, encoded)
    request = ExportMetricsServiceRequest.FromString(otlp_request.request({"service.name": "a"}, SCHEMA_URL, scope))
    [resource] = request.resource_metrics
    assert resource.schema_url == SCHEMA_URL
    [found] = resource.scope_metrics
    assert (found.scope.name, found.schema_url) == ("connectsoft_obs", SCHEMA_URL)
    return {metric.name: metric for metric in found.metrics}


def points(metric: Any) -> list[dict[str, Any]]:
    """Data points without their times, as plain values."""
    data = getattr(metric, metric.WhichOneof("data"))
    found = []
    for point in data.data_points:
        plain: dict[str, Any] = {"attributes": decode_attributes(point.attributes)}
        if isinstance(point, metrics_pb2.HistogramDataPoint):
            plain |= {"count": point.count, "sum": point.sum, "bounds": list(point.explicit_bounds)}
            plain |= {"buckets": list(point.bucket_counts)}
            plain |= {"exemplars": [(e.as_double, e.trace_id, e.span_id) for e in point.exemplars]}
        else:
            kind = point.WhichOneof("value")
            plain |= {kind: getattr(point, kind)}
        found.append(plain)
    return sorted(found, key=lambda point: str(point["attributes"]))


@given(some.lists(some.tuples(some.sampled_from(["GET", "POST"]), some.floats(0, 20), some.booleans()), max_size=30))
def test_a_histogram_is_that_of_the_sdk(measurements: list[tuple[str, float, bool]]) -> None:
    reader = InMemoryMetricReader()
    meter = MeterProvider([reader], Resource({}), shutdown_on_exit=False).get_meter("connectsoft_obs")
    theirs = meter.create_histogram(
        REQUEST_DURATION.name,
        REQUEST_DURATION.unit,
        REQUEST_DURATION.help,
        explicit_bucket_boundaries_advisory=REQUEST_DURATION.buckets,
    )
    metrics = MetricRegistry(2000)
    family = metrics.family(REQUEST_DURATION)
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
    for method, value, sampled in measurements:
        series = family.histogram(method, "http", "200", "/items/{id}", "", "1.1")
        labels: dict[str, Any] = {
            "http.request.method": method,
            "url.scheme": "http",
            "http.response.status_code": 200,
            "http.route": "/items/{id}",
            "network.protocol.version": "1.1",
        }
        if sampled:
            with tracer.start_as_current_span("request") as span:
                theirs.record(value, labels)
                context = span.get_span_context()
                series.exemplify(series.observe(value), value, context.trace_id, context.span_id)
        else:
            theirs.record(value, labels)
            series.observe(value)
    data = reader.get_metrics_data()
    if not measurements:
        assert REQUEST_DURATION.name not in ours(metrics)
        return
    assert data is not None
    [expected] = encode_metrics(data).resource_metrics[0].scope_metrics[0].metrics
    found = ours(metrics)[REQUEST_DURATION.name]
    assert (found.name, found.unit, found.description) == (expected.name, expected.unit, expected.description)
    assert found.histogram.aggregation_temporality == expected.histogram.aggregation_temporality == 2
    for one, other in zip(points(found), points(expected), strict=True):
        assert one.pop("sum") == pytest.approx(other.pop("sum"))
        assert sorted(one.pop("exemplars")) == sorted(other.pop("exemplars"))
        assert one == other


@given(some.dictionaries(some.tuples(TEXT, TEXT), FINITE, max_size=8))
def test_numbers_are_what_was_added(values: dict[tuple[str, str], float]) -> None:
    metrics = MetricRegistry(2000)
    family = metrics.family(ACTIVE_REQUESTS)
    for labels, value in values.items():
        family.number(*labels).set(value)
    found = ours(metrics).get(ACTIVE_REQUESTS.name)
    assert (found is None) == (not values)
    if found is None:
        return
    assert not found.sum.is_monotonic
    assert found.sum.aggregation_temporality == 2
    assert len(found.sum.data_points) == len(family.children)
    for point in found.sum.data_points:
        kind = point.WhichOneof("value")
        given_ = decode_attributes(point.attributes)
        labels = (given_.get("http.request.method", ""), given_.get("url.scheme", ""))
        assert getattr(point, kind) == family.children[labels].cells[0]
        assert "" not in given_.values(), "an empty label is an absent one"
        assert (point.start_time_unix_nano, point.time_unix_nano) == (1, 2)


@pytest.mark.parametrize("value", [0.0, -1.5, 2.0**62, 2.0**70, -(2.0**70), math.inf, -math.inf, math.nan, 5e-324])
def test_no_number_breaks_a_request(value: float) -> None:
    metrics = MetricRegistry(2000)
    metrics.family(ACTIVE_REQUESTS).number("GET", "http").set(value)
    [point] = ours(metrics)[ACTIVE_REQUESTS.name].sum.data_points
    found = getattr(point, point.WhichOneof("value"))
    assert found == value or (math.isnan(found) and math.isnan(value))


def test_each_instrument_has_its_kind() -> None:
    metrics = MetricRegistry(2000)
    metrics.add(LOG_RECORDS, ("info",), 3)
    metrics.family(JOB_LAST_SUCCESS).number("report").set(1.7e9)
    metrics.family(CHECK_STATUS).number("postgres", "readiness").set(1)
    found = ours(metrics)
    records = found[LOG_RECORDS.name]
    assert (records.sum.is_monotonic, records.sum.data_points[0].as_int) == (True, 3)
    moment = found[JOB_LAST_SUCCESS.name]
    assert (moment.unit, moment.gauge.data_points[0].as_double) == ("s", 1.7e9)
    states = {
        decode_attributes(point.attributes)["connectsoft.health.state"]: point.as_int
        for point in found[CHECK_STATUS.name].sum.data_points
    }
    assert states == {"healthy": 0, "degraded": 1, "unhealthy": 0}


def test_a_status_code_is_an_integer_and_every_other_label_is_text() -> None:
    metrics = MetricRegistry(2000)
    metrics.family(REQUEST_DURATION).histogram("GET", "http", "404", "", "", "2").observe(1)
    [point] = ours(metrics)[REQUEST_DURATION.name].histogram.data_points
    found = decode_attributes(point.attributes)
    assert found == {
        "http.request.method": "GET",
        "url.scheme": "http",
        "http.response.status_code": 404,
        "network.protocol.version": "2",
    }
    assert type(found["http.response.status_code"]) is int


def test_every_metric_of_the_vocabulary_can_be_sent() -> None:
    metrics = MetricRegistry(2000)
    for metric in METRICS:
        labels = tuple("200" if label == "http.response.status_code" else "x" for label in metric.labels)
        labels = labels[:-1] if metric.instrument is Instrument.STATE else labels
        child = metrics.family(metric).child(labels)
        child.cells[0] += 1
    found = ours(metrics)
    assert set(found) == {metric.name for metric in METRICS}
    for metric in METRICS:
        assert (found[metric.name].unit, found[metric.name].description) == (metric.unit, metric.help)


def test_families_are_split_over_requests_that_no_collector_refuses() -> None:
    metrics = MetricRegistry(20_000)
    for kind in ("a", "b", "c"):
        family = metrics.family(Metric(f"big.{kind}", Instrument.HISTOGRAM, "s", "Big.", ("route",), (1.0,) * 14))
        for number in range(4000):
            family.histogram(f"/route/{number}/of/many").observe(1)
    encoded = otlp_encoder.metrics(metrics.snapshots(), 1, 2)
    parts = list(otlp_encoder.parts(encoded))
    assert b"".join(parts) == b"".join(encoded)
    assert len(parts) > 1
    assert all(len(part) < 4 * 1024 * 1024 for part in parts)
