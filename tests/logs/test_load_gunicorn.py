"""A chatty service under gunicorn with four workers: every line parses, and there are as many as were said."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter

import httpx
import pytest
from support.webservers import ALL

LINES = 60
"""Lines of each request, of 200 bytes to 15 KiB, through structlog, our logger and the standard library's."""

CLIENTS = 4
LONG = pytest.mark.full
DROPPED = 'connectsoft_obs_dropped_total{connectsoft_obs_signal="logs",connectsoft_obs_reason="stdout_blocked"} '


@pytest.mark.parametrize(
    ("seconds", "pause"),
    [
        pytest.param(3.0, 0.05, id="3 s"),
        pytest.param(60.0, 0.05, id="60 s", marks=LONG),
        pytest.param(10.0, 0.0, id="faster than anybody reads", marks=LONG),
    ],
)
def test_every_line_of_four_workers_parses_and_their_number_is_what_was_said(seconds: float, pause: float) -> None:
    answered: list[str] = []

    def talk(name: str, until: float) -> None:
        with httpx.Client(timeout=60) as client:
            number = 0
            while time.monotonic() < until:
                who = f"{name}-{number}"
                assert client.get(f"{service.url}/chatty?who={who}&lines={LINES}").status_code == 200
                answered.append(who)
                number += 1
                time.sleep(pause)

    with ALL["gunicorn"]("chatty_logging:app", workers=4) as service:
        service.ready()
        until = time.monotonic() + seconds
        clients = [threading.Thread(target=talk, args=(f"client{number}", until)) for number in range(CLIENTS)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        page = httpx.get(f"{service.url}/metrics").text
        service.stop(seconds=60)
    dropped = sum(int(float(row.removeprefix(DROPPED))) for row in page.splitlines() if row.startswith(DROPPED))
    lines = [json.loads(line) for line in service.out]
    said = Counter((line["who"], line["number"]) for line in lines if "who" in line)
    assert set(said.values()) == {1}
    assert said.keys() <= {(who, number) for who in answered for number in range(LINES)}
    accessed = [line for line in lines if line["logger"] == "connectsoft_obs.access"]
    assert len(answered) > CLIENTS
    assert len(said) + len(accessed) + dropped == len(answered) * (LINES + 1)
    if pause:
        assert dropped == 0
    counted = sum(
        float(row.split()[-1]) for row in page.splitlines() if row.startswith("connectsoft_log_records_total")
    )
    assert 0 <= len(lines) + dropped - counted <= 30, "only what is said at the end comes after the scrape"
