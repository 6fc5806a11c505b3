"""Metrics of several workers under every server: a scrape of any worker returns the sum over all workers."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from support.exposition import scrape
from support.process import Service, granian, gunicorn, hypercorn, uvicorn, wait_for

COUNT = "http_server_request_duration_seconds_count"
SERVERS: dict[str, Callable[..., Service]] = {
    "uvicorn": lambda **options: uvicorn("shop:app", "--workers", "3", **options),
    "gunicorn": lambda **options: gunicorn("shop:app", workers=3, **options),
    "gunicorn preload": lambda **options: gunicorn("shop:app", "--preload", workers=3, **options),
    "gunicorn asgi": lambda **options: gunicorn("shop:app", "-k", "asgi", workers=3, **options),
    "granian": lambda **options: granian("shop:app", "--respawn-failed-workers", workers=3, **options),
    "hypercorn": lambda **options: hypercorn("shop:app", workers=3, **options),
}


@pytest.fixture
def multiprocess_env(tmp_path: Path) -> dict[str, str]:
    """The environment with a temporary directory for the metric files of the workers."""
    return {"CONNECTSOFT_OBS_METRICS_MULTIPROCESS_DIR": str(tmp_path)}


def order(url: str, **query: str) -> int:
    """Send a request over a new connection; return the pid of the worker that handled it, or 0 if it failed."""
    try:
        response = httpx.get(f"{url}/order", params=query, timeout=10)
    except httpx.TransportError:
        return 0
    assert response.status_code == 200, response.text
    return int(response.json()["pid"])


def order_from_all_workers(url: str, workers: int, max_requests: int = 2000) -> Counter[int]:
    """Send requests until every worker has handled some; return the number of requests by worker pid."""
    counts: Counter[int] = Counter()
    with ThreadPoolExecutor(8) as pool:
        while len(counts) < workers or sum(counts.values()) < 50:
            counts.update(pool.map(lambda _: order(url), range(20)))
            assert sum(counts.values()) < max_requests, f"requests by worker: {counts}"
    return counts


@pytest.mark.parametrize(
    "server",
    [
        "uvicorn",
        "gunicorn",
        "gunicorn preload",
        "granian",
        pytest.param("gunicorn asgi", marks=pytest.mark.full),
        pytest.param("hypercorn", marks=pytest.mark.full),
    ],
)
def test_any_worker_returns_the_sum_including_killed_workers(server: str, multiprocess_env: dict[str, str]) -> None:
    with SERVERS[server](env=multiprocess_env) as service:
        service.wait_until_ready()
        counts = order_from_all_workers(service.url, 3)
        for _ in range(6):
            _check_sum(service, sum(counts.values()))
        warnings = [
            line["connectsoft.obs.metrics"]
            for line in service.json_lines
            if line["message"].startswith("prometheus_client metrics are left out of /metrics")
        ]
        assert warnings, "no warning about metrics of prometheus_client that are not shared between workers"
        assert set(warnings) == {"legacy_sales"}
        assert len(warnings) <= 3, "each worker logs it once, however often it is scraped"
        if server != "hypercorn":  # exits if a worker exits
            _check_killed_worker(service, multiprocess_env, sum(counts.values()))
        assert "Traceback" not in service.output


def _check_sum(service: Service, orders: int) -> None:
    page = scrape(service.url)
    assert page.value(COUNT, http_route="/order") == orders
    assert page.value("orders_placed_total", tier="gold") == orders
    assert page.value("report_size_bytes_sum") == 50 * orders
    assert page.value("connectsoft_build_info") == 1
    assert page.value("http_server_active_requests") == 0
    assert page.exemplars("http_server_request_duration_seconds_bucket")
    for share in ("legacy_sales_total", "parcels_shipped_total", "warehouse_load"):
        assert not page.has(share), f"{share} is the share of one worker"
    assert page.has("python_info")


def _check_killed_worker(service: Service, multiprocess_env: dict[str, str], orders: int) -> None:
    for _ in range(20):
        httpx.get(f"{service.url}/queue/2")
    victim = httpx.get(f"{service.url}/queue/40").json()["pid"]
    assert scrape(service.url).value("mail_newest_timestamp_seconds") == 40
    with ThreadPoolExecutor(1) as pool:
        slow_request = pool.submit(lambda: httpx.get(f"{service.url}/slow?seconds=1"))
        wait_for(lambda: scrape(service.url).value("http_server_active_requests") == 1, 5, "one active request")
        slow_request.result()
    before = scrape(service.url)
    os.kill(victim, signal.SIGKILL)
    wait_for(
        lambda: _can_scrape(service) and not _has_file(multiprocess_env, victim),
        10,
        "the file of the killed worker to be archived",
    )
    page = scrape(service.url)
    assert page.value("orders_placed_total") == orders
    assert page.value(COUNT) == before.value(COUNT)
    assert page.value("http_server_active_requests") == 0
    assert page.value("mail_queue_depth") < 40, "the gauge of the killed worker is included"
    assert page.value("mail_newest_timestamp_seconds") == 40, "the timestamp of the killed worker is missing"
    assert page.value("connectsoft_build_info") == 1


def _has_file(multiprocess_env: dict[str, str], pid: int) -> bool:
    return any(Path(multiprocess_env["CONNECTSOFT_OBS_METRICS_MULTIPROCESS_DIR"]).rglob(f"{pid}-*.cells"))


def _can_scrape(service: Service) -> bool:
    try:
        return bool(scrape(service.url).text)
    except httpx.TransportError:  # the connection was accepted by the killed worker
        return False


def test_measurements_before_the_fork_are_counted_once(multiprocess_env: dict[str, str]) -> None:
    with gunicorn("preloaded:app", "--preload", workers=3, env=multiprocess_env) as service:
        service.wait_until_ready()
        pids = Counter(httpx.get(f"{service.url}/load").json()["pid"] for _ in range(60))
        assert len(pids) > 1
        page = scrape(service.url)
        assert page.value("models_loaded_total") == 60, "the five measurements of the master process are included"
        assert page.value("models_ready") == 3, "each worker has inherited the gauge"
        assert not page.has("parcels_shipped_total"), "the share of one worker"
        assert page.value("connectsoft_build_info", service_version="7") == 1
        warnings = [line for line in service.json_lines if "Meter API are left out of /metrics" in line["message"]]
        assert len(warnings) >= 1


def test_child_processes_of_a_worker_are_counted(multiprocess_env: dict[str, str]) -> None:
    with gunicorn("forking:app", workers=2, env=multiprocess_env) as service:
        service.wait_until_ready()
        for _ in range(10):
            assert httpx.get(f"{service.url}/fork").text == "0"
        page = scrape(service.url)
        assert page.value("pool_tasks_total") == 20, "one per request in the worker, and one in its child process"
        assert page.value(COUNT, http_route="/fork") == 10
        assert "Traceback" not in service.output
