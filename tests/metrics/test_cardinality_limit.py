"""The cardinality limit: the number of series is bounded, and totals stay exact beyond the limit."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

import connectsoft_obs as obs
from connectsoft_obs.signals.metrics import MetricRegistry
from connectsoft_obs.signals.metrics.cardinality_limit import MAX_ERROR_TYPES, MAX_LABEL_VALUE_LENGTH
from connectsoft_obs.testing import capture
from connectsoft_obs.vocabulary import LOG_RECORDS, REQUEST_DURATION


def series_of(metrics: MetricRegistry, name: str = REQUEST_DURATION.name) -> dict[tuple[str, ...], Any]:
    [series] = [snapshot.series for snapshot in metrics.snapshots() if snapshot.metric.name == name]
    return series


def record_request(
    metrics: MetricRegistry, route: str, status: str = "200", error: str = "", method: str = "GET"
) -> None:
    metrics.family(REQUEST_DURATION).histogram_series(method, "http", status, route, error, "1.1").observe(0.1)


def test_series_beyond_the_limit_lose_unbounded_labels_only() -> None:
    warnings: list[str] = []
    metrics = MetricRegistry(100, warn_once=lambda kind, message, facts: warnings.append(message))
    for number in range(1000):
        record_request(metrics, f"/r{number}", "500" if number % 10 == 0 else "200", "500" if number % 10 == 0 else "")
    series = series_of(metrics)
    assert len(series) == 102
    assert sum(content.count for content in series.values()) == 1000
    errors = sum(content.count for labels, content in series.items() if labels[2] == "500" and labels[4] == "500")
    assert errors == 100, "an SLO over all routes counts every error"
    assert series[("GET", "http", "200", "", "", "1.1")].count == 810
    assert series_of(metrics, "connectsoft.obs.overflow") == {("http.server.request.duration",): 900}


def test_overflow_is_logged_once_per_metric() -> None:
    with capture(cardinality_limit=5) as seen:
        counter = obs.counter("overflowing", labels=("route",))
        other = obs.counter("overflowing.too", labels=("route",))
        for number in range(50):
            counter.add(1, route=f"/r{number}")
            other.add(1, route=f"/r{number}")
    lines = [line for line in seen.logs if "reached the cardinality limit" in line["message"]]
    assert [(line["severity"], line["connectsoft.obs.metric"], line["connectsoft.obs.limit"]) for line in lines] == [
        ("WARN", "overflowing", 5),
        ("WARN", "overflowing.too", 5),
    ]
    assert seen.metric("connectsoft.obs.overflow", connectsoft_obs_metric="overflowing").value == 45
    assert seen.metric("overflowing").value == 50
    assert len(seen.metric("overflowing").series) == 6


def test_number_of_error_types_is_bounded() -> None:
    metrics = MetricRegistry(2000)
    for number in range(200):
        record_request(metrics, "/r", "500", f"module.Error{number}")
    series = series_of(metrics)
    assert len(series) == MAX_ERROR_TYPES + 1
    assert series[("GET", "http", "500", "/r", "_OTHER", "1.1")].count == 150
    record_request(metrics, "/other", "500", "module.Error3")
    assert ("GET", "http", "500", "/other", "module.Error3", "1.1") in series_of(metrics)


def test_bounded_labels_are_limited_too() -> None:
    metrics = MetricRegistry(50)
    for number in range(5000):
        record_request(metrics, "/r", str(number), method=f"M{number}")
    series = series_of(metrics)
    assert len(series) <= 101
    assert sum(content.count for content in series.values()) == 5000


def test_label_values_have_a_maximum_length() -> None:
    metrics = MetricRegistry(50)
    record_request(metrics, "/" + "x" * 100_000)
    [labels] = series_of(metrics)
    assert len(labels[3]) == MAX_LABEL_VALUE_LENGTH


@given(st.lists(st.tuples(*[st.text(max_size=3)] * 6), max_size=200), st.integers(1, 20))
def test_total_is_exact_and_series_are_bounded_for_any_labels(measurements: list[tuple[str, ...]], limit: int) -> None:
    metrics = MetricRegistry(limit)
    for labels in measurements:
        metrics.family(REQUEST_DURATION).histogram_series(*labels).observe(1)
    series = series_of(metrics)
    assert sum(content.count for content in series.values()) == len(measurements)
    assert len(series) <= limit * 2 + 1


def test_metrics_of_the_package_are_not_counted_as_overflow() -> None:
    metrics = MetricRegistry(3, warn_once=lambda kind, message, facts: pytest.fail(message))
    for number in range(50):
        metrics.add(LOG_RECORDS, (f"level{number}",))
    assert series_of(metrics, "connectsoft.obs.overflow") == {}


def test_hostile_requests_add_no_series() -> None:
    async def item(_: Request) -> Response:
        return PlainTextResponse("ok")

    random.seed(7)
    app = obs.ObservabilityMiddleware(Starlette(routes=[Route("/items/{id}", item)]))

    def random_bytes(length: int = 12) -> bytes:
        return bytes(random.randrange(256) for _ in range(random.randrange(length)))

    async def send_request(hostile: bool) -> None:
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "query_string": random_bytes(30) if hostile else b"",
            "method": random_bytes().decode("latin-1") or "X" if hostile else "GET",
            "path": "/" + random_bytes().decode("latin-1") if hostile and random.random() < 0.7 else f"/items/{random.random()}",
            "scheme": random.choice(["http", "https", random_bytes().decode("latin-1")]) if hostile else "http",
            "http_version": random.choice(["1.1", random_bytes().decode("latin-1")]) if hostile else "1.1",
            "headers": [(b"host", random_bytes(40)), (b"user-agent", random_bytes(40)), (random_bytes(), random_bytes())] if hostile else [],
            "client": ("10.0.0.1", 1), "server": ("a", 80), "root_path": "",
        }  # fmt: skip

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(_: object) -> None:
            return None

        await app(scope, receive, send)

    async def send_requests(number: int) -> None:
        for _ in range(number):
            await send_request(hostile=True)

    with capture(access_log="off") as seen:
        asyncio.run(send_requests(2000))
        before = {name: len(seen.metric(name).series) for name in NAMES}
        asyncio.run(send_requests(8000))
        after = {name: len(seen.metric(name).series) for name in NAMES}
        assert after == before
        assert sum(after.values()) < 200
        total = seen.metric(REQUEST_DURATION.name).count
    assert total == 10_000


NAMES = ("http.server.request.duration", "http.server.active_requests")
