"""Each worker pushes its own share over OTLP, and the shares add up to what any worker shows."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import httpx
import pytest
from support.exposition import scrape
from support.otlp import HttpSink, decode_attributes
from support.process import gunicorn, uvicorn, wait_for

DURATION = "http.server.request.duration"


def latest(sink: HttpSink, name: str) -> dict[str, Any]:
    """The last message of a metric from each instance of the service."""
    found: dict[str, Any] = {}
    for kind, message in list(sink.received.requests):
        for resource in message.resource_metrics if kind == "/v1/metrics" else ():
            instance = decode_attributes(resource.resource.attributes)["service.instance.id"]
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    if metric.name == name:
                        found[instance] = metric
    return found


def total(sink: HttpSink) -> int:
    return sum(point.count for metric in latest(sink, DURATION).values() for point in metric.histogram.data_points)


@pytest.mark.parametrize(
    "options", [pytest.param((), marks=pytest.mark.full), ("--preload",)], ids=["gunicorn", "preload"]
)
def test_the_shares_of_the_workers_add_up_to_the_merged_scrape(options: tuple[str, ...], tmp_path: Any) -> None:
    with HttpSink() as sink:
        env = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url,
            "OTEL_METRIC_EXPORT_INTERVAL": "200",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "CONNECTSOFT_OBS_METRICS_MULTIPROCESS_DIR": str(tmp_path),
            "CONNECTSOFT_OBS_LOGS_EXPORTER": "none",
        }
        began = time.time_ns()
        with gunicorn("shop:app", *options, workers=3, env=env) as service:
            service.wait_until_ready()
            pids = Counter(httpx.get(f"{service.url}/order").json()["pid"] for _ in range(90))
            page = scrape(service.url)
            assert page.value("http_server_request_duration_seconds_count") == 90
            wait_for(lambda: total(sink) == 90, 10, "90 requests in the shares")
            shares = latest(sink, DURATION)
            assert sorted(sum(p.count for p in m.histogram.data_points) for m in shares.values()) == sorted(
                pids.values()
            )
            merged = {
                sample.labels["le"]: sample.value
                for sample in page.samples("http_server_request_duration_seconds_bucket", http_route="/order")
            }
            by_bucket: Counter[str] = Counter()
            for metric in shares.values():
                for point in metric.histogram.data_points:
                    for bound, count in zip([*point.explicit_bounds, "+Inf"], point.bucket_counts, strict=True):
                        by_bucket[str(bound)] += count
                    assert began < point.start_time_unix_nano <= point.time_unix_nano
            running = 0
            for edge, cumulative in merged.items():
                running += by_bucket[edge]
                assert running == cumulative, edge
            spans = {r["service.instance.id"]: r for r in sink.received.resources}
            assert set(shares) <= set(spans)
            assert {r["service.name"] for r in spans.values()} == {"shop"}
            assert {r["process.pid"] for i, r in spans.items() if i in shares} == set(pids)
            placed = latest(sink, "orders.placed")
            assert sum(p.as_int for m in placed.values() for p in m.sum.data_points) == 90


def test_a_restarted_worker_begins_anew_with_a_start_time_of_its_own(tmp_path: Any) -> None:
    """Cumulative sums with a later start and another instance: no backend takes them for a reset."""
    with HttpSink() as sink:
        env = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url,
            "OTEL_METRIC_EXPORT_INTERVAL": "100",
            "CONNECTSOFT_OBS_METRICS_MULTIPROCESS_DIR": str(tmp_path),
        }
        with gunicorn("shop:app", "--max-requests", "10", workers=1, env=env) as service:
            service.wait_until_ready()
            done = 0
            while done < 35:
                try:
                    done += httpx.get(f"{service.url}/order", timeout=5).status_code == 200
                except httpx.TransportError:
                    time.sleep(0.05)
            wait_for(lambda: total(sink) == 35, 15, "all that was counted was pushed, by workers that are gone too")
            shares = latest(sink, DURATION)
            assert len(shares) >= 3
            starts = [m.histogram.data_points[0].start_time_unix_nano for m in shares.values()]
            assert len(set(starts)) == len(shares)
            assert starts == sorted(starts)
            assert scrape(service.url).value("http_server_request_duration_seconds_count") == 35


def test_delta_is_refused_with_what_to_do_instead() -> None:
    env = {"OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "delta"}
    with uvicorn("shop:app", env=env) as service:
        assert service.process.wait(15) != 0
        service.stop()
    assert "cumulativetodelta" in service.output


def test_a_collector_that_is_down_gets_the_latest_numbers_and_not_a_queue_of_old_ones() -> None:
    from support.process import free_port

    port = free_port()
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}", "OTEL_METRIC_EXPORT_INTERVAL": "100"}
    with uvicorn("shop:app", env=env) as service:
        service.wait_until_ready()
        for _ in range(5):
            httpx.get(f"{service.url}/order")
        wait_for(lambda: any("export failed" in line["message"] for line in service.json_lines), 10, "it says so")
        for _ in range(5):
            httpx.get(f"{service.url}/order")
        with HttpSink(port) as sink:
            wait_for(lambda: total(sink) == 10, 20, "ten requests")
            times = [
                point.time_unix_nano
                for kind, message in list(sink.received.requests)
                if kind == "/v1/metrics"
                for resource in message.resource_metrics
                for scope in resource.scope_metrics
                for metric in scope.metrics
                if metric.name == DURATION
                for point in metric.histogram.data_points
            ]
            assert times == sorted(times)
