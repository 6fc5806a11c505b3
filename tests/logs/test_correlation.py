"""Each line carries the identity of what it was said in, and of nothing else."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import threading
from typing import Any

import pytest
from opentelemetry import trace
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from support.process import APPS, Service, free_port
from support.scripts import run

import connectsoft_obs as obs
from connectsoft_obs.context.executor import ContextExecutor, carry_context
from connectsoft_obs.testing import capture

log = obs.get_logger("app")
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-"


async def talk(request: Request) -> PlainTextResponse:
    who = request.query_params["who"]
    obs.bind(tenant_id=who)
    log.info("first", who=who)
    await asyncio.sleep(0.001)
    obs.bind(step=2)
    with trace.get_tracer("app").start_as_current_span("inner"):
        log.info("inner", who=who)
    await asyncio.sleep(0)
    log.info("last", who=who)
    return PlainTextResponse(who)


def observed() -> Starlette:
    app = Starlette(routes=[Route("/talk", talk)])
    app.add_middleware(obs.ObservabilityMiddleware, service="talk")
    return app


@pytest.mark.parametrize(("flags", "sampled"), [("01", True), ("00", False)])
def test_trace_and_correlation_id_are_on_every_line_also_when_nothing_is_sampled(flags: str, sampled: bool) -> None:
    headers = {"traceparent": PARENT + flags, "x-correlation-id": "corr-1"}
    with capture() as seen, TestClient(observed()) as client:
        client.get("/talk?who=a", headers=headers)
    found = [line for line in seen.logs if "trace_id" in line]
    assert [line["message"] for line in found] == ["first", "inner", "last", "GET /talk 200"]
    assert {line["trace_id"] for line in found} == {"4bf92f3577b34da6a3ce929d0e0e4736"}
    assert {line["connectsoft.correlation.id"] for line in found} == {"corr-1"}
    assert all(bool(int(line["trace_flags"], 16) & 1) is sampled for line in found)
    assert len(seen.spans) == (2 if sampled else 0)


def test_a_line_names_the_span_it_was_said_in() -> None:
    with capture() as seen, TestClient(observed()) as client:
        client.get("/talk?who=a")
    server, inner = seen.span("GET /talk"), seen.span("inner")
    assert server.context is not None
    assert inner.context is not None
    assert seen.log("first")["span_id"] == f"{server.context.span_id:016x}"
    assert seen.log("inner")["span_id"] == f"{inner.context.span_id:016x}"


def test_facts_are_on_later_lines_and_not_on_earlier_ones() -> None:
    with capture() as seen, TestClient(observed()) as client:
        client.get("/talk?who=acme")
    assert "step" not in seen.log("first")
    assert (seen.log("inner")["step"], seen.log("GET /talk 200")["step"]) == (2, 2)
    assert seen.log("last")["connectsoft.tenant.id"] == "acme"


def test_a_hundred_requests_at_once_keep_their_lines_apart() -> None:
    async def main() -> None:
        app = observed()

        async def one(number: int) -> None:
            scope: dict[str, Any] = {
                "type": "http", "method": "GET", "path": "/talk", "query_string": b"who=w%d" % number, "headers": [],
                "http_version": "1.1", "scheme": "http", "root_path": "",
            }  # fmt: skip

            async def receive() -> Any:
                return {"type": "http.request", "body": b"", "more_body": False}

            async def send(_: Any) -> None:
                await asyncio.sleep(0)

            await app(scope, receive, send)

        await asyncio.gather(*[one(number) for number in range(100)])
        # On one task, one after the other: nothing of the first may be left for the second.
        await one(1000)
        await one(1001)

    with capture() as seen:
        asyncio.run(main())
    by_trace: dict[str, set[str | None]] = {}
    for line in seen.logs:
        if "trace_id" in line:
            by_trace.setdefault(line["trace_id"], set()).add(line.get("connectsoft.tenant.id", line.get("who")))
    assert len(by_trace) == 102
    assert all(len(tenants) == 1 for tenants in by_trace.values())
    firsts = [line for line in seen.logs if line["message"] == "first"]
    assert all(line["connectsoft.tenant.id"] == line["who"] and "step" not in line for line in firsts)


def test_outside_of_an_operation_there_is_no_trace_and_what_is_bound_belongs_to_the_task() -> None:
    def other() -> None:
        obs.bind(batch=1)
        log.info("bound")

    with capture() as seen:
        contextvars.copy_context().run(other)
        log.info("unbound")
    assert not {"trace_id", "span_id", "trace_flags", "connectsoft.correlation.id"} & seen.log("bound").keys()
    assert seen.log("bound")["batch"] == 1
    assert "batch" not in seen.log("unbound")


def test_a_span_of_somebody_elses_sdk_is_correlated_too() -> None:
    from opentelemetry.sdk.trace import TracerProvider

    tracer = TracerProvider().get_tracer("foreign")
    with capture() as seen, tracer.start_as_current_span("foreign") as span:
        log.info("inside")
    assert seen.log("inside")["trace_id"] == f"{span.get_span_context().trace_id:032x}"


class Marked(concurrent.futures.ThreadPoolExecutor):
    """An executor of the application's own."""


def test_an_executor_that_the_application_set_stays() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        mine = Marked()
        loop.set_default_executor(mine)
        assert carry_context(loop) is False
        thread = await loop.run_in_executor(None, threading.current_thread)
        assert thread in mine._threads

    asyncio.run(main())


def test_the_default_executor_carries_the_context_once_and_returns_and_raises_as_before() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert carry_context(loop) is True
        assert carry_context(loop) is False
        variable.set("carried")
        assert await loop.run_in_executor(None, variable.get) == "carried"
        await loop.run_in_executor(None, variable.set, "in the thread")
        assert variable.get() == "carried"
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(None, divmod, 1, 0)
        assert (await loop.run_in_executor(None, threading.current_thread)).name.startswith("asyncio_")

    asyncio.run(main())
    assert ContextExecutor()._max_workers == concurrent.futures.ThreadPoolExecutor()._max_workers


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("setting", ["true", "false"])
def test_executor_threads_are_correlated_on_both_loops_unless_switched_off(loop: str, setting: str) -> None:
    import sys

    import httpx
    from support.process import wait_for

    port = free_port()
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "chatty_logging:app",
        "--app-dir",
        str(APPS),
        "--port",
        str(port),
        "--loop",
        loop,
    ]
    with Service(command, port, {"CONNECTSOFT_OBS_PROPAGATE_CONTEXT_TO_THREADS": setting}) as service:
        service.ready()
        httpx.get(f"{service.url}/elsewhere")
        wait_for(lambda: "from a background task" in service.said, 5)
        service.stop()
    by_message = {line["message"]: line for line in service.lines}
    assert ("trace_id" in by_message["from an executor"]) is (setting == "true")
    assert "trace_id" in by_message["from to_thread"]


def test_a_uvloop_executor_of_the_application_stays() -> None:
    code = """
import asyncio, concurrent.futures, uvloop
from connectsoft_obs.context.executor import carry_context
async def main():
    loop = asyncio.get_running_loop()
    loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(thread_name_prefix="mine"))
    print(carry_context(loop))
uvloop.run(main())
"""
    assert run(code).out.strip() == "False"
