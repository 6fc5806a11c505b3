"""Correlation: each line has the ids and bound attributes of its own operation, and of no other."""

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
from support.scripts import run_script

import connectsoft_obs as obs
from connectsoft_obs.context.executor import ContextExecutor, carry_context
from connectsoft_obs.testing import capture

log = obs.get_logger("app")
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-"


async def chat(request: Request) -> PlainTextResponse:
    tenant = request.query_params["tenant"]
    obs.bind(tenant_id=tenant)
    log.info("first", tenant=tenant)
    await asyncio.sleep(0.001)
    obs.bind(step=2)
    with trace.get_tracer("app").start_as_current_span("inner"):
        log.info("inner", tenant=tenant)
    await asyncio.sleep(0)
    log.info("last", tenant=tenant)
    return PlainTextResponse(tenant)


def observed_app() -> Starlette:
    app = Starlette(routes=[Route("/chat", chat)])
    app.add_middleware(obs.ObservabilityMiddleware, service="chat")
    return app


@pytest.mark.parametrize(("flags", "sampled"), [("01", True), ("00", False)])
def test_trace_and_correlation_id_are_on_every_line_even_if_not_sampled(flags: str, sampled: bool) -> None:
    headers = {"traceparent": PARENT + flags, "x-correlation-id": "corr-1"}
    with capture() as seen, TestClient(observed_app()) as client:
        client.get("/chat?tenant=a", headers=headers)
    lines = [line for line in seen.logs if "trace_id" in line]
    assert [line["message"] for line in lines] == ["first", "inner", "last", "GET /chat 200"]
    assert {line["trace_id"] for line in lines} == {"4bf92f3577b34da6a3ce929d0e0e4736"}
    assert {line["connectsoft.correlation.id"] for line in lines} == {"corr-1"}
    assert all(bool(int(line["trace_flags"], 16) & 1) is sampled for line in lines)
    assert len(seen.spans) == (2 if sampled else 0)


def test_line_has_the_id_of_the_current_span() -> None:
    with capture() as seen, TestClient(observed_app()) as client:
        client.get("/chat?tenant=a")
    server, inner = seen.span("GET /chat"), seen.span("inner")
    assert server.context is not None
    assert inner.context is not None
    assert seen.log("first")["span_id"] == f"{server.context.span_id:016x}"
    assert seen.log("inner")["span_id"] == f"{inner.context.span_id:016x}"


def test_bound_attributes_are_on_later_lines_only() -> None:
    with capture() as seen, TestClient(observed_app()) as client:
        client.get("/chat?tenant=acme")
    assert "step" not in seen.log("first")
    assert (seen.log("inner")["step"], seen.log("GET /chat 200")["step"]) == (2, 2)
    assert seen.log("last")["connectsoft.tenant.id"] == "acme"


def test_concurrent_requests_have_separate_bound_attributes() -> None:
    async def main() -> None:
        app = observed_app()

        async def send_request(number: int) -> None:
            scope: dict[str, Any] = {
                "type": "http", "method": "GET", "path": "/chat", "query_string": b"tenant=t%d" % number, "headers": [],
                "http_version": "1.1", "scheme": "http", "root_path": "",
            }  # fmt: skip

            async def receive() -> Any:
                return {"type": "http.request", "body": b"", "more_body": False}

            async def send(_: Any) -> None:
                await asyncio.sleep(0)

            await app(scope, receive, send)

        await asyncio.gather(*[send_request(number) for number in range(100)])
        # Sequentially in one task: nothing of the first request may remain for the second.
        await send_request(1000)
        await send_request(1001)

    with capture() as seen:
        asyncio.run(main())
    by_trace: dict[str, set[str | None]] = {}
    for line in seen.logs:
        if "trace_id" in line:
            by_trace.setdefault(line["trace_id"], set()).add(line.get("connectsoft.tenant.id", line.get("tenant")))
    assert len(by_trace) == 102
    assert all(len(tenants) == 1 for tenants in by_trace.values())
    first_lines = [line for line in seen.logs if line["message"] == "first"]
    assert all(line["connectsoft.tenant.id"] == line["tenant"] and "step" not in line for line in first_lines)


