"""The access log: one line per request, with a level by outcome, without path parameters and query values."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from support.process import uvicorn, wait_for

import connectsoft_obs as obs
from connectsoft_obs.testing import Captured, capture


async def item(request: Request) -> PlainTextResponse:
    await request.body()
    return PlainTextResponse("item", int(request.query_params.get("code", 200)))


async def forbidden(request: Request) -> PlainTextResponse:
    raise HTTPException(403)


async def boom(request: Request) -> PlainTextResponse:
    raise ValueError("broken")


async def timeout(request: Request) -> PlainTextResponse:
    raise TimeoutError


async def slow(request: Request) -> PlainTextResponse:
    await asyncio.sleep(0.05)
    return PlainTextResponse("slow")


async def endless(request: Request) -> StreamingResponse:
    async def chunks() -> Any:
        while True:
            yield b"x" * 1000
            await asyncio.sleep(0.01)

    return StreamingResponse(chunks())


routes = [
    Route("/items/{email}", item, methods=["GET", "POST"]),
    Route("/forbidden", forbidden),
    Route("/boom", boom),
    Route("/timeout", timeout),
    Route("/slow", slow),
    Route("/endless", endless),
]


def access_lines(*requests: tuple[str, str], **settings: Any) -> list[dict[str, Any]]:
    """Send requests and return their access log lines."""
    app = Starlette(routes=routes)
    app.add_middleware(obs.ObservabilityMiddleware, service="access")
    with capture(service="access", **settings) as seen, TestClient(app, raise_server_exceptions=False) as client:
        for method, path in requests:
            client.request(method, path, content=b"body" if method == "POST" else None)
    return select_access_lines(seen)


def select_access_lines(seen: Captured) -> list[dict[str, Any]]:
    return [line for line in seen.logs if line["logger"] == "connectsoft_obs.access"]


def test_level_and_outcome_depend_on_status_and_exception() -> None:
    paths = [
        "/items/a",
        "/items/a?code=404",
        "/forbidden",
        "/nowhere",
        "/items/a?code=503",
        "/items/a?code=504",
        "/boom",
        "/timeout",
    ]
    lines = access_lines(*[("GET", path) for path in paths])
    assert [(line["severity"], line["connectsoft.outcome"], line["http.response.status_code"]) for line in lines] == [
        ("INFO", "success", 200),
        ("INFO", "rejected", 404),
        ("INFO", "rejected", 403),
        ("INFO", "rejected", 404),
        ("ERROR", "failure", 503),
        ("ERROR", "timeout", 504),
        ("ERROR", "failure", 500),
        ("ERROR", "timeout", 500),
    ]
    assert [line.get("error.type") for line in lines] == [
        None,
        None,
        None,
        None,
        "503",
        "504",
        "ValueError",
        "TimeoutError",
    ]


def test_access_line_has_client_route_duration_and_sizes() -> None:
    [line] = access_lines(("POST", "/items/bob@example.org?token=SECRET&page=2"))
    assert line["message"] == "POST /items/{email} 200"
    assert line["http.request.method"] == "POST"
    assert line["http.route"] == "/items/{email}"
    assert (line["http.request.body.size"], line["http.response.body.size"]) == (4, 4)
    assert line["client.address"] == "testclient"
    assert line["user_agent.original"] == "testclient"
    assert 0 < line["connectsoft.http.server.request.duration"] < 5
    assert len(line["trace_id"]) == 32


def test_path_parameters_and_query_values_are_not_logged() -> None:
    lines = access_lines(("GET", "/items/bob@example.org?token=SECRET"), ("GET", "/unknown/bob@example.org?x=SECRET"))
    assert len(lines) == 2
    assert "bob@example.org" not in str(lines)
    assert "SECRET" not in str(lines)


def unmatched_lines(**settings: Any) -> list[dict[str, Any]]:
    requests = [("GET", "/nowhere/5?token=SECRET"), ("OPTIONS", "/elsewhere"), ("GET", "/slow/"), ("GET", "/items/a")]
    return access_lines(*requests, **settings)


def test_path_of_a_request_without_a_route_is_logged_in_development() -> None:
    lines = unmatched_lines(environment="development")
    assert [(line["http.response.status_code"], line.get("url.path")) for line in lines] == [
        (404, "/nowhere/5"),
        (404, "/elsewhere"),
        (307, "/slow/"),  # a redirect to /slow, which is the next request
        (200, None),
        (200, None),
    ]
    assert [line.get("http.route") for line in lines] == [None, None, None, "/slow", "/items/{email}"]
    assert "SECRET" not in str(lines)


@pytest.mark.parametrize("environment", ["production", "staging", "test"])
def test_path_of_a_request_without_a_route_is_a_setting_in_production(environment: str) -> None:
    assert not any("url.path" in line for line in unmatched_lines(environment=environment))
    lines = unmatched_lines(environment=environment, access_log_url_path=True)
    assert [line.get("url.path") for line in lines[:3]] == ["/nowhere/5", "/elsewhere", "/slow/"]
    lines = unmatched_lines(environment="development", access_log_url_path=False)
    assert not any("url.path" in line for line in lines)


def test_path_of_a_request_without_a_route_is_redacted_and_bounded() -> None:
    token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJlLW9mLXRva2Vu"
    paths = [f"/reset/{token}", "/pay/4111111111111111", f"/{'x' * 5000}", "/a%0Ab%1B[31m", "/%FF"]
    lines = access_lines(*[("GET", path) for path in paths], environment="development")
    assert [line["url.path"] for line in lines] == [
        "/reset/REDACTED",
        "/pay/REDACTED",
        f"/{'x' * 255}",
        "/a\nb\x1b[31m",
        "/\ufffd",
    ]


def test_level_of_rejections_is_configurable() -> None:
    lines = access_lines(("GET", "/forbidden"), ("GET", "/items/a"), access_log_4xx_level="warning")
    assert [line["severity"] for line in lines] == ["WARN", "INFO"]


def test_access_log_can_be_limited_to_errors_or_disabled() -> None:
    requests = [("GET", "/items/a"), ("GET", "/forbidden"), ("GET", "/boom"), ("GET", "/timeout")]
    assert [line["http.route"] for line in access_lines(*requests, access_log="errors")] == ["/boom", "/timeout"]
    assert access_lines(*requests, access_log="off") == []
    assert access_lines(*requests, disabled=True) == []


@pytest.mark.parametrize("settings", [{}, {"access_log": "errors"}, {"access_log_sample": 0.0}])
def test_slow_request_is_always_logged_as_a_warning(settings: dict[str, Any]) -> None:
    lines = access_lines(("GET", "/items/a"), ("GET", "/slow"), ("GET", "/boom"), access_log_slow=0.04, **settings)
    by_route = {line["http.route"]: line["severity"] for line in lines}
    assert by_route.pop("/items/{email}", None) == (None if settings else "INFO")
    assert by_route == {"/slow": "WARN", "/boom": "ERROR"}
    assert access_lines(("GET", "/slow"), access_log_slow=0.04, access_log="off") == []


def test_level_of_the_access_logger_applies() -> None:
    lines = access_lines(("GET", "/items/a"), ("GET", "/boom"), log_levels="connectsoft_obs.access=error")
    assert [line["severity"] for line in lines] == ["ERROR"]


def test_client_disconnect_is_logged() -> None:
    """Some libraries write no line for a cancelled request, others none for one that raised."""
    with uvicorn("orders:app") as service:
        service.wait_until_ready()
        with httpx.Client() as client:
            with client.stream("GET", f"{service.url}/stream?chunks=1000&pause=0.01") as response:
                next(response.iter_bytes())
        wait_for(lambda: [line for line in service.json_lines if line.get("http.route") == "/stream"], 10, "the line")
        service.stop()
    [line] = [line for line in service.json_lines if line.get("http.route") == "/stream"]
    assert (line["severity"], line["connectsoft.outcome"]) == ("INFO", "aborted")
    assert line["error.type"] in ("client_disconnect", "cancelled")


def test_cancelled_request_has_the_outcome_aborted() -> None:
    async def hangs(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(60)

    async def main() -> None:
        scope = {
            "type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b"", "http_version": "1.1",
            "scheme": "http", "client": ("10.0.0.1", 1),
        }  # fmt: skip

        async def receive_or_send(*_: Any) -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        task = asyncio.create_task(
            obs.ObservabilityMiddleware(hangs, service="access")(scope, receive_or_send, receive_or_send)
        )
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with capture() as seen:
        asyncio.run(main())
    [line] = select_access_lines(seen)
    assert (line["severity"], line["connectsoft.outcome"], line["error.type"]) == ("INFO", "aborted", "cancelled")
    assert "http.response.status_code" not in line
