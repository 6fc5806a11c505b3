"""SIGTERM to worker processes that end in different ways: which runs finish, what is exported, and the exit code."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Mapping

import httpx
import pytest
from support.faulty_collector import FaultyCollector
from support.otlp import HttpSink
from support.process import APPS, Service, free_port, wait_for

import connectsoft_obs as obs
from connectsoft_obs.testing import capture


def start_worker(mode: str, env: Mapping[str, str] | None = None) -> Service:
    port = free_port()
    environment = {"OTEL_EXPORTER_PROMETHEUS_PORT": str(port), "CONNECTSOFT_OBS_DRAIN_TIMEOUT": "30", **(env or {})}
    return Service([sys.executable, str(APPS / "worker_shutdowns.py"), mode], port, environment)


def wait_for_run(service: Service) -> None:
    service.wait_until_ready()
    wait_for(lambda: 'connectsoft_job_active{connectsoft_job_name="' in httpx.get(f"{service.url}/metrics").text, 15)


def run_messages(service: Service) -> list[str]:
    return [line["message"] for line in service.json_lines if line["logger"] == "connectsoft_obs.job"]


def test_program_that_ends_by_itself_is_not_interrupted() -> None:
    """Neither between two runs of its last batch, nor after the block."""
    with start_worker("batch") as service:
        wait_for_run(service)
        assert service.stop(seconds=25) == 0, service.output
    assert "after\n" in service.stdout_lines
    assert set(run_messages(service)) == {"run run success"}


def test_run_that_contains_runs_can_finish() -> None:
    with start_worker("nested") as service:
        wait_for_run(service)
        assert service.stop(seconds=25) == 0, service.output
    assert run_messages(service)[-1] == "run outer success"
    assert "block left\n" in service.stdout_lines


def test_run_of_another_thread_can_finish_after_the_block() -> None:
    with start_worker("active_thread") as service:
        wait_for_run(service)
        assert service.stop(seconds=25) == 0, service.output
    assert run_messages(service) == ["run run success"]
    assert "block left\n" in service.stdout_lines


def test_run_of_another_thread_that_does_not_end_is_aborted_and_exported() -> None:
    with HttpSink() as sink:
        env = {
            "CONNECTSOFT_OBS_DRAIN_TIMEOUT": "1",
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url,
            "OTEL_BSP_SCHEDULE_DELAY": "60000",
        }
        with start_worker("stuck_thread", env) as service:
            wait_for_run(service)
            assert service.stop(seconds=25) == 0, service.output
        assert run_messages(service) == ["run run aborted"]
        assert [span.name for span in sink.received.spans] == ["run run"]


def test_runs_of_another_thread_are_stopped_between_runs() -> None:
    with start_worker("thread_loop") as service:
        wait_for_run(service)
        started = time.monotonic()
        assert service.stop(seconds=25) == 0, service.output
        assert time.monotonic() - started < 20, "before the drain timeout"


def test_handler_of_the_application_has_the_drain_timeout() -> None:
    with start_worker("slow_handler") as service:
        service.wait_until_ready()
        assert service.stop(seconds=25) == 0, service.output
    assert "block left\n" in service.stdout_lines


def test_event_loop_is_interrupted_between_two_steps() -> None:
    with start_worker("steps") as service:
        wait_for(lambda: "step ends\n" in service.stdout_lines, 15)
        started = time.monotonic()
        assert service.stop(seconds=25) == 0, service.output
        assert time.monotonic() - started < 20, "before the drain timeout"
    assert service.stdout_lines.count("step begins\n") == service.stdout_lines.count("step ends\n")
    assert "Traceback" not in service.output


def test_exception_during_the_interruption_determines_the_exit_code() -> None:
    with start_worker("failing") as service:
        service.wait_until_ready()
        assert service.stop(seconds=25) == 1, service.output
    assert "cleanup failed" in service.output


def test_sigterm_while_the_worker_starts_drains_it() -> None:
    with start_worker("early_signal") as service:
        assert service.process.wait(25) == 0, service.output
        wait_for(lambda: "after\n" in service.stdout_lines, 5)
    assert "draining\n" in service.stdout_lines


def test_async_checks_run_on_a_loop_that_starts_after_the_worker() -> None:
    with start_worker("loop_check") as service:
        service.wait_until_ready()
        assert service.stop(seconds=25) == 0, service.output


def test_unavailable_collector_delays_the_end_by_the_shutdown_timeout() -> None:
    with FaultyCollector("hang") as collector:
        env = {
            "CONNECTSOFT_OBS_SHUTDOWN_TIMEOUT": "1",
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_EXPORTER_OTLP_TIMEOUT": "60000",
        }
        with start_worker("active_thread", env) as service:
            wait_for_run(service)
            assert service.stop(seconds=25) == 0, service.output


def test_spans_are_exported_when_the_block_ends() -> None:
    """The program may continue, so they do not wait for the end of the process."""
    with HttpSink() as sink:
        telemetry = obs.Telemetry(
            obs.Settings(service="worker", otlp_endpoint=sink.url, span_schedule_delay=60.0, prometheus_port=0),
            exports=True,
        )
        with obs.worker(telemetry=telemetry):
            telemetry.tracing.tracer.start_span("span").end()
        assert [span.name for span in sink.received.spans] == ["span"]
        assert not telemetry.health.running
        telemetry.shutdown(1)


def test_readiness_fails_before_the_export_at_the_end_of_the_block() -> None:
    with FaultyCollector("hang") as collector:
        telemetry = obs.Telemetry(
            obs.Settings(service="worker", otlp_endpoint=collector.url, span_schedule_delay=60.0, prometheus_port=0),
            exports=True,
        )

        def run_worker() -> None:
            with obs.worker(telemetry=telemetry):
                telemetry.tracing.tracer.start_span("span").end()

        thread = threading.Thread(target=run_worker)
        thread.start()
        wait_for(lambda: collector.request_count, 10)
        assert telemetry.health.draining
        collector.set_mode("ok")
        thread.join(20)
        telemetry.shutdown(1)


@pytest.mark.parametrize("replaced", [False, True])
def test_signal_handler_is_restored_unless_it_was_replaced(replaced: bool) -> None:
    previous_handler = signal.getsignal(signal.SIGTERM)
    later_handler = signal.Handlers.SIG_IGN
    try:
        with capture(), obs.worker(service="worker", prometheus_port=0):
            assert signal.getsignal(signal.SIGTERM) != previous_handler
            if replaced:
                signal.signal(signal.SIGTERM, later_handler)
        assert signal.getsignal(signal.SIGTERM) == (later_handler if replaced else previous_handler)
    finally:
        signal.signal(signal.SIGTERM, previous_handler)


def test_signal_handler_is_restored_if_the_start_is_interrupted() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    previous_handler = signal.getsignal(signal.SIGTERM)
    with capture() as captured:
        obs.configure(service="worker", prometheus_port=0)
        assert captured.telemetry is not None
        captured.telemetry.on_serve(interrupt)
        with pytest.raises(KeyboardInterrupt), obs.worker():
            pass
    assert signal.getsignal(signal.SIGTERM) == previous_handler


def test_worker_in_another_thread_leaves_signals_alone() -> None:
    previous_handler = signal.getsignal(signal.SIGTERM)
    handlers = []

    def run_worker() -> None:
        with obs.worker(service="worker", prometheus_port=0) as worker:
            handlers.append((worker.draining, signal.getsignal(signal.SIGTERM)))

    with capture():
        thread = threading.Thread(target=run_worker)
        thread.start()
        thread.join(20)
    assert handlers == [(False, previous_handler)]
