"""Each worker exports its own metrics over OTLP; their sum equals the metrics that any worker shows."""

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
    """The last export of a metric by service instance."""
    metric_by_instance: dict[str, Any] = {}
    for kind, message in list(sink.received.requests):
        for resource in message.resource_metrics if kind == "/v1/metrics" else ():
            instance = decode_attributes(resource.resource.attributes)["service.instance.id"]
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    if metric.name == name:
                        metric_by_instance[instance] = metric
    return metric_by_instance


def exported_request_count(sink: HttpSink) -> int:
    return sum(point.count for metric in latest(sink, DURATION).values() for point in metric.histogram.data_points)


@pytest.mark.parametrize(
    "options", [pytest.param((), marks=pytest.mark.full), ("--preload",)], ids=["gunicorn", "preload"]
)
def test_exports_of_all_workers_sum_to_one_scrape(options: tuple[str, ...], tmp_path: Any) -> None:
    with HttpSink() as sink:
        env = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url,
            "OTEL_METRIC_EXPORT_INTERVAL": "200",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "CONNECTSOFT_OBS_METRICS_MULTIPROCESS_DIR": str(tmp_path),
            "CONNECTSOFT_OBS_LOGS_EXPORTER": "none",
        }
        start_ns = time.time_ns()
        with gunicorn("shop:app", *options, workers=3, env=env) as service:
            service.wait_until_ready()
            pids = Counter(httpx.get(f"{service.url}/order").json()["pid"] for _ in range(90))
            page = scrape(service.url)
            assert page.value("http_server_request_duration_seconds_count") == 90
            wait_for(lambda: exported_request_count(sink) == 90, 10, "90 requests were exported")
            exports = latest(sink, DURATION)
            assert sorted(
                sum(point.count for point in metric.histogram.data_points) for metric in exports.values()
            ) == sorted(pids.values())
            merged = {
                sample.labels["le"]: sample.value
                for sample in page.samples("http_server_request_duration_seconds_bucket", http_route="/order")
            }
            by_bucket: Counter[str] = Counter()
            for metric in exports.values():
                for point in metric.histogram.data_points:
                    for bound, count in zip([*point.explicit_bounds, "+Inf"], point.bucket_counts, strict=True):
                        by_bucket[str(bound)] += count
                    assert start_ns < point.start_time_unix_nano <= point.time_unix_nano
            cumulative_count = 0
            for bound, expected_count in merged.items():
                cumulative_count += by_bucket[bound]
                assert cumulative_count == expected_count, bound
            resources = {resource["service.instance.id"]: resource for resource in sink.received.resources}
            assert set(exports) <= set(resources)
            assert {resource["service.name"] for resource in resources.values()} == {"shop"}
            assert {resources[instance]["process.pid"] for instance in exports} == set(pids)
            orders = latest(sink, "orders.placed")
            assert sum(point.as_int for metric in orders.values() for point in metric.sum.data_points) == 90


def test_restarted_worker_exports_from_zero_with_a_new_start_time(tmp_path: Any) -> None:
    """A later start time and another instance id: no backend interprets the new sums as a reset."""
    with HttpSink() as sink:
        env = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url,
            "OTEL_METRIC_EXPORT_INTERVAL": "100",
            "CONNECTSOFT_OBS_METRICS_MULTIPROCESS_DIR": str(tmp_path),
        }
        with gunicorn("shop:app", "--max-requests", "10", workers=1, env=env) as service:
            service.wait_until_ready()
            answered = 0
            while answered < 35:
                try:
                    answered += httpx.get(f"{service.url}/order", timeout=5).status_code == 200
                except httpx.TransportError:
                    time.sleep(0.05)
            wait_for(
                lambda: exported_request_count(sink) == 35,
                15,
                "all requests were exported, including those of ended workers",
            )
            exports = latest(sink, DURATION)
            assert len(exports) >= 3
            starts = [metric.histogram.data_points[0].start_time_unix_nano for metric in exports.values()]
            assert len(set(starts)) == len(exports)
            assert starts == sorted(starts)
            assert scrape(service.url).value("http_server_request_duration_seconds_count") == 35


def test_delta_temporality_is_ignored_with_one_warning_and_an_alternative() -> None:
    env = {"OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "delta"}
    with uvicorn("shop:app", env=env) as service:
        service.wait_until_ready()
        service.stop()
    [line] = [line for line in service.json_lines if "cumulativetodelta" in line["message"]]
    assert line["severity"] == "WARN"


def test_collector_receives_current_metrics_after_an_outage() -> None:
    from support.process import free_port

    port = free_port()
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}", "OTEL_METRIC_EXPORT_INTERVAL": "100"}
    with uvicorn("shop:app", env=env) as service:
        service.wait_until_ready()
        for _ in range(5):
            httpx.get(f"{service.url}/order")
        wait_for(
            lambda: any("export failed" in line["message"] for line in service.json_lines),
            10,
            "a failed export is logged",
        )
        for _ in range(5):
            httpx.get(f"{service.url}/order")
        with HttpSink(port) as sink:
            wait_for(lambda: exported_request_count(sink) == 10, 20, "ten requests were exported")
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