def test_attributes_bound_outside_an_operation_belong_to_the_task() -> None:
    def bind_and_log() -> None:
        obs.bind(batch=1)
        log.info("bound")

    with capture() as seen:
        contextvars.copy_context().run(bind_and_log)
        log.info("unbound")
    assert not {"trace_id", "span_id", "trace_flags", "connectsoft.correlation.id"} & seen.log("bound").keys()
    assert seen.log("bound")["batch"] == 1
    assert "batch" not in seen.log("unbound")


def test_span_of_another_tracer_provider_is_correlated() -> None:
    from opentelemetry.sdk.trace import TracerProvider

    tracer = TracerProvider().get_tracer("foreign")
    with capture() as seen, tracer.start_as_current_span("foreign") as span:
        log.info("inside")
    assert seen.log("inside")["trace_id"] == f"{span.get_span_context().trace_id:032x}"


class CustomExecutor(concurrent.futures.ThreadPoolExecutor):
    """An executor of the application."""


def test_executor_of_the_application_is_not_replaced() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        executor = CustomExecutor()
        loop.set_default_executor(executor)
        assert carry_context(loop) is False
        thread = await loop.run_in_executor(None, threading.current_thread)
        assert thread in executor._threads

    asyncio.run(main())


def test_default_executor_propagates_the_context() -> None:
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


@obs.job("in-pool")
def job_in_pool() -> str:
    log.info("in the pool")
    return threading.current_thread().name


@pytest.mark.parametrize("setting", [True, False])
def test_job_in_a_thread_pool_continues_the_trace_by_setting(setting: bool) -> None:
    with capture(propagate_context_to_threads=setting) as seen, concurrent.futures.ThreadPoolExecutor(1) as pool:
        with obs.operation("parent"):
            obs.bind(order_id=7)
            assert pool.submit(job_in_pool).result() != threading.current_thread().name
            assert list(pool.map(divmod, (7,), (2,))) == [(3, 1)]
            with pytest.raises(ZeroDivisionError):
                pool.submit(divmod, 1, 0).result()
        pool.submit(log.info, "without an operation").result()
    is_child = seen.span("run in-pool").parent == seen.span("run parent").context
    assert is_child is setting
    assert ("order_id" in seen.log("in the pool")) is setting
    assert "trace_id" not in seen.log("without an operation"), "the thread keeps no context"


def test_application_can_pass_the_context_to_a_thread() -> None:
    with (
        capture(propagate_context_to_threads=False) as seen,
        concurrent.futures.ThreadPoolExecutor(1) as pool,
        obs.operation("parent"),
    ):
        pool.submit(contextvars.copy_context().run, job_in_pool).result()
    assert seen.span("run in-pool").parent == seen.span("run parent").context


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("setting", ["true", "false"])
def test_executor_threads_are_correlated_on_both_loops_by_setting(loop: str, setting: str) -> None:
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
        service.wait_until_ready()
        httpx.get(f"{service.url}/threads-and-tasks")
        wait_for(lambda: "from a background task" in service.output, 5)
        service.stop()
    by_message = {line["message"]: line for line in service.json_lines}
    assert ("trace_id" in by_message["from an executor"]) is (setting == "true")
    assert "trace_id" in by_message["from to_thread"]


def test_uvloop_executor_of_the_application_is_not_replaced() -> None:
    code = """
import asyncio, concurrent.futures, uvloop
from connectsoft_obs.context.executor import carry_context
async def main():
    loop = asyncio.get_running_loop()
    loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(thread_name_prefix="custom"))
    print(carry_context(loop))
uvloop.run(main())
"""
    assert run_script(code).stdout.strip() == "False"
