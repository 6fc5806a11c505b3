"""The export at the end of a service: its time limit, the event loop meanwhile, and what is exported or counted."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from export.test_collector_faults import ExportingTelemetry
from starlette.applications import Starlette
from support.asgi_lifespan import run_lifespan
from support.faulty_collector import FaultyCollector
from support.otlp import HttpSink
from support.process import APPS, uvicorn, wait_for

import connectsoft_obs as obs
from connectsoft_obs.asgi import lifespan
from connectsoft_obs.process import threads
from connectsoft_obs.settings import load_settings
from connectsoft_obs.telemetry import Telemetry

LIMIT = 8.0
"""Seconds that are much longer than each expected wait, and much shorter than a wait without its limit."""


def service(telemetry: Telemetry, app: Any = None) -> Any:
    return obs.ObservabilityMiddleware(app or Starlette(), telemetry=telemetry)


def test_event_loop_continues_during_the_export_at_shutdown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if the application has left blocking calls in the threads of the event loop."""
    monkeypatch.setattr(lifespan, "_FLUSH_MARGIN", 2 * LIMIT)  # a slow machine may need more than a second
    ticks: list[float] = []
    messages: list[str] = []
    release = threading.Event()

    async def tick() -> None:
        while True:
            ticks.append(time.monotonic())
            await asyncio.sleep(0.02)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        executor = ThreadPoolExecutor(1)
        loop.set_default_executor(executor)
        loop.run_in_executor(None, release.wait, 4 * LIMIT)
        service_telemetry.create_spans(1)
        started = time.monotonic()
        sent = await run_lifespan(service(service_telemetry.telemetry), tick)
        messages.extend(line["message"] for line in service_telemetry.captured.logs)
        release.set()
        assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
        assert 1 <= time.monotonic() - started < LIMIT

    with FaultyCollector("hang") as collector:
        service_telemetry = ExportingTelemetry(collector.url, timeout=60, shutdown_timeout=1)
        asyncio.run(main())
        assert len(ticks) > 5
        [line] = [line for line in service_telemetry.captured.logs if line["message"] in messages[-1:]]
        assert line["message"] == "stopping with unsent telemetry"
        assert line["connectsoft.obs.waiting"] == {"traces": 1}
        service_telemetry.telemetry.shutdown(0.1)


