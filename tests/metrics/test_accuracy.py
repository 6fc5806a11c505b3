"""Prometheus and an OTLP collector fed by one service under load, while its workers are killed and recycled.

Every total is the client's. A request that was in flight in a worker when that was killed may be counted or not, whatever
the client saw of it; and what a killed worker had not pushed yet is missing over OTLP, and nowhere else.
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
    """CLIENTS threads that order as fast as they are answered, each request on a connection of its own."""

    port: int
    answered: int = 0
    broken: int = 0
    last: dict[int, deque[float]] = field(default_factory=dict)
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
            pid = self._one()
            with self.lock:
                if pid:
                    self.answered += 1
                    self.last.setdefault(pid, deque(maxlen=5000)).append(time.monotonic())
                else:
                    self.broken += 1

    def _one(self) -> int:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 10) as connection:
                connection.sendall(b"GET /order?tier=gold HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n")
                answer = b""
                while part := connection.recv(65536):
                    answer += part
        except OSError:
            return 0
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(json.loads(body)["pid"]) if b" 200 OK" in head.partition(b"\r\n")[0] and body else 0


def pushed(sink: HttpSink) -> dict[str, int]:
    """Requests in the last push of each instance."""
    found = {}
    for kind, message in list(sink.received.requests):
        for resource in message.resource_metrics if kind == "/v1/metrics" else ():
            instance = decode_attributes(resource.resource.attributes)["service.instance.id"]
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    if metric.name == "http.server.request.duration":
                        found[instance] = sum(point.count for point in metric.histogram.data_points)
    return found


@pytest.mark.parametrize(
    ("seconds", "kills"), [(8, 2), pytest.param(180, 20, marks=pytest.mark.full)], ids=["short", "long"]
)
def test_every_total_is_the_clients_count(seconds: float, kills: int, tmp_path: Path) -> None:
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
                unpushed = 0
                with Load(service.port) as load:
                    for _ in range(kills):
                        time.sleep(seconds / (kills + 1))
                        unpushed += _kill_one(load)
                    time.sleep(seconds / (kills + 1))
                    wait_for(lambda: len(load.last) > WORKERS + kills, 60, "workers were recycled as well")
                in_flight = kills * CLIENTS
                page = scrape(service.url)
                counted = page.value("http_server_request_duration_seconds_count", http_route="/order")
                assert abs(counted - load.answered) <= in_flight
                assert counted == page.value(
                    "http_server_request_duration_seconds_bucket", http_route="/order", le="+Inf"
                )
                assert abs(page.value("orders_placed_total", tier="gold") - counted) <= in_flight
                assert page.value("http_server_active_requests") == 0

                wait_for(lambda: server.value(f"sum({COUNT})") == counted, 15, f"{counted} requests in Prometheus")
                assert server.value(f"sum(resets({COUNT}[1h]))") == 0, "no scrape ever saw a counter go back"
                assert server.value("sum(resets(orders_placed_total[1h]))") == 0
                assert server.value("sum(resets(process_cpu_seconds_total[1h]))") == 0
                assert _exemplars(server.url) > 0

                wait_for(lambda: sum(pushed(sink).values()) >= counted - unpushed - in_flight, 15, "the last pushes")
                lost = counted - sum(pushed(sink).values())
                assert -in_flight <= lost <= unpushed + in_flight
                pids, workers = len(load.last), len(pushed(sink))
                print(
                    f"\nrequests answered {load.answered}, broken {load.broken}; workers {pids}, of which {kills} were killed "
                    f"and {workers} pushed; /metrics {counted:.0f}, Prometheus {counted:.0f}, OTLP {counted - lost:.0f} "
                    f"(bound: {unpushed} not pushed, {in_flight} in flight)"
                )


def _kill_one(load: Load) -> int:
    """Kill a worker that answered lately; how many requests it may not have pushed."""
    before = time.monotonic()
    victim = wait_for(lambda: _killed(load), 15, "a worker that is not being recycled just now")
    # Pushed at the latest one interval and one export ago; an export on this machine has taken up to a second.
    return sum(moment > before - INTERVAL - 1 for moment in list(load.last[victim]))


def _killed(load: Load) -> int:
    """Kill the worker that answered last; its pid, or 0 where it has ended by itself."""
    with load.lock:
        victim = max(load.last, key=lambda pid: load.last[pid][-1])
    try:
        if Path(f"/proc/{victim}/stat").read_text().rpartition(")")[2].split()[0] in "ZX":
            return 0
        os.kill(victim, signal.SIGKILL)
    except (ProcessLookupError, FileNotFoundError):
        return 0
    return victim


def _exemplars(url: str) -> int:
    query: dict[str, Any] = {
        "query": "http_server_request_duration_seconds_bucket",
        "start": time.time() - 3600,
        "end": time.time() + 60,
    }
    found = httpx.get(f"{url}/api/v1/query_exemplars", params=query, timeout=10).json()["data"]
    return sum(len(series["exemplars"]) for series in found)
