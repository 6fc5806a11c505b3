"""Metrics of users: by the same rules, through the same firewall, on the same ways out."""

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

counter = obs.counter("tests.things.made", unit="{thing}", labels=("colour", "shop.size"), help="Number of things.")
plain = obs.counter("tests.plain")
level = obs.gauge("tests.level", unit="{litre}", labels=("tank",))
WRONG: Any = "average"
duration = obs.histogram("tests.wait", unit="s", labels=("kind",))


def test_a_counter_counts_by_its_labels() -> None:
    with capture() as seen:
        counter.add(1, colour="red")
        counter.add(2.5, colour="red", shop_size="big")
        counter.add(3, {"colour": "red", "shop.size": "big"})
        counter.add()
    assert seen.metric("tests.things.made", colour="red", shop_size="big").value == 5.5
    assert seen.metric("tests.things.made", colour="red").value == 6.5
    assert seen.metric("tests.things.made").value == 7.5


def test_a_gauge_is_what_it_was_set_to_and_can_go_up_and_down() -> None:
    with capture() as seen:
        level.set(5, tank="a")
        level.add(3, tank="a")
        level.add(-1, tank="a")
        level.set(2, tank="b")
    assert seen.metric("tests.level", tank="a").value == 7
    assert seen.metric("tests.level").value == 9


def test_the_exemplar_of_a_busy_bucket_is_at_most_a_hundredth_of_a_second_behind() -> None:
    @obs.job("quick")
    def quick() -> None: ...

    with frozen_clock() as clock, capture() as seen:
        for pause in (0.0, 0.004, 0.007):
            clock.advance(pause)
            quick()
            [kept] = seen.metric("connectsoft.job.duration").exemplars
            told = seen.spans[-1 if pause == 0.007 else 0]
            assert kept.trace_id == told.context.trace_id


def test_a_histogram_keeps_the_trace_of_a_sampled_span_as_exemplar() -> None:
    with capture() as seen:
        duration.record(0.02, kind="x")
        with obs.operation("work"):
            duration.record(0.3, kind="x")
            here = trace.get_current_span().get_span_context()
    found = seen.metric("tests.wait", kind="x")
    assert found.count == 2
    assert found.sum == pytest.approx(0.32)
    assert [(e.value, e.trace_id, e.span_id) for e in found.exemplars] == [(0.3, here.trace_id, here.span_id)]
    with capture(traces_sampler="always_off") as seen, obs.operation("work"):
        duration.record(0.3, kind="x")
    assert seen.metric("tests.wait").exemplars == ()
    with capture(exemplar_filter="always_off") as seen, obs.operation("work"):
        duration.record(0.3, kind="x")
    assert seen.metric("tests.wait").exemplars == ()


def test_an_instrument_follows_captures_and_new_configurations() -> None:
    with capture() as outer:
        plain.add(1)
        with capture() as inner:
            plain.add(10)
        plain.add(1)
    assert outer.metric("tests.plain").value == 2
    assert inner.metric("tests.plain").value == 10


def test_a_counter_without_labels_is_zero_from_the_start() -> None:
    """`rate()` sees the first increase only of a series that was there before it."""
    with capture() as seen:
        plain.metric  # noqa: B018  it was made at import, long before
        obs.get_logger().info("something else")
    assert seen.metric("tests.plain").value == 0
    assert seen.metric("tests.plain").series == ({},)


def test_a_gauge_that_nobody_has_set_is_not_there() -> None:
    """As a zero it would be the lowest of all workers, and a moment would lie in 1970."""
    obs.gauge("tests.unset", merge="min")
    obs.gauge("tests.unset.timestamp", unit="s", merge="latest")
    with capture() as seen:
        obs.get_logger().info("begin")
        assert seen.telemetry is not None
        held = {snapshot.metric.name: snapshot.series for snapshot in seen.telemetry.metrics.snapshots()}
    assert (held["tests.unset"], held["tests.unset.timestamp"]) == ({}, {})


