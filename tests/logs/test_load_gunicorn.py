"""A service under gunicorn whose four workers log much: every line is valid JSON, and none is missing."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter

import httpx
import pytest
from support.webservers import LAUNCHERS

LINES = 60
"""Lines per request, of 200 bytes to 15 KiB, through structlog, this package's logger and the standard library."""

CLIENTS = 4
FULL_RUN_ONLY = pytest.mark.full
DROPPED = 'connectsoft_obs_dropped_total{connectsoft_obs_signal="logs",connectsoft_obs_reason="stdout_blocked"} '


@pytest.mark.parametrize(
    ("seconds", "pause"),
    [
        pytest.param(3.0, 0.05, id="3 s"),
        pytest.param(60.0, 0.05, id="60 s", marks=FULL_RUN_ONLY),
        pytest.param(10.0, 0.0, id="faster than the reader", marks=FULL_RUN_ONLY),
    ],
)
def test_all_lines_of_four_workers_are_complete(seconds: float, pause: float) -> None:
    request_names: list[str] = []

    def send_requests(name: str, until: float) -> None:
        with httpx.Client(timeout=60) as client:
            number = 0
            while time.monotonic() < until:
                request_name = f"{name}-{number}"
                assert client.get(f"{service.url}/chatty?client={request_name}&lines={LINES}").status_code == 200
                request_names.append(request_name)
                number += 1
                time.sleep(pause)

    with LAUNCHERS["gunicorn"]("chatty_logging:app", workers=4) as service:
        service.wait_until_ready()
        until = time.monotonic() + seconds
        clients = [threading.Thread(target=send_requests, args=(f"client{number}", until)) for number in range(CLIENTS)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        page = httpx.get(f"{service.url}/metrics").text
        service.stop(seconds=60)
    dropped = sum(int(float(row.removeprefix(DROPPED))) for row in page.splitlines() if row.startswith(DROPPED))
    lines = [json.loads(line) for line in service.stdout_lines]
    counts = Counter((line["client"], line["number"]) for line in lines if "client" in line)
    assert set(counts.values()) == {1}
    assert counts.keys() <= {(name, number) for name in request_names for number in range(LINES)}
    access_lines = [line for line in lines if line["logger"] == "connectsoft_obs.access"]
    assert len(request_names) > CLIENTS
    assert len(counts) + len(access_lines) + dropped == len(request_names) * (LINES + 1)
    if pause:
        assert dropped == 0
    counted = sum(
        float(row.split()[-1]) for row in page.splitlines() if row.startswith("connectsoft_log_records_total")
    )
    assert 0 <= len(lines) + dropped - counted <= 30, "only lines during the shutdown are written after the scrape"
