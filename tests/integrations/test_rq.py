"""RQ with a real Redis: one run per job, with and without a forked work horse."""

from __future__ import annotations

import signal
import socket
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import rq_jobs
from redis import Redis
from redis import exceptions as redis_errors
from rq import Callback, Queue, Retry, SimpleWorker
from rq.command import send_stop_job_command
from support.brokers import Broker
from support.otlp import HttpSink, decode_attributes
from support.process import APPS, Service, free_port, wait_for
from support.scrape import scrape

import connectsoft_obs as obs
from connectsoft_obs.integrations import rq
from connectsoft_obs.testing import capture


def instrumented_queue(broker: Broker) -> Queue:
    queue = Queue(f"rq-{uuid.uuid4().hex[:8]}", connection=Redis.from_url(broker.url))
    rq.install(queue)
    return queue


def enqueue_all(queue: Queue, attempts_file: Path) -> None:
    with obs.operation("web"):
        for _ in range(3):
            queue.enqueue(rq_jobs.add, 1, 2)
        queue.enqueue(rq_jobs.fail)
        queue.enqueue(rq_jobs.flaky, str(attempts_file), 2, retry=Retry(max=3))
        queue.enqueue(rq_jobs.slow, job_timeout=1)


EXPECTED_MESSAGES = Counter(
    {
        "run rq_jobs.add success": 3,
        "run rq_jobs.fail failure": 1,
        "run rq_jobs.flaky failure and will be retried": 2,
        "run rq_jobs.flaky success": 1,
        "run rq_jobs.slow timeout": 1,
    }
)


def job_messages(service: Service) -> Counter[str]:
    return Counter(line["message"] for line in service.json_lines if line["logger"] == "connectsoft_obs.job")


@pytest.mark.parametrize(
    "worker_type",
    [pytest.param("simple", marks=pytest.mark.full), "fork", pytest.param("spawn", marks=pytest.mark.full)],
)
def test_worker_records_each_job_once(worker_type: str, redis: Broker, tmp_path: Path) -> None:
    queue, port = instrumented_queue(redis), free_port()
    with HttpSink() as sink:
        env = {
            "BROKER": redis.url,
            "QUEUE": queue.name,
            "OTEL_EXPORTER_PROMETHEUS_PORT": str(port),
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url,
            "OTEL_BSP_SCHEDULE_DELAY": "50",
        }
        with Service([sys.executable, str(APPS / "rq_jobs.py"), worker_type], port, env) as service:
            service.wait_until_ready(seconds=20)
            with capture() as captured:
                enqueue_all(queue, tmp_path / "attempts")
            wait_for(lambda: not EXPECTED_MESSAGES - job_messages(service), 90, f"{EXPECTED_MESSAGES}")
            assert httpx.get(f"{service.url}/health/live").status_code == 200
            page = scrape(service.url)
            assert page.job_runs() == {
                ("rq_jobs.add", "success", ""): 3,
                ("rq_jobs.fail", "failure", "ValueError"): 1,
                ("rq_jobs.flaky", "success", ""): 1,
                ("rq_jobs.slow", "timeout", "timeout"): 1,
            }
            assert page.sum("connectsoft_job_retries_total") == 2
            assert page.sum("connectsoft_message_wait_duration_seconds_count") == 8
            assert page.sum("connectsoft_job_active") == 0
            assert captured.metric("messaging.client.sent.messages").value == 6
            assert service.stop(seconds=20) == 0, service.output[-2000:]
        spans = sink.received.spans
    assert job_messages(service) == EXPECTED_MESSAGES
    web = captured.span("run web")
    assert {span.trace_id for span in spans} == {web.context.trace_id.to_bytes(16, "big")}
    assert len(spans) == 8
    first, second, third = sorted(
        (span for span in spans if span.name == "run rq_jobs.flaky"),
        key=lambda span: decode_attributes(span.attributes)["connectsoft.job.attempt"],
    )
    assert first.span_id in {link.span_id for link in second.links}
    assert second.span_id in {link.span_id for link in third.links}


@contextmanager
def running_worker(queue: Queue, broker: Broker, worker_type: str = "fork", **env: str) -> Iterator[Service]:
    port = free_port()
    variables = {"BROKER": broker.url, "QUEUE": queue.name, "OTEL_EXPORTER_PROMETHEUS_PORT": str(port), **env}
    with Service([sys.executable, str(APPS / "rq_jobs.py"), worker_type], port, variables) as service:
        service.wait_until_ready(seconds=20)
        yield service


KILLED = "connectsoft_obs.integrations.rq.WorkHorseKilled"


