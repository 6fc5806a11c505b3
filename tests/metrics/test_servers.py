"""Under every server that starts workers, any of them shows what all of them counted."""

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
    "uvicorn": lambda **more: uvicorn("shop:app", "--workers", "3", **more),
    "gunicorn": lambda **more: gunicorn("shop:app", workers=3, **more),
    "gunicorn preload": lambda **more: gunicorn("shop:app", "--preload", workers=3, **more),
    "gunicorn asgi": lambda **more: gunicorn("shop:app", "-k", "asgi", workers=3, **more),
    "granian": lambda **more: granian("shop:app", "--respawn-failed-workers", workers=3, **more),
    "hypercorn": lambda **more: hypercorn("shop:app", workers=3, **more),
}


@pytest.fixture
def shared(tmp_path: Path) -> dict[str, str]:
    """A place of its own for the files of the workers."""
    return {"CONNECTSOFT_OBS_METRICS_MULTIPROCESS_DIR": str(tmp_path)}


def order(url: str, **query: str) -> int:
    """One order on a connection of its own; the pid of the worker that took it, 0 for none."""
    try:
        answer = httpx.get(f"{url}/order", params=query, timeout=10)
    except httpx.TransportError:
        return 0
    assert answer.status_code == 200, answer.text
    return int(answer.json()["pid"])


def spread(url: str, workers: int, most: int = 2000) -> Counter[int]:
    """Order until every worker has had some; how many each had."""
    had: Counter[int] = Counter()
    with ThreadPoolExecutor(8) as pool:
        while len(had) < workers or sum(had.values()) < 50:
            had.update(pool.map(lambda _: order(url), range(20)))
            assert sum(had.values()) < most, f"the server gives all requests to {had}"
    return had


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
def test_any_worker_shows_the_sum_of_all_and_keeps_the_share_of_one_that_is_killed(
    server: str, shared: dict[str, str]
) -> None:
    with SERVERS[server](env=shared) as service:
        service.wait_until_ready()
        had = spread(service.url, 3)
        for _ in range(6):
            _shows_the_sum(service, sum(had.values()))
        warnings = [line["metrics"] for line in service.json_lines if "prometheus_client itself" in line["message"]]
        assert warnings, "a plain family has no shared store, and each worker says so at its start"
        assert set(warnings) == {"legacy_sales"}
        if server != "hypercorn":  # it ends when a worker does
            _keeps_what_a_killed_worker_counted(service, shared, sum(had.values()))
        assert "Traceback" not in service.output


def _shows_the_sum(service: Service, orders: int) -> None:
    page = scrape(service.url)
    assert page.value(COUNT, http_route="/order") == orders
    assert page.value("orders_placed_total", tier="gold") == orders
    assert page.value("report_size_bytes_sum") == 50 * orders
    assert page.value("connectsoft_build_info") == 1
    assert page.value("http_server_active_requests") == 0
    assert page.exemplars("http_server_request_duration_seconds_bucket")


def _keeps_what_a_killed_worker_counted(service: Service, shared: dict[str, str], orders: int) -> None:
    for _ in range(20):
        httpx.get(f"{service.url}/queue/2")
    victim = httpx.get(f"{service.url}/queue/40").json()["pid"]
    assert scrape(service.url).value("mail_newest_timestamp_seconds") == 40
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lambda: httpx.get(f"{service.url}/slow?seconds=1"))
        wait_for(lambda: scrape(service.url).value("http_server_active_requests") == 1, 5, "one in flight")
        waiting.result()
    before = scrape(service.url)
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: _scraped(service) and not _has_file(shared, victim), 10, "the ended worker is archived")
    page = scrape(service.url)
    assert page.value("orders_placed_total") == orders
    assert page.value(COUNT) == before.value(COUNT)
    assert page.value("http_server_active_requests") == 0
    assert page.value("mail_queue_depth") < 40, "its gauge is gone"
    assert page.value("mail_newest_timestamp_seconds") == 40, "a moment stays true"
    assert page.value("connectsoft_build_info") == 1


def _has_file(shared: dict[str, str], pid: int) -> bool:
    return any(Path(shared["CONNECTSOFT_OBS_METRICS_MULTIPROCESS_DIR"]).rglob(f"{pid}-*.cells"))


def _scraped(service: Service) -> bool:
    try:
        return bool(scrape(service.url).text)
    except httpx.TransportError:  # the killed worker's share of the connections
        return False


def test_what_was_counted_before_the_fork_is_not_counted_again_by_each_worker(shared: dict[str, str]) -> None:
    with gunicorn("preloaded:app", "--preload", workers=3, env=shared) as service:
        service.wait_until_ready()
        pids = Counter(httpx.get(f"{service.url}/load").json()["pid"] for _ in range(60))
        assert len(pids) > 1
        page = scrape(service.url)
        assert page.value("models_loaded_total") == 60, "five in the master are the master's"
        assert page.value("models_ready") == 3, "a gauge describes what each worker has inherited"
        assert page.value("parcels_shipped_total") in pids.values(), "those of the worker that answers"
        assert page.value("connectsoft_build_info", service_version="7") == 1
        warned = [line for line in service.json_lines if "Meter API are on /metrics of the worker" in line["message"]]
        assert len(warned) >= 1


def test_processes_that_a_worker_forks_count_along(shared: dict[str, str]) -> None:
    with gunicorn("forking:app", workers=2, env=shared) as service:
        service.wait_until_ready()
        for _ in range(10):
            assert httpx.get(f"{service.url}/fork").text == "0"
        page = scrape(service.url)
        assert page.value("pool_tasks_total") == 20, "one in the worker and one in its child, each time"
        assert page.value(COUNT, http_route="/fork") == 10
        assert "Traceback" not in service.output
