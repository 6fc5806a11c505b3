"""Application metrics: recording, exemplars, cardinality, naming rules, and export by scrape and OTLP."""

from __future__ import annotations

import math
import threading
from typing import Any

import httpx
import pytest
from opentelemetry import trace
from support.exposition import scrape
from support.otlp import HttpSink, decode_attributes
from support.process import uvicorn, wait_for

import connectsoft_obs as obs
from connectsoft_obs.signals.metrics.instruments import COUNT_BUCKETS, SIZE_BUCKETS
from connectsoft_obs.testing import capture, frozen_clock
from connectsoft_obs.vocabulary import REQUEST_BUCKETS

counter = obs.counter("tests.items.sold", unit="{item}", labels=("colour", "shop.size"), help="Number of items.")
plain = obs.counter("tests.plain")
level = obs.gauge("tests.level", unit="{litre}", labels=("tank",))
INVALID: Any = "average"
duration = obs.histogram("tests.wait", unit="s", labels=("kind",))


def test_counter_has_a_series_per_label_set() -> None:
    with capture() as seen:
        counter.add(1, colour="red")
        counter.add(2.5, colour="red", shop_size="big")
        counter.add(3, {"colour": "red", "shop.size": "big"})
        counter.add()
    assert seen.metric("tests.items.sold", colour="red", shop_size="big").value == 5.5
    assert seen.metric("tests.items.sold", colour="red").value == 6.5
    assert seen.metric("tests.items.sold").value == 7.5


def test_gauge_can_be_set_increased_and_decreased() -> None:
    with capture() as seen:
        level.set(5, tank="a")
        level.add(3, tank="a")
        level.add(-1, tank="a")
        level.set(2, tank="b")
    assert seen.metric("tests.level", tank="a").value == 7
    assert seen.metric("tests.level").value == 9


def test_exemplar_of_a_bucket_is_replaced_at_most_every_10_ms() -> None:
    @obs.job("quick")
    def quick() -> None: ...

    with frozen_clock() as clock, capture() as seen:
        for pause in (0.0, 0.004, 0.007):
            clock.advance(pause)
            quick()
            [exemplar] = seen.metric("connectsoft.job.duration").exemplars
            expected = seen.spans[-1 if pause == 0.007 else 0]
            assert exemplar.trace_id == expected.context.trace_id


def test_histogram_has_exemplars_of_sampled_spans_only() -> None:
    with capture() as seen:
        duration.record(0.02, kind="x")
        with obs.operation("work"):
            duration.record(0.3, kind="x")
            span_context = trace.get_current_span().get_span_context()
    data = seen.metric("tests.wait", kind="x")
    assert data.count == 2
    assert data.sum == pytest.approx(0.32)
    assert [(exemplar.value, exemplar.trace_id, exemplar.span_id) for exemplar in data.exemplars] == [
        (0.3, span_context.trace_id, span_context.span_id)
    ]
    with capture(traces_sampler="always_off") as seen, obs.operation("work"):
        duration.record(0.3, kind="x")
    assert seen.metric("tests.wait").exemplars == ()
    with capture(exemplar_filter="always_off") as seen, obs.operation("work"):
        duration.record(0.3, kind="x")
    assert seen.metric("tests.wait").exemplars == ()


def test_instrument_records_into_the_innermost_capture() -> None:
    with capture() as outer:
        plain.add(1)
        with capture() as inner:
            plain.add(10)
        plain.add(1)
    assert outer.metric("tests.plain").value == 2
    assert inner.metric("tests.plain").value == 10


def test_counter_without_labels_starts_at_zero() -> None:
    """`rate()` includes the first increase only if the series existed before it."""
    with capture() as seen:
        plain.metric  # noqa: B018  created when this module was imported
        obs.get_logger().info("something else")
    assert seen.metric("tests.plain").value == 0
    assert seen.metric("tests.plain").series == ({},)


def test_gauge_without_a_value_has_no_series() -> None:
    """Zero would be the minimum of all workers, and as a timestamp it would mean 1970."""
    obs.gauge("tests.unset", merge="min")
    obs.gauge("tests.unset.timestamp", unit="s", merge="latest")
    with capture() as seen:
        obs.get_logger().info("begin")
        assert seen.telemetry is not None
        series = {snapshot.metric.name: snapshot.series for snapshot in seen.telemetry.metrics.snapshots()}
    assert (series["tests.unset"], series["tests.unset.timestamp"]) == ({}, {})


