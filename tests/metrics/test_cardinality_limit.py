"""No client and no mistake can make series without end, and what is capped still adds up."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

import connectsoft_obs as obs
from connectsoft_obs.signals.metrics import MetricRegistry
from connectsoft_obs.signals.metrics.cardinality_limit import ERROR_TYPES, LONGEST
from connectsoft_obs.testing import capture
from connectsoft_obs.vocabulary import LOG_RECORDS, REQUEST_DURATION


def series_of(metrics: MetricRegistry, name: str = REQUEST_DURATION.name) -> dict[tuple[str, ...], Any]:
    [found] = [snapshot.series for snapshot in metrics.snapshots() if snapshot.metric.name == name]
    return found


def request(metrics: MetricRegistry, route: str, status: str = "200", error: str = "", method: str = "GET") -> None:
    metrics.family(REQUEST_DURATION).histogram(method, "http", status, route, error, "1.1").observe(0.1)


def test_b06_beyond_the_cap_the_open_labels_are_blank_and_the_closed_ones_stay() -> None:
    told: list[str] = []
    metrics = MetricRegistry(100, once=lambda kind, message, facts: told.append(message))
    for number in range(1000):
        request(metrics, f"/r{number}", "500" if number % 10 == 0 else "200", "500" if number % 10 == 0 else "")
    series = series_of(metrics)
    assert len(series) == 102
    assert sum(content.count for content in series.values()) == 1000
    errors = sum(content.count for labels, content in series.items() if labels[2] == "500" and labels[4] == "500")
    assert errors == 100, "an objective over errors counts right with every route"
    assert series[("GET", "http", "200", "", "", "1.1")].count == 810
    assert series_of(metrics, "connectsoft.obs.overflow") == {("http.server.request.duration",): 900}


def test_an_overflow_is_told_of_once_a_family() -> None:
    with capture(cardinality_limit=5) as seen:
        counter = obs.counter("firewall.told", labels=("route",))
        other = obs.counter("firewall.told.too", labels=("route",))
        for number in range(50):
            counter.add(1, route=f"/r{number}")
            other.add(1, route=f"/r{number}")
    lines = [line for line in seen.logs if "too many series" in line["message"]]
    assert [(line["severity"], line["metric"], line["limit"]) for line in lines] == [
        ("WARN", "firewall.told", 5),
        ("WARN", "firewall.told.too", 5),
    ]
    assert seen.metric("connectsoft.obs.overflow", connectsoft_obs_metric="firewall.told").value == 45
    assert seen.metric("firewall.told").value == 50
    assert len(seen.metric("firewall.told").series) == 6


def test_error_types_are_bounded_and_still_errors() -> None:
    metrics = MetricRegistry(2000)
    for number in range(200):
        request(metrics, "/r", "500", f"module.Error{number}")
    series = series_of(metrics)
    assert len(series) == ERROR_TYPES + 1
    assert series[("GET", "http", "500", "/r", "_OTHER", "1.1")].count == 150
    request(metrics, "/other", "500", "module.Error3")
    assert ("GET", "http", "500", "/other", "module.Error3", "1.1") in series_of(metrics)


def test_even_closed_labels_are_bounded_in_the_end() -> None:
    metrics = MetricRegistry(50)
    for number in range(5000):
        request(metrics, "/r", str(number), method=f"M{number}")
    series = series_of(metrics)
    assert len(series) <= 101
    assert sum(content.count for content in series.values()) == 5000


def test_a_label_value_has_a_longest_length() -> None:
    metrics = MetricRegistry(50)
    request(metrics, "/" + "x" * 100_000)
    [labels] = series_of(metrics)
    assert len(labels[3]) == LONGEST


@given(some.lists(some.tuples(*[some.text(max_size=3)] * 6), max_size=200), some.integers(1, 20))
def test_whatever_comes_the_total_is_right_and_the_number_of_series_bounded(
    measured: list[tuple[str, ...]], limit: int
) -> None:
    metrics = MetricRegistry(limit)
    for labels in measured:
        metrics.family(REQUEST_DURATION).histogram(*labels).observe(1)
    series = series_of(metrics)
    assert sum(content.count for content in series.values()) == len(measured)
    assert len(series) <= limit * 2 + 1


def test_the_firewall_never_counts_its_own_families_as_overflowing() -> None:
    metrics = MetricRegistry(3, once=lambda kind, message, facts: pytest.fail(message))
    for number in range(50):
        metrics.add(LOG_RECORDS, (f"level{number}",))
    assert series_of(metrics, "connectsoft.obs.overflow") == {}


def test_m05_a_hostile_client_adds_no_series() -> None:
    async def item(_: Request) -> Response:
        return PlainTextResponse("ok")

    random.seed(7)
    app = obs.ObservabilityMiddleware(Starlette(routes=[Route("/items/{id}", item)]))

    def noise(length: int = 12) -> bytes:
        return bytes(random.randrange(256) for _ in range(random.randrange(length)))

    async def one(hostile: bool) -> None:
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "query_string": noise(30) if hostile else b"",
            "method": noise().decode("latin-1") or "X" if hostile else "GET",
            "path": "/" + noise().decode("latin-1") if hostile and random.random() < 0.7 else f"/items/{random.random()}",
            "scheme": random.choice(["http", "https", noise().decode("latin-1")]) if hostile else "http",
            "http_version": random.choice(["1.1", noise().decode("latin-1")]) if hostile else "1.1",
            "headers": [(b"host", noise(40)), (b"user-agent", noise(40)), (noise(), noise())] if hostile else [],
            "client": ("10.0.0.1", 1), "server": ("a", 80), "root_path": "",
        }  # fmt: skip

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(_: object) -> None:
            return None

        await app(scope, receive, send)

    async def many(number: int) -> None:
        for _ in range(number):
            await one(hostile=True)

    with capture(access_log="off") as seen:
        asyncio.run(many(2000))
        before = {name: len(seen.metric(name).series) for name in NAMES}
        asyncio.run(many(8000))
        after = {name: len(seen.metric(name).series) for name in NAMES}
        assert after == before
        assert sum(after.values()) < 200
        total = seen.metric(REQUEST_DURATION.name).count
    assert total == 10_000


NAMES = ("http.server.request.duration", "http.server.active_requests")
