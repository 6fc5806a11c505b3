"""An exception that ended a request is told once, by us: whatever the server says of it again is dropped, and counted."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from support.process import Service, wait_for
from support.webservers import ALL

MANY = 24
LONG = pytest.param("gunicorn_asgi", marks=pytest.mark.full)


def get(url: str) -> int | None:
    try:
        return httpx.get(url, timeout=10).status_code
    except httpx.TransportError:  # cut off in the middle of the body
        return None


def repeated(service: Service) -> int:
    start = 'connectsoft_obs_dropped_total{connectsoft_obs_signal="logs",connectsoft_obs_reason="already_reported"} '
    page = httpx.get(f"{service.url}/metrics").text
    return int(float(next((line.removeprefix(start) for line in page.splitlines() if line.startswith(start)), 0)))


@pytest.fixture(scope="module", params=[*(name for name in ALL if name != "gunicorn_asgi"), LONG])
def broke(request: pytest.FixtureRequest) -> Any:
    """A service in which exceptions went up to the server in each of three ways."""
    with ALL[request.param]("failing_asgi:app", env={"CONNECTSOFT_OBS_LOG_ERROR_RATE_LIMIT": "0"}) as service:
        service.ready()
        assert get(f"{service.url}/before?one") == 500
        get(f"{service.url}/midway?two")
        with ThreadPoolExecutor(MANY) as pool:
            list(pool.map(lambda number: get(f"{service.url}/at-once?n{number}"), range(MANY)))
        assert get(f"{service.url}/before") == 500
        assert get(f"{service.url}/before?changed") == 500
        assert get(f"{service.url}/fine") == 200
        wait_for(lambda: "GET 200" in service.said, 5, "the last access line")
        counted = repeated(service)
        service.stop()
        yield service, counted


def test_one_record_each_with_its_own_trace(broke: Any) -> None:
    service, _ = broke
    told = [line for line in service.lines if line["logger"] == "connectsoft_obs.request"]
    expected = {"one", "two", "", "changed", *(f"n{number}" for number in range(MANY))}
    assert Counter(line["exception.message"] for line in told) == dict.fromkeys(expected, 1)
    assert {line["exception.type"] for line in told} == {"failing_asgi.OrderRejected"}
    assert len({line["trace_id"] for line in told}) == len(expected)
    accessed = {line["trace_id"] for line in service.lines if line.get("error.type") == "failing_asgi.OrderRejected"}
    assert {line["trace_id"] for line in told} == accessed


def test_the_servers_own_traceback_is_dropped_and_counted(broke: Any) -> None:
    service, counted = broke
    assert counted == MANY + 3
    for line in service.lines:
        if line["logger"] != "connectsoft_obs.request" and "something else" not in str(line):
            assert "Traceback" not in str(line)
    assert "Traceback" not in "".join(service.err)


def test_what_the_server_says_of_another_exception_stays(broke: Any) -> None:
    """Also where it was raised from the one that was told, and names it."""
    service, _ = broke
    [line] = [line for line in service.lines if "something else" in str(line)]
    assert line["severity"] == "ERROR"
    assert "LookupError" in str(line)