def test_threads_may_record_into_one_instrument() -> None:
    with capture() as seen:

        def count() -> None:
            for number in range(1000):
                counter.add(1, colour=f"c{number % 5}")

        threads = [threading.Thread(target=count) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert seen.metric("tests.things.made").value == 8000


@pytest.mark.parametrize(
    "record",
    [
        lambda: counter.add(-1, colour="red"),
        lambda: counter.add(math.nan, colour="red"),
        lambda: counter.add(math.inf, colour="red"),
        lambda: counter.add(WRONG, colour="red"),
        lambda: duration.record(math.nan, kind="x"),
        lambda: duration.record(WRONG, kind="x"),
        lambda: level.set(WRONG, tank="a"),
        lambda: counter.add(1, WRONG),
    ],
)
def test_what_cannot_be_recorded_is_counted_and_never_raises(record: Any) -> None:
    with capture() as seen:
        record()
    assert seen.metric("connectsoft.obs.errors").value == 1
    for name in ("tests.things.made", "tests.level"):
        assert math.isfinite(seen.metric(name).value)
    assert math.isfinite(seen.metric("tests.wait").sum)
    assert [line["severity"] for line in seen.logs] == ["WARN"]


def test_a_label_that_was_not_declared_is_left_out_and_told_of_once() -> None:
    with capture() as seen:
        counter.add(1, colour="red", customer="alice@example.com")
        counter.add(1, colour="red", customer="bob@example.com")
    assert seen.metric("tests.things.made").value == 2
    assert seen.metric("tests.things.made").series == ({"colour": "red"},)
    [line] = seen.logs
    assert "no label customer, only colour, shop.size" in line["error"]
    assert "alice" not in str(line)


def test_label_values_may_be_anything() -> None:
    class Odd:
        def __str__(self) -> str:
            return "odd"

    with capture() as seen:
        for value in (True, 7, 1.5, None, Odd(), ["a"], {"b": 1}, "x" * 5000, b"raw"):
            counter.add(1, colour=value)
    found = {series.get("colour", "")[:20] for series in seen.metric("tests.things.made").series}
    assert found == {"true", "7", "1.5", "", "odd", "['a']", "{'b': 1}", "x" * 20, "b'raw'"}


def test_a_tenant_is_a_label_only_from_an_allow_list() -> None:
    per_tenant = obs.counter("tests.per_tenant", labels=("connectsoft.tenant.id", "tier"))
    with capture(metric_tenants=("acme",)) as seen:
        for tenant in ("acme", "globex", "initech", ""):
            per_tenant.add(1, connectsoft_tenant_id=tenant, tier="gold")
    values = {
        s["connectsoft_tenant_id"]: seen.metric("tests.per_tenant", **s).value
        for s in seen.metric("tests.per_tenant").series
    }
    assert values == {"acme": 1, "_OTHER": 3}


def test_buckets_follow_the_unit() -> None:
    assert duration.metric.buckets == REQUEST_BUCKETS
    assert obs.histogram("tests.body", unit="By").metric.buckets == SIZE_BUCKETS
    assert obs.histogram("tests.batch", unit="{item}").metric.buckets == COUNT_BUCKETS
    assert obs.histogram("tests.own", unit="{item}", buckets=[1, 2.5]).metric.buckets == (1.0, 2.5)


def test_defining_a_metric_again_the_same_way_is_the_same_metric() -> None:
    again = obs.counter("tests.plain")
    with capture() as seen:
        plain.add(1)
        again.add(1)
    assert seen.metric("tests.plain").value == 2


@pytest.mark.parametrize(
    ("define", "why", "instead"),
    [
        (lambda: obs.counter("Orders Placed"), "lower-case words", "orders.placed"),
        (lambda: obs.counter(""), "lower-case words", ""),
        (lambda: obs.counter("http.server.orders"), "belong to OpenTelemetry", "shop.http.server.orders"),
        (lambda: obs.counter("connectsoft.orders"), "belong to OpenTelemetry", ""),
        (lambda: obs.counter("orders.total"), "Prometheus adds 'total'", "Leave"),
        (lambda: obs.histogram("orders.count"), "Prometheus adds 'count'", "Leave"),
        (lambda: obs.histogram("wait.seconds"), "unit 'seconds' is in the name", 'unit="s"'),
        (lambda: obs.gauge("fill", unit="1"), "a ratio, each in its own way", ".ratio"),
        (lambda: obs.counter("orders", unit="many orders"), "no UCUM unit", "{order}"),
        (lambda: obs.gauge("process.cpus"), "belong to OpenTelemetry", ""),
        (lambda: obs.gauge("process_cpus"), "is taken", "a word of your own"),
        (lambda: obs.gauge("python_version"), "is taken", "a word of your own"),
        (lambda: obs.counter("a.b", labels=("user_id",)), "an id has as many values", "obs.bind()"),
        (lambda: obs.counter("a.b", labels=("connectsoft.run.id",)), "an id has as many values", "obs.bind()"),
        (lambda: obs.counter("a.b", labels=("le",)), "Prometheus uses", "another word"),
        (lambda: obs.counter("a.b", labels=("otel_scope_name",)), "Prometheus uses", "another word"),
        (lambda: obs.counter("a.b", labels=("instance",)), "Prometheus uses", "another word"),
        (lambda: obs.counter("a.b", labels=("Tier",)), "lower-case words", "tier"),
        (lambda: obs.counter("a.b", labels="tier"), "that is text", 'labels=("tier",)'),
        (lambda: obs.counter("a.b", labels=("connectsoft.tier",)), "belong to this package", "Rename"),
        (lambda: obs.counter("a.b", labels=("a.b", "a_b")), "two of them are one", "Rename"),
        (lambda: obs.histogram("a.b", buckets=(2, 1)), "each above the one before", "buckets="),
        (lambda: obs.histogram("a.b", buckets=(1, math.inf)), "finite numbers", "infinite one comes by itself"),
        (lambda: obs.histogram("a.b", buckets=()), "finite numbers", ""),
        (lambda: obs.gauge("a.b", merge=WRONG), "none of sum, max, min, latest", "Choose"),
        (lambda: obs.gauge("tests.plain"), "counter('tests.plain') has that name", "another name"),
        (lambda: obs.counter("tests.plain", unit="{x}"), "another definition", "Define it once"),
        (lambda: obs.gauge("tests_plain"), "counter('tests.plain') has that name", "another name"),
    ],
)  # fmt: skip
def test_a_definition_that_breaks_a_rule_is_refused_with_what_to_do_instead(
    define: Any, why: str, instead: str
) -> None:
    with pytest.raises(obs.ConfigurationError) as refused:
        define()
    assert why in refused.value.why
    assert instead in refused.value.instead


def test_a_wrong_setting_elsewhere_does_not_make_recording_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    from connectsoft_obs.telemetry.global_state import TelemetryHolder, pop_capture, push_capture
    from connectsoft_obs.telemetry.telemetry import Telemetry

    monkeypatch.setenv("CONNECTSOFT_OBS_CARDINALITY_LIMIT", "many")
    broken = TelemetryHolder(Telemetry)
    push_capture(broken)
    try:
        plain.add(1)
        level.set(1, tank="a")
        duration.record(1)
    finally:
        pop_capture(broken)
    assert broken.telemetry is None


def test_both_ways_out_say_the_same() -> None:
    with HttpSink() as sink:
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "OTEL_METRIC_EXPORT_INTERVAL": "200"}
        with uvicorn("shop:app", env=env) as service:
            service.wait_until_ready()
            assert scrape(service.url).value("mail_queue_depth") == 0, "there before anything happened"
            for tier, size in (("gold", 50), ("gold", 500), ("free", 5000)):
                httpx.get(f"{service.url}/order", params={"tier": tier, "size": size})
            httpx.get(f"{service.url}/queue/12")
            page = scrape(service.url)

            def placed() -> dict[str, float]:
                metric = sink.received.metric("orders.placed")
                points = metric.sum.data_points if metric else []
                return {decode_attributes(point.attributes)["tier"]: point.as_int for point in points}

            wait_for(lambda: placed() == {"gold": 2, "free": 1}, 10, "three orders over OTLP")
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
            assert trace_id in {e.labels["trace_id"] for e in page.exemplars("report_size_bytes_bucket")}
