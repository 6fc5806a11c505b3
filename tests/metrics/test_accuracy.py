"""Totals in Prometheus and an OTLP collector for one service under load whose workers are killed and recycled.

Every total equals the number of responses that the clients received, within two bounds: a request in flight in a worker
that is killed may or may not be counted, and measurements that a killed worker had not exported are missing over OTLP
only.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.exposition import scrape
from support.otlp import HttpSink, decode_attributes
from support.process import gunicorn, wait_for
from support.servers import prometheus, rotel

WORKERS, CLIENTS, INTERVAL = 4, 8, 0.2
COUNT = 'http_server_request_duration_seconds_count{http_route="/order"}'


@dataclass
class Load:
    """Requests of CLIENTS threads without pauses, each over a new connection."""

    port: int
    succeeded: int = 0
    failed: int = 0
    response_times: dict[int, deque[float]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Load:
        self._threads = [threading.Thread(target=self._run) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            pid = self._send_request()
            with self.lock:
                if pid:
                    self.succeeded += 1
                    self.response_times.setdefault(pid, deque(maxlen=5000)).append(time.monotonic())
                else:
                    self.failed += 1

    def _send_request(self) -> int:
        """Return the pid of the worker that responded, or 0 if the request failed."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), 10) as connection:
                connection.sendall(b"GET /order?tier=gold HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n")
                response = b""
                while chunk := connection.recv(65536):
                    response += chunk
        except OSError:
            return 0
        head, _, body = response.partition(b"\r\n\r\n")
        return int(json.loads(body)["pid"]) if b" 200 OK" in head.partition(b"\r\n")[0] and body else 0


def exported_counts(sink: HttpSink) -> dict[str, int]:
    """The request count in the last export of each instance."""
    counts = {}
    for kind, message in list(sink.received.requests):
        for resource in message.resource_metrics if kind == "/v1/metrics" else ():
            instance = decode_attributes(resource.resource.attributes)["service.instance.id"]
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    if metric.name == "http.server.request.duration":
                        counts[instance] = sum(point.count for point in metric.histogram.data_points)
    return counts


@pytest.mark.parametrize(
    ("seconds", "kills"), [(8, 2), pytest.param(180, 20, marks=pytest.mark.full)], ids=["short", "long"]
)
def test_totals_equal_the_count_of_the_clients(seconds: float, kills: int, tmp_path: Path) -> None:
    with HttpSink() as sink, rotel(sink.url) as collector:
        env = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.http,
            "OTEL_METRIC_EXPORT_INTERVAL": str(int(INTERVAL * 1000)),
            "OTEL_TRACES_EXPORTER": "none",
            "CONNECTSOFT_OBS_METRICS_MULTIPROCESS_DIR": str(tmp_path),
            "CONNECTSOFT_OBS_ACCESS_LOG": "off",
        }
        options = ("--preload", "--max-requests", "400", "--max-requests-jitter", "200")
        with gunicorn("shop:app", *options, workers=WORKERS, env=env) as service:
            service.wait_until_ready()
            with prometheus(f"127.0.0.1:{service.port}") as server:
                not_exported = 0
                with Load(service.port) as load:
                    for _ in range(kills):
                        time.sleep(seconds / (kills + 1))
                        not_exported += _kill_worker(load)
                    time.sleep(seconds / (kills + 1))
                    wait_for(lambda: len(load.response_times) > WORKERS + kills, 60, "workers to be recycled as well")
                in_flight = kills * CLIENTS
                page = scrape(service.url)
                total = page.value("http_server_request_duration_seconds_count", http_route="/order")
                assert abs(total - load.succeeded) <= in_flight
                assert total == page.value(
                    "http_server_request_duration_seconds_bucket", http_route="/order", le="+Inf"
                )
                assert abs(page.value("orders_placed_total", tier="gold") - total) <= in_flight
                assert page.value("http_server_active_requests") == 0

                wait_for(lambda: server.value(f"sum({COUNT})") == total, 15, f"{total} requests in Prometheus")
                assert server.value(f"sum(resets({COUNT}[1h]))") == 0, "a scrape saw a counter decrease"
                assert server.value("sum(resets(orders_placed_total[1h]))") == 0
                assert server.value("sum(resets(process_cpu_seconds_total[1h]))") == 0
                assert _exemplar_count(server.url) > 0

                wait_for(
                    lambda: sum(exported_counts(sink).values()) >= total - not_exported - in_flight,
                    15,
                    "the last exports",
                )
                missing = total - sum(exported_counts(sink).values())
                assert -in_flight <= missing <= not_exported + in_flight
                pids, exporting_workers = len(load.response_times), len(exported_counts(sink))
                print(
                    f"\nrequests succeeded {load.succeeded}, failed {load.failed}; workers {pids}, of which {kills} were "
                    f"killed and {exporting_workers} exported; /metrics {total:.0f}, Prometheus {total:.0f}, OTLP {total - missing:.0f} "
                    f"(bound: {not_exported} not exported, {in_flight} in flight)"
                )


def _kill_worker(load: Load) -> int:
    """Kill a worker that responded recently; return the number of requests that it may not have exported."""
    before = time.monotonic()
    pid = wait_for(lambda: _kill_last_worker(load), 15, "a worker that is not being recycled")
    # Its last export started at most one interval and the duration of one export ago, which has been up to a second.
    return sum(responded_at > before - INTERVAL - 1 for responded_at in list(load.response_times[pid]))


def _kill_last_worker(load: Load) -> int:
    """Kill the worker that responded last; return its pid, or 0 if it has exited by itself."""
    with load.lock:
        victim = max(load.response_times, key=lambda pid: load.response_times[pid][-1])
    try:
        if Path(f"/proc/{victim}/stat").read_text().rpartition(")")[2].split()[0] in "ZX":
            return 0
        os.kill(victim, signal.SIGKILL)
    except (ProcessLookupError, FileNotFoundError):
        return 0
    return victim


def _exemplar_count(url: str) -> int:
    query: dict[str, Any] = {
        "query": "http_server_request_duration_seconds_bucket",
        "start": time.time() - 3600,
        "end": time.time() + 60,
    }
    data = httpx.get(f"{url}/api/v1/query_exemplars", params=query, timeout=10).json()["data"]
    return sum(len(series["exemplars"]) for series in data)
