"""An exception that ends a request is logged once; the server's own record about it is dropped and counted."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from support.process import Service, wait_for
from support.webservers import LAUNCHERS

CONCURRENT = 24
FULL_RUN_ONLY = pytest.param("gunicorn_asgi", marks=pytest.mark.full)


def request_status(url: str) -> int | None:
    try:
        return httpx.get(url, timeout=10).status_code
    except httpx.TransportError:  # the connection is closed in the middle of the body
        return None


def count_duplicates(service: Service) -> int:
    prefix = 'connectsoft_obs_dropped_total{connectsoft_obs_signal="logs",connectsoft_obs_reason="already_reported"} '
    page = httpx.get(f"{service.url}/metrics").text
    return int(float(next((line.removeprefix(prefix) for line in page.splitlines() if line.startswith(prefix)), 0)))


@pytest.fixture(scope="module", params=[*(name for name in LAUNCHERS if name != "gunicorn_asgi"), FULL_RUN_ONLY])
def failed_service(request: pytest.FixtureRequest) -> Any:
    """A service in which exceptions propagated to the server in each of three ways, and its number of duplicates."""
    with LAUNCHERS[request.param]("failing_asgi:app", env={"CONNECTSOFT_OBS_LOG_ERROR_RATE_LIMIT": "0"}) as service:
        service.wait_until_ready()
        assert request_status(f"{service.url}/before?one") == 500
        request_status(f"{service.url}/midway?two")
        with ThreadPoolExecutor(CONCURRENT) as pool:
            list(pool.map(lambda number: request_status(f"{service.url}/at-once?n{number}"), range(CONCURRENT)))
        assert request_status(f"{service.url}/before") == 500
        assert request_status(f"{service.url}/before?changed") == 500
        assert request_status(f"{service.url}/fine") == 200
        wait_for(lambda: "GET 200" in service.output, 5, "the last access line")
        duplicates = count_duplicates(service)
        service.stop()
        yield service, duplicates


def test_each_exception_has_one_record_with_its_own_trace(failed_service: Any) -> None:
    service, _ = failed_service
    records = [line for line in service.json_lines if line["logger"] == "connectsoft_obs.request"]
    expected = {"one", "two", "", "changed", *(f"n{number}" for number in range(CONCURRENT))}
    assert Counter(line["exception.message"] for line in records) == dict.fromkeys(expected, 1)
    assert {line["exception.type"] for line in records} == {"failing_asgi.OrderRejected"}
    assert len({line["trace_id"] for line in records}) == len(expected)
    access_trace_ids = {
        line["trace_id"] for line in service.json_lines if line.get("error.type") == "failing_asgi.OrderRejected"
    }
    assert {line["trace_id"] for line in records} == access_trace_ids


def test_traceback_of_the_server_is_dropped_and_counted(failed_service: Any) -> None:
    service, duplicates = failed_service
    assert duplicates == CONCURRENT + 3
    for line in service.json_lines:
        if line["logger"] != "connectsoft_obs.request" and "something else" not in str(line):
            assert "Traceback" not in str(line)
    assert "Traceback" not in "".join(service.stderr_lines)


def test_record_of_the_server_about_another_exception_is_kept(failed_service: Any) -> None:
    """Even if that exception was raised from one that is logged already, and contains its name."""
    service, _ = failed_service
    [line] = [line for line in service.json_lines if "something else" in str(line)]
    assert line["severity"] == "ERROR"
    assert "LookupError" in str(line)