def test_export_that_never_returns_does_not_delay_the_shutdown(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    telemetry = Telemetry(load_settings({}, service="a", shutdown_timeout=0.5, log_level="critical"), exports=False)
    monkeypatch.setattr(telemetry, "stop_serving", lambda: release.wait(60))
    started = time.monotonic()
    assert asyncio.run(run_lifespan(service(telemetry)))[-1] == "lifespan.shutdown.complete"
    assert time.monotonic() - started < LIMIT
    release.set()


@pytest.mark.parametrize("failure", ["no thread", "failed shutdown"])
def test_shutdown_exports_telemetry_after_a_failure(failure: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail_shutdown(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.failed", "message": "the pool is broken"})

    start_thread = threads.start_thread
    if failure == "no thread":
        monkeypatch.setattr(
            threads,
            "start_thread",
            lambda name, *arguments: None if name == "obs-flush" else start_thread(name, *arguments),
        )
    with FaultyCollector() as collector:
        settings = load_settings({}, service="a", otlp_endpoint=collector.url, span_schedule_delay=60.0)
        telemetry = Telemetry(settings, exports=True)
        telemetry.tracing.tracer.start_span("span").end()
        app = fail_shutdown if failure == "failed shutdown" else None
        asyncio.run(run_lifespan(service(telemetry, app)))
        assert [span.name for span in collector.received.spans] == ["span"]
        telemetry.shutdown(1)


def test_service_with_an_unavailable_collector_exports_once_when_it_stops() -> None:
    with FaultyCollector("hang") as collector:
        env = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_EXPORTER_OTLP_TIMEOUT": "60000",
            "CONNECTSOFT_OBS_SHUTDOWN_TIMEOUT": "1",
        }
        with uvicorn("outcomes:app", env=env) as process:
            process.wait_until_ready()
            httpx.get(f"{process.url}/x")
            process.stop()
    messages = [line["message"] for line in process.json_lines]
    assert messages.count("stopping with unsent telemetry") < 2


@pytest.mark.parametrize("operation", ["flush", "shutdown"])
def test_signals_share_the_time_limit(operation: str) -> None:
    with FaultyCollector("hang") as collector:
        settings = load_settings(
            {}, service="a", otlp_endpoint=collector.url, otlp_timeout=60, logs_exporter=["otlp"], log_level="critical"
        )
        telemetry = Telemetry(settings, exports=True)
        telemetry.tracing.tracer.start_span("span").end()
        telemetry.logs.emit(60, "line", None, "test")
        started = time.monotonic()
        assert not getattr(telemetry, operation)(3)
        assert 2.5 < time.monotonic() - started < LIMIT
        telemetry.shutdown(0.1)


@pytest.mark.parametrize("operation", ["flush", "shutdown"])
def test_retry_after_of_a_collector_does_not_delay_flush_and_shutdown(operation: str) -> None:
    with FaultyCollector("503:100") as collector:
        exporting = ExportingTelemetry(collector.url)
        exporting.create_spans(2)
        wait_for(lambda: exporting.exporter_state == 1, 5)
        started = time.monotonic()
        assert not getattr(exporting.telemetry, operation)(30)
        assert time.monotonic() - started < LIMIT
        exporting.telemetry.shutdown(0.1)
        assert exporting.dropped() == {"shutdown": 2}


def test_shutdown_does_not_wait_for_a_name_resolution_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: release.wait(60))
    exporting = ExportingTelemetry("http://collector.invalid:4318")
    exporting.create_spans(2)
    started = time.monotonic()
    assert not exporting.telemetry.shutdown(0.5)
    assert time.monotonic() - started < LIMIT
    assert exporting.dropped() == {"shutdown": 2}
    release.set()


def test_spans_that_end_during_the_shutdown_are_exported() -> None:
    with FaultyCollector("slow:1") as collector:
        exporting = ExportingTelemetry(collector.url, timeout=20)
        exporting.create_spans(1, "before")
        shutdown = threading.Thread(target=exporting.telemetry.shutdown, args=(20,))
        shutdown.start()
        wait_for(lambda: collector.request_count, 10)
        exporting.create_spans(2, "during")
        collector.mode = "ok"
        shutdown.join(20)
        assert [span.name for span in collector.received.spans] == ["before-0", "during-0", "during-1"]
        assert exporting.dropped() == {}


def test_metrics_of_a_process_that_does_not_serve_are_exported_at_shutdown() -> None:
    code = "import connectsoft_obs as obs; obs.configure(service='script'); obs.counter('imported.orders').add(3)"
    with HttpSink() as sink:
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "PATH": "", "PYTHONPATH": ":".join(sys.path)}
        subprocess.run([sys.executable, "-c", code], env=env, timeout=30, check=True, capture_output=True)
        metric = sink.received.metric("imported.orders")
    assert metric.sum.data_points[0].as_int == 3


def test_server_without_lifespan_stops_the_checks_when_it_has_served() -> None:
    code = f"""
import asyncio, sys, httpx, uvicorn
sys.path.insert(0, {str(APPS)!r})
import connectsoft_obs as obs
from no_lifespan import app
server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="off", log_level="critical"))
async def main():
    serve = asyncio.ensure_future(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    async with httpx.AsyncClient() as client:
        await client.get(f"http://127.0.0.1:{{port}}/x")
    health = obs.configure(service="no-lifespan").health
    print("running", health.running)
    server.should_exit = True
    await serve
    print("running", health.running, bool(obs.draining()))
asyncio.run(main())
"""
    completed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    lines = [line for line in completed.stdout.splitlines() if line.startswith("running")]
    assert lines == ["running True", "running False True"], completed.stderr
