"""A real Prometheus scrapes a real service, and its arithmetic agrees with what the client did."""

from __future__ import annotations

import subprocess
import time

import httpx
import pytest
from support.process import uvicorn, wait_for
from support.servers import program_path, prometheus


def test_promtool_has_no_complaint_about_the_page() -> None:
    with uvicorn("orders:app") as service:
        service.wait_until_ready()
        for path in ("/items/1", "/boom", "/nope", "/stream?type=text/event-stream", "/api/v1/items/2"):
            httpx.get(service.url + path)
        page = httpx.get(f"{service.url}/metrics").text
    ours = "\n".join(
        line for line in page.splitlines() if not line.startswith(("python_", "# HELP python_", "# TYPE python_"))
    )
    checked = subprocess.run(
        [program_path("promtool"), "check", "metrics"], input=ours + "\n", capture_output=True, text=True, timeout=20
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_rates_and_quantiles_agree_with_the_client() -> None:
    with (
        uvicorn("orders:app") as service,
        prometheus(f"127.0.0.1:{service.port}") as server,
        httpx.Client() as client,
    ):
        service.wait_until_ready()
        client.get(f"{service.url}/items/0")  # the series exists before the counting begins
        client.get(f"{service.url}/slow?seconds=0.06")
        wait_for(lambda: server.query('http_server_request_duration_seconds_count{http_route="/slow"}'), 15)
        began = time.time()
        for number in range(60):
            client.get(f"{service.url}/items/{number}")
        for _ in range(20):
            client.get(f"{service.url}/slow?seconds=0.06")
        count = "sum by (http_route) (http_server_request_duration_seconds_count)"
        totals = {"/items/{id}": 61.0, "/slow": 21.0}

        def scraped() -> bool:
            found = {row["metric"].get("http_route", ""): float(row["value"][1]) for row in server.query(count)}
            return all(found.get(route) == total for route, total in totals.items())

        wait_for(scraped, 15, f"{totals}")
        window = int(time.time() - began) + 5
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
        # Prometheus extrapolates to the edges of the window, by little more than a scrape at each end.
        assert samples is not None
        beyond = (samples + 1.2) / (samples - 1)
        assert increase == pytest.approx(20 * (1 + beyond) / 2, rel=(beyond - 1) / (beyond + 1) + 0.01)
        assert rate == pytest.approx(60 / window * (1 + beyond) / 2, rel=(beyond - 1) / (beyond + 1) + 0.01)
        assert quantile is not None
        assert 0.05 <= quantile <= 0.075, "60 ms falls into the bucket from 50 to 75 ms"
