"""The access line: one a request, always, with its level by outcome, and nothing that a path or a query says."""

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


async def refused(request: Request) -> PlainTextResponse:
    raise HTTPException(403)


async def boom(request: Request) -> PlainTextResponse:
    raise ValueError("broken")


async def late(request: Request) -> PlainTextResponse:
    raise TimeoutError


async def slow(request: Request) -> PlainTextResponse:
    await asyncio.sleep(0.05)
    return PlainTextResponse("slow")


async def forever(request: Request) -> StreamingResponse:
    async def chunks() -> Any:
        while True:
            yield b"x" * 1000
            await asyncio.sleep(0.01)

    return StreamingResponse(chunks())


routes = [
    Route("/items/{email}", item, methods=["GET", "POST"]),
    Route("/refused", refused),
    Route("/boom", boom),
    Route("/late", late),
    Route("/slow", slow),
    Route("/forever", forever),
]


def said(*requests: tuple[str, str], **settings: Any) -> list[dict[str, Any]]:
    """Access lines of some requests."""
    app = Starlette(routes=routes)
    app.add_middleware(obs.ObservabilityMiddleware, service="access")
    with capture(service="access", **settings) as seen, TestClient(app, raise_server_exceptions=False) as client:
        for method, path in requests:
            client.request(method, path, content=b"body" if method == "POST" else None)
    return lines(seen)


def lines(seen: Captured) -> list[dict[str, Any]]:
    return [line for line in seen.logs if line["logger"] == "connectsoft_obs.access"]


def test_level_and_outcome_follow_what_happened() -> None:
    paths = [
        "/items/a",
        "/items/a?code=404",
        "/refused",
        "/nowhere",
        "/items/a?code=503",
        "/items/a?code=504",
        "/boom",
        "/late",
    ]
    found = said(*[("GET", path) for path in paths])
    assert [(line["severity"], line["connectsoft.outcome"], line["http.response.status_code"]) for line in found] == [
        ("INFO", "success", 200),
        ("INFO", "rejected", 404),
        ("INFO", "rejected", 403),
        ("INFO", "rejected", 404),
        ("ERROR", "failure", 503),
        ("ERROR", "timeout", 504),
        ("ERROR", "failure", 500),
        ("ERROR", "timeout", 500),
    ]
    assert [line.get("error.type") for line in found] == [
        None,
        None,
        None,
        None,
        "503",
        "504",
        "ValueError",
        "TimeoutError",
    ]


def test_it_says_who_asked_what_how_long_it_took_and_how_much_there_was() -> None:
    [line] = said(("POST", "/items/bob@example.org?token=SECRET&page=2"))
    assert line["message"] == "POST /items/{email} 200"
    assert line["http.request.method"] == "POST"
    assert line["http.route"] == "/items/{email}"
    assert (line["http.request.body.size"], line["http.response.body.size"]) == (4, 4)
    assert line["client.address"] == "testclient"
    assert line["user_agent.original"] == "testclient"
    assert 0 < line["http.server.request.duration"] < 5
    assert len(line["trace_id"]) == 32


def test_it_never_says_a_path_parameter_or_a_query() -> None:
    found = said(("GET", "/items/bob@example.org?token=SECRET"), ("GET", "/unknown/bob@example.org?x=SECRET"))
    assert len(found) == 2
    assert "bob@example.org" not in str(found)
    assert "SECRET" not in str(found)


def test_rejections_are_warnings_by_setting() -> None:
    found = said(("GET", "/refused"), ("GET", "/items/a"), access_log_4xx_level="warning")
    assert [line["severity"] for line in found] == ["WARN", "INFO"]


def test_errors_only_and_off() -> None:
    requests = [("GET", "/items/a"), ("GET", "/refused"), ("GET", "/boom"), ("GET", "/late")]
    assert [line["http.route"] for line in said(*requests, access_log="errors")] == ["/boom", "/late"]
    assert said(*requests, access_log="off") == []
    assert said(*requests, disabled=True) == []


@pytest.mark.parametrize("settings", [{}, {"access_log": "errors"}, {"access_log_sample": 0.0}])
def test_a_slow_request_has_a_line_in_any_case_as_a_warning(settings: dict[str, Any]) -> None:
    found = said(("GET", "/items/a"), ("GET", "/slow"), ("GET", "/boom"), access_log_slow=0.04, **settings)
    by_route = {line["http.route"]: line["severity"] for line in found}
    assert by_route.pop("/items/{email}", None) == (None if settings else "INFO")
    assert by_route == {"/slow": "WARN", "/boom": "ERROR"}
    assert said(("GET", "/slow"), access_log_slow=0.04, access_log="off") == []


def test_a_level_for_its_logger_silences_it() -> None:
    found = said(("GET", "/items/a"), ("GET", "/boom"), log_levels="connectsoft_obs.access=error")
    assert [line["severity"] for line in found] == ["ERROR"]


def test_a_client_that_hangs_up_and_a_request_that_is_cancelled_have_their_line() -> None:
    """A peer writes none for a cancelled request, another none for one that raised."""
    with uvicorn("orders:app") as service:
        service.ready()
        with httpx.Client() as client:
            with client.stream("GET", f"{service.url}/stream?chunks=1000&pause=0.01") as answer:
                next(answer.iter_bytes())
        wait_for(lambda: [line for line in service.lines if line.get("http.route") == "/stream"], 10, "the line")
        service.stop()
    [line] = [line for line in service.lines if line.get("http.route") == "/stream"]
    assert (line["severity"], line["connectsoft.outcome"]) == ("INFO", "aborted")
    assert line["error.type"] in ("client_disconnect", "cancelled")


def test_a_cancelled_request_is_an_aborted_one() -> None:
    async def hangs(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(60)

    async def main() -> None:
        scope = {
            "type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b"", "http_version": "1.1",
            "scheme": "http", "client": ("10.0.0.1", 1),
        }  # fmt: skip

        async def nothing(*_: Any) -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        task = asyncio.create_task(obs.ObservabilityMiddleware(hangs, service="access")(scope, nothing, nothing))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with capture() as seen:
        asyncio.run(main())
    [line] = lines(seen)
    assert (line["severity"], line["connectsoft.outcome"], line["error.type"]) == ("INFO", "aborted", "cancelled")
    assert "http.response.status_code" not in line
