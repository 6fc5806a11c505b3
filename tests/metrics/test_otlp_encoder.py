"""The OTLP encoding of metrics equals that of the SDK and the official encoder for the same measurements."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
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

TEXT = st.text(max_size=20)
FINITE = st.floats(allow_nan=False, allow_infinity=False, width=32)


def decoded_metrics(metrics: MetricRegistry, start: int = 1, now: int = 2) -> dict[str, Any]:
    """The encoded metrics as a collector decodes them, by name."""
    encoded = otlp_encoder.encode_metrics(metrics.snapshots(), start, now)
    scope = otlp_request.scope("connectsoft_obs", "1", SCHEMA_URL, encoded)
    request = ExportMetricsServiceRequest.FromString(otlp_request.request({"service.name": "a"}, SCHEMA_URL, scope))
    [resource] = request.resource_metrics
    assert resource.schema_url == SCHEMA_URL
    [scope_metrics] = resource.scope_metrics
    assert (scope_metrics.scope.name, scope_metrics.schema_url) == ("connectsoft_obs", SCHEMA_URL)
    return {metric.name: metric for metric in scope_metrics.metrics}


def data_points(metric: Any) -> list[dict[str, Any]]:
    """The data points without their times, as Python values."""
    data = getattr(metric, metric.WhichOneof("data"))
    points = []
    for point in data.data_points:
        values: dict[str, Any] = {"attributes": decode_attributes(point.attributes)}
        if isinstance(point, metrics_pb2.HistogramDataPoint):
            values |= {"count": point.count, "sum": point.sum, "bounds": list(point.explicit_bounds)}
            values |= {"buckets": list(point.bucket_counts)}
            values |= {
                "exemplars": [(exemplar.as_double, exemplar.trace_id, exemplar.span_id) for exemplar in point.exemplars]
            }
        else:
            kind = point.WhichOneof("value")
            values |= {kind: getattr(point, kind)}
        points.append(values)
    return sorted(points, key=lambda point: str(point["attributes"]))


@given(st.lists(st.tuples(st.sampled_from(["GET", "POST"]), st.floats(0, 20), st.booleans()), max_size=30))
def test_histogram_equals_that_of_the_sdk(measurements: list[tuple[str, float, bool]]) -> None:
    reader = InMemoryMetricReader()
    meter = MeterProvider([reader], Resource({}), shutdown_on_exit=False).get_meter("connectsoft_obs")
    sdk_histogram = meter.create_histogram(
        REQUEST_DURATION.name,
        REQUEST_DURATION.unit,
        REQUEST_DURATION.help,
        explicit_bucket_boundaries_advisory=REQUEST_DURATION.buckets,
    )
    metrics = MetricRegistry(2000)
    family = metrics.family(REQUEST_DURATION)
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
    for method, value, sampled in measurements:
        series = family.histogram_series(method, "http", "200", "/items/{id}", "", "1.1")
        labels: dict[str, Any] = {
            "http.request.method": method,
            "url.scheme": "http",
            "http.response.status_code": 200,
            "http.route": "/items/{id}",
            "network.protocol.version": "1.1",
        }
        if sampled:
            with tracer.start_as_current_span("request") as span:
                sdk_histogram.record(value, labels)
                context = span.get_span_context()
                series.add_exemplar(series.observe(value), value, context.trace_id, context.span_id)
        else:
            sdk_histogram.record(value, labels)
            series.observe(value)
    data = reader.get_metrics_data()
    if not measurements:
        assert REQUEST_DURATION.name not in decoded_metrics(metrics)
        return
    assert data is not None
    [expected] = encode_metrics(data).resource_metrics[0].scope_metrics[0].metrics
    actual = decoded_metrics(metrics)[REQUEST_DURATION.name]
    assert (actual.name, actual.unit, actual.description) == (expected.name, expected.unit, expected.description)
    assert actual.histogram.aggregation_temporality == expected.histogram.aggregation_temporality == 2
    for actual_point, expected_point in zip(data_points(actual), data_points(expected), strict=True):
        assert actual_point.pop("sum") == pytest.approx(expected_point.pop("sum"))
        assert sorted(actual_point.pop("exemplars")) == sorted(expected_point.pop("exemplars"))
        assert actual_point == expected_point


@given(st.dictionaries(st.tuples(TEXT, TEXT), FINITE, max_size=8))
def test_up_down_counter_has_the_recorded_values(values: dict[tuple[str, str], float]) -> None:
    metrics = MetricRegistry(2000)
    family = metrics.family(ACTIVE_REQUESTS)
    for labels, value in values.items():
        family.number_series(*labels).set(value)
    metric = decoded_metrics(metrics).get(ACTIVE_REQUESTS.name)
    assert (metric is None) == (not values)
    if metric is None:
        return
    assert not metric.sum.is_monotonic
    assert metric.sum.aggregation_temporality == 2
    assert len(metric.sum.data_points) == len(family.children)
    for point in metric.sum.data_points:
        kind = point.WhichOneof("value")
        attributes = decode_attributes(point.attributes)
        labels = (attributes.get("http.request.method", ""), attributes.get("url.scheme", ""))
        assert getattr(point, kind) == family.children[labels].cells[0]
        assert "" not in attributes.values(), "an empty label is encoded"
        assert (point.start_time_unix_nano, point.time_unix_nano) == (1, 2)


@pytest.mark.parametrize("value", [0.0, -1.5, 2.0**62, 2.0**70, -(2.0**70), math.inf, -math.inf, math.nan, 5e-324])
def test_any_number_can_be_encoded(value: float) -> None:
    metrics = MetricRegistry(2000)
    metrics.family(ACTIVE_REQUESTS).number_series("GET", "http").set(value)
    [point] = decoded_metrics(metrics)[ACTIVE_REQUESTS.name].sum.data_points
    encoded = getattr(point, point.WhichOneof("value"))
    assert encoded == value or (math.isnan(encoded) and math.isnan(value))


def test_instruments_are_encoded_as_their_otlp_types() -> None:
    metrics = MetricRegistry(2000)
    metrics.add(LOG_RECORDS, ("info",), 3)
    metrics.family(JOB_LAST_SUCCESS).number_series("report").set(1.7e9)
    metrics.family(CHECK_STATUS).number_series("postgres", "readiness").set(1)
    decoded = decoded_metrics(metrics)
    records = decoded[LOG_RECORDS.name]
    assert (records.sum.is_monotonic, records.sum.data_points[0].as_int) == (True, 3)
    timestamp = decoded[JOB_LAST_SUCCESS.name]
    assert (timestamp.unit, timestamp.gauge.data_points[0].as_double) == ("s", 1.7e9)
    states = {
        decode_attributes(point.attributes)["connectsoft.health.state"]: point.as_int
        for point in decoded[CHECK_STATUS.name].sum.data_points
    }
    assert states == {"healthy": 0, "degraded": 1, "unhealthy": 0}


def test_status_code_is_an_integer_and_other_labels_are_text() -> None:
    metrics = MetricRegistry(2000)
    metrics.family(REQUEST_DURATION).histogram_series("GET", "http", "404", "", "", "2").observe(1)
    [point] = decoded_metrics(metrics)[REQUEST_DURATION.name].histogram.data_points
    attributes = decode_attributes(point.attributes)
    assert attributes == {
        "http.request.method": "GET",
        "url.scheme": "http",
        "http.response.status_code": 404,
        "network.protocol.version": "2",
    }
    assert type(attributes["http.response.status_code"]) is int


def test_every_metric_of_the_vocabulary_can_be_encoded() -> None:
    metrics = MetricRegistry(2000)
    for metric in METRICS:
        labels = tuple("200" if label == "http.response.status_code" else "x" for label in metric.labels)
        labels = labels[:-1] if metric.instrument is Instrument.STATE else labels
        child = metrics.family(metric).child(labels)
        child.cells[0] += 1
    decoded = decoded_metrics(metrics)
    assert set(decoded) == {metric.name for metric in METRICS}
    for metric in METRICS:
        assert (decoded[metric.name].unit, decoded[metric.name].description) == (metric.unit, metric.help)


def test_metrics_are_split_into_requests_below_4_mib() -> None:
    metrics = MetricRegistry(20_000)
    for kind in ("a", "b", "c"):
        family = metrics.family(Metric(f"big.{kind}", Instrument.HISTOGRAM, "s", "Big.", ("route",), (1.0,) * 14))
        for number in range(4000):
            family.histogram_series(f"/route/{number}/of/many").observe(1)
    encoded = otlp_encoder.encode_metrics(metrics.snapshots(), 1, 2)
    parts = list(otlp_encoder.split_requests(encoded))
    assert b"".join(parts) == b"".join(encoded)
    assert len(parts) > 1
    assert all(len(part) < 4 * 1024 * 1024 for part in parts)
