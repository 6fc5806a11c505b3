"""A service scraped by Prometheus: valid exposition, and rates and quantiles that match the client."""

from __future__ import annotations

import subprocess
import time

import httpx
import pytest
from support.process import uvicorn, wait_for
from support.servers import program_path, prometheus


def test_promtool_reports_no_problems() -> None:
    with uvicorn("orders:app") as service:
        service.wait_until_ready()
        for path in ("/items/1", "/boom", "/nope", "/stream?type=text/event-stream", "/api/v1/items/2"):
            httpx.get(service.url + path)
        page = httpx.get(f"{service.url}/metrics").text
    # Without the python_ metrics, whose names are those of prometheus_client.
    own_metrics = "\n".join(
        line for line in page.splitlines() if not line.startswith(("python_", "# HELP python_", "# TYPE python_"))
    )
    completed = subprocess.run(
        [program_path("promtool"), "check", "metrics"],
        input=own_metrics + "\n",
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert (completed.returncode, completed.stdout + completed.stderr) == (0, "")


def test_rates_and_quantiles_match_the_requests_of_the_client() -> None:
    with (
        uvicorn("orders:app") as service,
        prometheus(f"127.0.0.1:{service.port}") as server,
        httpx.Client() as client,
    ):
        service.wait_until_ready()
        client.get(f"{service.url}/items/0")  # the series exists before the measurement starts
        client.get(f"{service.url}/slow?seconds=0.06")
        wait_for(lambda: server.query('http_server_request_duration_seconds_count{http_route="/slow"}'), 15)
        start = time.time()
        for number in range(60):
            client.get(f"{service.url}/items/{number}")
        for _ in range(20):
            client.get(f"{service.url}/slow?seconds=0.06")
        count = "sum by (http_route) (http_server_request_duration_seconds_count)"
        totals = {"/items/{id}": 61.0, "/slow": 21.0}

        def is_scraped() -> bool:
            values = {row["metric"].get("http_route", ""): float(row["value"][1]) for row in server.query(count)}
            return all(values.get(route) == total for route, total in totals.items())

        wait_for(is_scraped, 15, f"{totals}")
        window = int(time.time() - start) + 5
        now = time.time()
        slow = f'http_server_request_duration_seconds_count{{http_route="/slow"}}[{window}s]'
        quick = f'http_server_request_duration_seconds_count{{http_route="/items/{{id}}"}}[{window}s]'
        samples = server.value(f"sum(count_over_time({slow}))", now)
        increase = server.value(f"sum(increase({slow}))", now)
        rate = server.value(f"sum(rate({quick}))", now)
        quantile = server.value(
            "histogram_quantile(0.5, sum by (le) "
            f'(rate(http_server_request_duration_seconds_bucket{{http_route="/slow"}}[{window}s])))'
        )
        # Prometheus extrapolates to the edges of the window, by slightly more than one scrape interval at each edge.
        assert samples is not None
        extrapolation = (samples + 1.2) / (samples - 1)
        assert increase == pytest.approx(
            20 * (1 + extrapolation) / 2, rel=(extrapolation - 1) / (extrapolation + 1) + 0.01
        )
        assert rate == pytest.approx(
            60 / window * (1 + extrapolation) / 2, rel=(extrapolation - 1) / (extrapolation + 1) + 0.01
        )
        assert quantile is not None
        assert 0.05 <= quantile <= 0.075, "60 ms is in the bucket from 50 to 75 ms"
