"""Worker processes: endpoints while jobs run, and shutdown without loss of telemetry."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient
from support.otlp import HttpSink
from support.process import APPS, Service, free_port, wait_for

import connectsoft_obs as obs
from connectsoft_obs.testing import capture


def full_only(mode: str) -> Any:
    """A slow variant, which runs only in the full suite."""
    return pytest.param(mode, marks=pytest.mark.full)


def start_worker(
    mode: str, port: int | None = None, env: Mapping[str, str] | None = None, ready: bool = True
) -> Service:
    port = port or free_port()
    environment = {"OTEL_EXPORTER_PROMETHEUS_PORT": str(port), "CONNECTSOFT_OBS_DRAIN_TIMEOUT": "8", **(env or {})}
    service = Service([sys.executable, str(APPS / "workers.py"), mode], port, environment)
    return service.wait_until_ready("/health/ready") if ready else service


def job_messages(service: Service) -> list[str]:
    return [line["message"] for line in service.json_lines if line["logger"] == "connectsoft_obs.job"]


def test_all_endpoints_respond_while_a_job_blocks() -> None:
    with start_worker("endless") as service, httpx.Client(base_url=service.url) as client:
        for path in ("/health/live", "/health/ready", "/health/startup", "/alive", "/startup", "/health"):
            assert client.get(path).json()["status"] == "Healthy"
        assert client.get("/info").json()["service"] == "audit-ingest"
        wait_for(lambda: 'connectsoft_job_active{connectsoft_job_name="long"' in client.get("/metrics").text)
        page = client.get("/metrics").text
    assert 'connectsoft_job_active{connectsoft_job_name="long",connectsoft_job_trigger="other"} 1.0' in page


@pytest.mark.parametrize("mode", ["loop_once", full_only("once")])
def test_sigterm_fails_readiness_drains_flushes_and_exits_with_0(mode: str) -> None:
    with HttpSink() as sink:
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "OTEL_BSP_SCHEDULE_DELAY": "60000"}
        with start_worker(mode, env=env) as service:
            wait_for(lambda: "connectsoft_job_active{" in httpx.get(f"{service.url}/metrics").text)
            service.process.send_signal(signal.SIGTERM)
            wait_for(lambda: httpx.get(f"{service.url}/health/ready").status_code == 503, 2)
            assert httpx.get(f"{service.url}/health/live").status_code == 200
            assert service.process.wait(15) == 0, service.output
        wait_for(lambda: len(service.json_lines) > 2, 5)
        assert job_messages(service)[0].endswith("long success"), service.output
        assert [span.name.endswith("long") for span in sink.received.spans] == [True]


@pytest.mark.parametrize(
    "mode", ["loop", full_only("blocked"), full_only("busy"), full_only("on_uvloop"), full_only("on_trio")]
)
def test_program_that_ignores_draining_is_stopped_between_runs(mode: str) -> None:
    with start_worker(mode) as service:
        started = time.monotonic()
        assert service.stop(seconds=20) == 0, service.output
        assert time.monotonic() - started < 7, "before the drain timeout"
        assert set(job_messages(service)) <= {"run long success", "run async-long success"}
        assert "Traceback" not in service.output
        assert "after\n" not in service.stdout_lines


@pytest.mark.parametrize("mode", ["cooperative", "loop_inside"])
def test_program_that_checks_draining_exits_by_itself(mode: str) -> None:
    with start_worker(mode) as service:
        assert service.stop() == 0, service.output
        assert "after\n" in service.stdout_lines
        assert set(job_messages(service)) <= {"run long success", "run async-long success"}


@pytest.mark.parametrize("mode", ["endless", full_only("stuck_thread")])
def test_job_that_exceeds_the_drain_timeout_is_recorded_as_aborted(mode: str) -> None:
    with start_worker(mode, env={"CONNECTSOFT_OBS_DRAIN_TIMEOUT": "1"}) as service:
        wait_for(lambda: "connectsoft_job_active{" in httpx.get(f"{service.url}/metrics").text)
        assert service.stop(seconds=10) == 0, service.output
    assert job_messages(service) == ["run long aborted"]


def test_second_sigterm_skips_the_drain() -> None:
    with start_worker("endless") as service:
        service.process.send_signal(signal.SIGTERM)
        wait_for(lambda: httpx.get(f"{service.url}/health/ready").status_code == 503, 2)
        started = time.monotonic()
        assert service.stop() == 0, service.output
        assert time.monotonic() - started < 5


def test_sigint_raises_keyboard_interrupt() -> None:
    with start_worker("blocked") as service:
        assert service.stop(signal.SIGINT) in (130, -signal.SIGINT), service.output
        assert "KeyboardInterrupt" in service.output


@pytest.mark.full
def test_existing_sigterm_handler_still_stops_the_program() -> None:
    with start_worker("own_handler") as service:
        assert service.stop() == 0, service.output
        assert "after\n" in service.stdout_lines


def test_loop_without_heartbeats_fails_liveness_only() -> None:
    with start_worker("silent") as service:
        wait_for(lambda: httpx.get(f"{service.url}/health/live").status_code == 503, 10)
        assert httpx.get(f"{service.url}/health/ready").status_code == 200
        page = httpx.get(f"{service.url}/metrics").text
    assert 'connectsoft_job_heartbeat_timestamp_seconds{connectsoft_job_name="poll-loop"}' in page


def test_second_worker_takes_over_the_port_when_the_first_exits() -> None:
    port = free_port()
    with start_worker("blocked", port) as first, start_worker("cooperative", port, ready=False) as second:
        wait_for(
            lambda: any("has the management port" in line["message"] for line in second.json_lines), 10, "the warning"
        )
        assert second.process.poll() is None
        assert httpx.get(f"{first.url}/health/live").status_code == 200
        first.stop(signal.SIGKILL)
        second.wait_until_ready("/health/ready")
        assert "long" in httpx.get(f"{second.url}/metrics").text
        assert second.stop() == 0


def test_unavailable_port_is_logged_and_the_worker_continues() -> None:
    env = {"OTEL_EXPORTER_PROMETHEUS_HOST": "203.0.113.1"}
    with start_worker("cooperative", env=env, ready=False) as service:
        wait_for(
            lambda: any("cannot listen on the management port" in line["message"] for line in service.json_lines), 10
        )
        wait_for(lambda: len(job_messages(service)) > 2, 10)
        assert service.stop() == 0


def test_forked_child_has_neither_the_port_nor_the_signal_handlers() -> None:
    with start_worker("forks") as service:
        child_lines = wait_for(lambda: [line for line in list(service.stdout_lines) if line.startswith("child ")], 10)
        child = int(child_lines[0].split()[1])
        os.kill(child, signal.SIGTERM)
        wait_for(
            lambda: f"child exit code {-signal.SIGTERM}\n" in service.stdout_lines, 5, "SIGTERM ends the child at once"
        )
        assert httpx.get(f"{service.url}/health/ready").status_code == 200
        assert service.stop() == 0


def test_invalid_setting_raises_configuration_error_at_start() -> None:
    with capture(), pytest.raises(obs.ConfigurationError, match="no such setting"), obs.worker(servise="typo"):  # type: ignore[call-arg]
        pass
    with pytest.raises(RuntimeError, match="not running"):
        obs.worker(service="x").draining  # noqa: B018  the property access is tested


def test_worker_inside_capture_listens_on_its_own_port() -> None:
    with capture() as captured:
        with obs.worker(service="tested", prometheus_port=0) as worker:
            port = worker.port
            assert port
            wait_for(lambda: httpx.get(f"http://127.0.0.1:{port}/health/ready").status_code == 200, 5)
            draining_before = worker.draining
            worker.drain()
            assert (draining_before, worker.draining) == (False, True)
            assert httpx.get(f"http://127.0.0.1:{port}/health/ready").status_code == 503
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0
    assert captured.telemetry is not None
    assert captured.telemetry.identity.service == "tested"


def test_worker_that_ends_leaves_another_one_of_the_process_ready() -> None:
    with capture(), obs.worker(prometheus_port=0) as outer:
        url = f"http://127.0.0.1:{outer.port}/health/ready"
        wait_for(lambda: httpx.get(url).status_code == 200, 5)
        with obs.worker() as inner:
            assert inner.port == outer.port
            inner.drain()
            assert (inner.draining, outer.draining) == (True, False)
        assert httpx.get(url).status_code == 200
        outer.drain()
        assert httpx.get(url).status_code == 503


def test_worker_that_ends_leaves_the_web_service_ready() -> None:
    app = Starlette()
    app.add_middleware(obs.ObservabilityMiddleware, service="orders", prometheus_port=0)
    with capture(), TestClient(app) as client:
        wait_for(lambda: client.get("/health/ready").status_code == 200, 5)
        with obs.worker() as worker:
            worker.drain()
        assert client.get("/health/ready").status_code == 200
