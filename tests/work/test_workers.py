"""Worker processes: endpoints beside the work, and an end that loses nothing."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.otlp import HttpSink
from support.process import APPS, Service, free_port, wait_for

import connectsoft_obs as obs
from connectsoft_obs.testing import capture


def full(what: str) -> Any:
    """A variant that takes its time and differs little."""
    return pytest.param(what, marks=pytest.mark.full)


def started(what: str, port: int | None = None, env: Mapping[str, str] | None = None, ready: bool = True) -> Service:
    port = port or free_port()
    environment = {"OTEL_EXPORTER_PROMETHEUS_PORT": str(port), "CONNECTSOFT_OBS_DRAIN_TIMEOUT": "8", **(env or {})}
    service = Service([sys.executable, str(APPS / "workers.py"), what], port, environment)
    return service.wait_until_ready("/health/ready") if ready else service


def runs(service: Service) -> list[str]:
    return [line["message"] for line in service.json_lines if line["logger"] == "connectsoft_obs.job"]


def test_all_endpoints_answer_while_the_work_blocks() -> None:
    with started("endless") as service, httpx.Client(base_url=service.url) as client:
        for path in ("/health/live", "/health/ready", "/health/startup", "/alive", "/startup", "/health"):
            assert client.get(path).json()["status"] == "Healthy"
        assert client.get("/info").json()["service"] == "audit-ingest"
        wait_for(lambda: 'connectsoft_job_active{connectsoft_job_name="long"' in client.get("/metrics").text)
        page = client.get("/metrics").text
    assert 'connectsoft_job_active{connectsoft_job_name="long",connectsoft_job_trigger="other"} 1.0' in page


@pytest.mark.parametrize("what", ["loop_once", full("once")])
def test_sigterm_turns_readiness_red_waits_for_what_runs_flushes_and_exits_with_0(what: str) -> None:
    with HttpSink() as sink:
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, "OTEL_BSP_SCHEDULE_DELAY": "60000"}
        with started(what, env=env) as service:
            wait_for(lambda: "connectsoft_job_active{" in httpx.get(f"{service.url}/metrics").text)
            service.process.send_signal(signal.SIGTERM)
            wait_for(lambda: httpx.get(f"{service.url}/health/ready").status_code == 503, 2)
            assert httpx.get(f"{service.url}/health/live").status_code == 200
            assert service.process.wait(15) == 0, service.output
        wait_for(lambda: len(service.json_lines) > 2, 5)
        assert runs(service)[0].endswith("long success"), service.output
        assert [span.name.endswith("long") for span in sink.received.spans] == [True]


@pytest.mark.parametrize("what", ["loop", full("blocked"), full("busy"), full("on_uvloop"), full("on_trio")])
def test_a_program_that_does_not_look_is_ended_between_two_runs(what: str) -> None:
    with started(what) as service:
        began = time.monotonic()
        assert service.stop(seconds=20) == 0, service.output
        assert time.monotonic() - began < 7, "before the budget is spent"
        assert set(runs(service)) <= {"run long success", "run async-long success"}
        assert "Traceback" not in service.output
        assert "after\n" not in service.stdout_lines


@pytest.mark.parametrize("what", ["cooperative", "loop_inside"])
def test_a_program_that_looks_ends_in_its_own_way(what: str) -> None:
    with started(what) as service:
        assert service.stop() == 0, service.output
        assert "after\n" in service.stdout_lines
        assert set(runs(service)) <= {"run long success", "run async-long success"}


@pytest.mark.parametrize("what", ["endless", full("stuck_thread")])
def test_what_outlasts_the_budget_is_aborted_and_counted(what: str) -> None:
    with started(what, env={"CONNECTSOFT_OBS_DRAIN_TIMEOUT": "1"}) as service:
        wait_for(lambda: "connectsoft_job_active{" in httpx.get(f"{service.url}/metrics").text)
        assert service.stop(seconds=10) == 0, service.output
    assert runs(service) == ["run long aborted"]


def test_a_second_sigterm_skips_the_wait() -> None:
    with started("endless") as service:
        service.process.send_signal(signal.SIGTERM)
        wait_for(lambda: httpx.get(f"{service.url}/health/ready").status_code == 503, 2)
        began = time.monotonic()
        assert service.stop() == 0, service.output
        assert time.monotonic() - began < 5


def test_ctrl_c_is_left_alone() -> None:
    with started("blocked") as service:
        assert service.stop(signal.SIGINT) in (130, -signal.SIGINT), service.output
        assert "KeyboardInterrupt" in service.output


@pytest.mark.full
def test_a_handler_that_was_there_before_still_stops_the_program() -> None:
    with started("own_handler") as service:
        assert service.stop() == 0, service.output
        assert "after\n" in service.stdout_lines


def test_a_vital_loop_that_has_gone_quiet_turns_liveness_red_and_nothing_else() -> None:
    with started("silent") as service:
        wait_for(lambda: httpx.get(f"{service.url}/health/live").status_code == 503, 10)
        assert httpx.get(f"{service.url}/health/ready").status_code == 200
        page = httpx.get(f"{service.url}/metrics").text
    assert 'connectsoft_job_heartbeat_timestamp_seconds{connectsoft_job_name="poll-loop"}' in page


def test_two_workers_of_one_machine_share_a_port_and_the_second_takes_over() -> None:
    port = free_port()
    with started("blocked", port) as first, started("cooperative", port, ready=False) as second:
        wait_for(lambda: any("side listener: port in use" in line["message"] for line in second.json_lines), 10)
        assert second.process.poll() is None
        assert httpx.get(f"{first.url}/health/live").status_code == 200
        first.stop(signal.SIGKILL)
        second.wait_until_ready("/health/ready")
        assert "long" in httpx.get(f"{second.url}/metrics").text
        assert second.stop() == 0


def test_a_port_that_cannot_be_had_is_said_and_the_work_goes_on() -> None:
    env = {"OTEL_EXPORTER_PROMETHEUS_HOST": "203.0.113.1"}
    with started("cooperative", env=env, ready=False) as service:
        wait_for(lambda: any("side listener: port in use" in line["message"] for line in service.json_lines), 10)
        wait_for(lambda: len(runs(service)) > 2, 10)
        assert service.stop() == 0


def test_a_forked_child_has_neither_the_port_nor_our_signals() -> None:
    with started("forks") as service:
        said = wait_for(lambda: [line for line in list(service.stdout_lines) if line.startswith("child ")], 10)
        child = int(said[0].split()[1])
        os.kill(child, signal.SIGTERM)
        wait_for(lambda: not Path(f"/proc/{child}").exists(), 5, "the child died of its SIGTERM at once")
        assert httpx.get(f"{service.url}/health/ready").status_code == 200
        assert service.stop() == 0


def test_a_setting_that_cannot_work_is_an_error_at_the_start() -> None:
    with capture(), pytest.raises(obs.ConfigurationError, match="no such setting"), obs.worker(servise="typo"):
        pass
    with pytest.raises(RuntimeError, match="not running"):
        obs.worker(service="x").draining  # noqa: B018  the access is the test


def test_a_worker_in_a_test_listens_on_a_port_of_its_own() -> None:
    with capture() as seen:
        with obs.worker(service="tested", prometheus_port=0) as worker:
            assert worker.port
            wait_for(lambda: httpx.get(f"http://127.0.0.1:{worker.port}/health/ready").status_code == 200, 5)
            before = worker.draining
            worker.drain()
            assert (before, worker.draining) == (False, True)
            assert httpx.get(f"http://127.0.0.1:{worker.port}/health/ready").status_code == 503
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", worker.port or 1)) != 0
    assert seen.telemetry is not None
    assert seen.telemetry.identity.service == "tested"