def test_instrument_can_be_used_by_several_threads() -> None:
    with capture() as seen:

        def count() -> None:
            for number in range(1000):
                counter.add(1, colour=f"c{number % 5}")

        threads = [threading.Thread(target=count) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert seen.metric("tests.items.sold").value == 8000


@pytest.mark.parametrize(
    "record",
    [
        lambda: counter.add(-1, colour="red"),
        lambda: counter.add(math.nan, colour="red"),
        lambda: counter.add(math.inf, colour="red"),
        lambda: counter.add(INVALID, colour="red"),
        lambda: duration.record(math.nan, kind="x"),
        lambda: duration.record(INVALID, kind="x"),
        lambda: level.set(INVALID, tank="a"),
        lambda: counter.add(1, INVALID),
    ],
)
def test_invalid_measurement_is_counted_as_error_and_does_not_raise(record: Any) -> None:
    with capture() as seen:
        record()
    assert seen.metric("connectsoft.obs.errors").value == 1
    for name in ("tests.items.sold", "tests.level"):
        assert math.isfinite(seen.metric(name).value)
    assert math.isfinite(seen.metric("tests.wait").sum)
    assert [line["severity"] for line in seen.logs] == ["WARN"]


def test_undeclared_label_is_ignored_and_logged_once() -> None:
    with capture() as seen:
        counter.add(1, colour="red", customer="alice@example.com")
        counter.add(1, colour="red", customer="bob@example.com")
    assert seen.metric("tests.items.sold").value == 2
    assert seen.metric("tests.items.sold").series == ({"colour": "red"},)
    [line] = seen.logs
    assert "no label customer; allowed labels: colour, shop.size" in line["connectsoft.obs.error"]
    assert "alice" not in str(line)


def test_label_values_of_any_type_are_converted_to_text() -> None:
    class Custom:
        def __str__(self) -> str:
            return "custom"

    with capture() as seen:
        for value in (True, 7, 1.5, None, Custom(), ["a"], {"b": 1}, "x" * 5000, b"raw"):
            counter.add(1, colour=value)
    values = {series.get("colour", "")[:20] for series in seen.metric("tests.items.sold").series}
    assert values == {"true", "7", "1.5", "", "custom", "['a']", "{'b': 1}", "x" * 20, "b'raw'"}


def test_tenant_label_is_limited_to_the_allow_list() -> None:
    per_tenant = obs.counter("tests.per_tenant", labels=("connectsoft.tenant.id", "tier"))
    with capture(metric_tenants=("acme",)) as seen:
        for tenant in ("acme", "globex", "initech", ""):
            per_tenant.add(1, connectsoft_tenant_id=tenant, tier="gold")
    values = {
        series["connectsoft_tenant_id"]: seen.metric("tests.per_tenant", **series).value
        for series in seen.metric("tests.per_tenant").series
    }
    assert values == {"acme": 1, "_OTHER": 3}


def test_default_buckets_depend_on_the_unit() -> None:
    assert duration.metric.buckets == REQUEST_BUCKETS
    assert obs.histogram("tests.body", unit="By").metric.buckets == SIZE_BUCKETS
    assert obs.histogram("tests.batch", unit="{item}").metric.buckets == COUNT_BUCKETS
    assert obs.histogram("tests.own", unit="{item}", buckets=[1, 2.5]).metric.buckets == (1.0, 2.5)


def test_identical_definitions_share_one_metric() -> None:
    same = obs.counter("tests.plain")
    with capture() as seen:
        plain.add(1)
        same.add(1)
    assert seen.metric("tests.plain").value == 2


@pytest.mark.parametrize(
    ("define", "why", "instead"),
    [
        (lambda: obs.counter("Orders Placed"), "lower-case words", "orders.placed"),
        (lambda: obs.counter(""), "lower-case words", ""),
        (lambda: obs.counter("http.server.orders"), "reserved for OpenTelemetry", "shop.http.server.orders"),
        (lambda: obs.counter("connectsoft.orders"), "reserved for OpenTelemetry", ""),
        (lambda: obs.counter("orders.total"), "Prometheus adds 'total'", "Remove"),
        (lambda: obs.histogram("orders.count"), "Prometheus adds 'count'", "Remove"),
        (lambda: obs.histogram("wait.seconds"), "unit 'seconds' is in the name", 'unit="s"'),
        (lambda: obs.gauge("fill", unit="1"), "append 'ratio' to the name", ".ratio"),
        (lambda: obs.counter("orders", unit="many orders"), "not a UCUM unit", "{order}"),
        (lambda: obs.gauge("process.cpus"), "reserved for OpenTelemetry", ""),
        (lambda: obs.gauge("process_cpus"), "already used", "a namespace of your own"),
        (lambda: obs.gauge("python_version"), "already used", "a namespace of your own"),
        (lambda: obs.counter("a.b", labels=("user_id",)), "number of ids is unlimited", "obs.bind()"),
        (lambda: obs.counter("a.b", labels=("connectsoft.run.id",)), "number of ids is unlimited", "obs.bind()"),
        (lambda: obs.counter("a.b", labels=("le",)), "reserved by Prometheus", "another name"),
        (lambda: obs.counter("a.b", labels=("otel_scope_name",)), "reserved by Prometheus", "another name"),
        (lambda: obs.counter("a.b", labels=("instance",)), "reserved by Prometheus", "another name"),
        (lambda: obs.counter("a.b", labels=("Tier",)), "lower-case words", "tier"),
        (lambda: obs.counter("a.b", labels="tier"), "must be a tuple of strings", 'labels=("tier",)'),
        (lambda: obs.counter("a.b", labels=("connectsoft.tier",)), "reserved for this package", "Rename"),
        (lambda: obs.counter("a.b", labels=("a.b", "a_b")), "same name in Prometheus", "Rename"),
        (lambda: obs.histogram("a.b", buckets=(2, 1)), "in ascending order", "buckets="),
        (lambda: obs.histogram("a.b", buckets=(1, math.inf)), "finite numbers", "+Inf bucket is added automatically"),
        (lambda: obs.histogram("a.b", buckets=()), "finite numbers", ""),
        (lambda: obs.gauge("a.b", merge=INVALID), "not one of sum, max, min, latest", "Choose"),
        (lambda: obs.gauge("tests.plain"), "counter('tests.plain') has the same name", "rename one of the two"),
        (lambda: obs.counter("tests.plain", unit="{x}"), "a different definition", "Define it once"),
        (lambda: obs.gauge("tests_plain"), "counter('tests.plain') has the same name", "rename one of the two"),
    ],
)  # fmt: skip
def test_definition_that_violates_a_rule_is_rejected_with_a_correction(define: Any, why: str, instead: str) -> None:
    with pytest.raises(obs.ConfigurationError) as raised:
        define()
    assert why in raised.value.why
    assert instead in raised.value.instead


def test_recording_with_an_invalid_configuration_does_not_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    from connectsoft_obs.telemetry import TelemetryHolder, pop_capture, push_capture
    from connectsoft_obs.telemetry.telemetry import Telemetry

    monkeypatch.setenv("CONNECTSOFT_OBS_CARDINALITY_LIMIT", "many")
    holder = TelemetryHolder(Telemetry)
    push_capture(holder)
    try:
        plain.add(1)
        level.set(1, tank="a")
        duration.record(1)
    finally:
        pop_capture(holder)
    assert holder.telemetry is None


def test_scrape_and_otlp_have_the_same_values() -> None:
    with HttpSink() as sink:
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "OTEL_METRIC_EXPORT_INTERVAL": "200"}
        with uvicorn("shop:app", env=env) as service:
            service.wait_until_ready()
            assert scrape(service.url).value("mail_queue_depth") == 0, (
                "the gauge does not exist before the first measurement"
            )
            for tier, size in (("gold", 50), ("gold", 500), ("free", 5000)):
                httpx.get(f"{service.url}/order", params={"tier": tier, "size": size})
            httpx.get(f"{service.url}/queue/12")
            page = scrape(service.url)

            def exported_orders() -> dict[str, float]:
                metric = sink.received.metric("orders.placed")
                points = metric.sum.data_points if metric else []
                return {decode_attributes(point.attributes)["tier"]: point.as_int for point in points}

            wait_for(lambda: exported_orders() == {"gold": 2, "free": 1}, 10, "three orders over OTLP")
            assert page.value("orders_placed_total", tier="gold") == 2
            assert page.value("orders_placed_total", tier="free") == 1
            assert page.families["orders_placed"].documentation == "Number of orders."
            wait_for(lambda: sink.received.metric("mail.queue.depth").gauge.data_points[0].as_int == 12, 10)
            assert page.value("mail_queue_depth") == 12
            size = sink.received.metric("report.size")
            assert (size.unit, list(size.histogram.data_points[0].explicit_bounds)) == ("By", [100, 1000])
            assert list(size.histogram.data_points[0].bucket_counts) == [1, 1, 1]
            assert page.value("report_size_bytes_bucket", le="1000.0") == 2
            assert sink.received.metric("orders.placed").unit == "{order}"
            trace_id = size.histogram.data_points[0].exemplars[0].trace_id.hex()
            assert trace_id in {exemplar.labels["trace_id"] for exemplar in page.exemplars("report_size_bytes_bucket")}