@pytest.mark.parametrize("worker_type", ["fork", "spawn"])
def test_killed_work_horse_is_recorded_by_the_worker(worker_type: str, redis: Broker) -> None:
    queue = instrumented_queue(redis)
    with running_worker(queue, redis, worker_type) as service:
        with capture():
            queue.enqueue(rq_jobs.lost, 0.5)
            queue.enqueue(rq_jobs.exits)
            queue.enqueue(rq_jobs.add, 1, 2)
        runs = {
            ("rq_jobs.lost", "failure", KILLED): 1,
            ("rq_jobs.exits", "failure", KILLED): 1,
            ("rq_jobs.add", "success", ""): 1,
        }
        wait_for(lambda: scrape(service.url).job_runs() == runs, 60)
        assert httpx.get(f"{service.url}/health/live").status_code == 200
        page = scrape(service.url)
        assert page.sum("connectsoft_job_active") == 0
        duration = page.sum("connectsoft_job_duration_seconds_sum", connectsoft_job_name="rq_jobs.lost")
        assert duration >= 0.5, "the time that the job ran"


def test_retry_whose_work_horse_is_killed_is_counted_as_one_retry(redis: Broker, tmp_path: Path) -> None:
    queue = instrumented_queue(redis)
    with running_worker(queue, redis) as service:
        with capture():
            queue.enqueue(rq_jobs.flaky_and_lost, str(tmp_path / "attempts"), retry=Retry(max=1))
        runs = {("rq_jobs.flaky_and_lost", "failure", KILLED): 1}
        wait_for(lambda: scrape(service.url).job_runs() == runs, 30)
        assert scrape(service.url).sum("connectsoft_job_retries_total") == 1


def test_work_horse_that_is_killed_after_its_job_is_counted_once(redis: Broker) -> None:
    queue = instrumented_queue(redis)
    with running_worker(queue, redis) as service:
        with capture():
            job = queue.enqueue(rq_jobs.add, 1, 2, on_success=Callback(rq_jobs.kill_work_horse))
            wait_for(lambda: job.is_failed, 20)
            queue.enqueue(rq_jobs.fail)
        wait_for(lambda: len(scrape(service.url).job_runs()) == 2, 20)
        assert scrape(service.url).job_runs() == {
            ("rq_jobs.add", "success", ""): 1,
            ("rq_jobs.fail", "failure", "ValueError"): 1,
        }


def test_stopped_job_is_aborted(redis: Broker) -> None:
    queue = instrumented_queue(redis)
    with running_worker(queue, redis) as service:
        with capture():
            job = queue.enqueue(rq_jobs.sleep, 60)
        wait_for(lambda: scrape(service.url).sum("connectsoft_job_active") == 1, 20)
        send_stop_job_command(queue.connection, job.id)
        wait_for(lambda: len(scrape(service.url).job_runs()) == 1, 20)
        assert list(scrape(service.url).job_runs()) == [("rq_jobs.sleep", "aborted", "cancelled")]


def test_second_sigterm_records_the_killed_job(redis: Broker) -> None:
    queue = instrumented_queue(redis)
    with running_worker(queue, redis) as service:
        with capture():
            queue.enqueue(rq_jobs.sleep, 60)
        wait_for(lambda: scrape(service.url).sum("connectsoft_job_active") == 1, 20)

        def send_sigterm() -> bool:  # RQ ignores a second signal within a second
            service.process.send_signal(signal.SIGTERM)
            return service.process.poll() is not None

        wait_for(send_sigterm, 20)
    assert job_messages(service) == {"run rq_jobs.sleep aborted": 1}


def test_flush_after_a_job_is_not_interrupted_by_the_timeout_of_the_job(redis: Broker) -> None:
    queue = instrumented_queue(redis)
    with socket.create_server(("127.0.0.1", 0)) as hanging_collector:
        endpoint = f"http://127.0.0.1:{hanging_collector.getsockname()[1]}"
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "CONNECTSOFT_OBS_SHUTDOWN_TIMEOUT": "3"}
        with running_worker(queue, redis, **env) as service:
            with capture():
                job = queue.enqueue(rq_jobs.sleep, 0.2, job_timeout=2)
            wait_for(lambda: job.is_finished or job.is_failed, 60)
            assert job.is_finished
            assert scrape(service.url).job_runs() == {("rq_jobs.sleep", "success", ""): 1}


def test_job_has_the_tenant_and_correlation_id_of_its_producer(redis: Broker) -> None:
    queue = instrumented_queue(redis)
    with capture() as captured:
        with obs.operation("web"):
            obs.bind(tenant_id="acme", correlation_id="corr-1")
            queue.enqueue(rq_jobs.add, 1, 2)
        worker: Any = SimpleWorker([queue], connection=queue.connection, job_class=rq.ObservedJob)
        worker.work(burst=True, logging_level="WARNING")
    job_span = captured.span("run rq_jobs.add")
    assert (job_span.attributes or {})["connectsoft.tenant.id"] == "acme"
    assert (job_span.attributes or {})["connectsoft.correlation.id"] == "corr-1"


@pytest.mark.full
def test_failed_enqueue_ends_its_span() -> None:
    queue = Queue("nowhere", connection=Redis(port=free_port()))
    rq.install(queue)
    with capture() as captured, pytest.raises(redis_errors.ConnectionError, match="refused"):
        queue.enqueue(rq_jobs.add, 1, 2)
    assert captured.span("send nowhere").status.status_code.name == "ERROR"
