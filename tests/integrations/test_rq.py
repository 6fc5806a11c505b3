"""RQ with a real Redis: one run a job, with and without a process of its own."""

from __future__ import annotations

import sys
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
import rq_jobs
from redis import Redis
from redis import exceptions as redis_errors
from rq import Queue, Retry, SimpleWorker
from support.brokers import Broker
from support.otlp import HttpSink, decode_attributes
from support.process import APPS, Service, free_port, wait_for
from support.scrape import scrape

import connectsoft_obs as obs
from connectsoft_obs.integrations import rq
from connectsoft_obs.testing import capture


def queue_of(broker: Broker) -> Queue:
    queue = Queue(f"rq-{uuid.uuid4().hex[:8]}", connection=Redis.from_url(broker.url))
    rq.install(queue)
    return queue


def send(queue: Queue, notes: Path) -> None:
    with obs.operation("web"):
        for _ in range(3):
            queue.enqueue(rq_jobs.add, 1, 2)
        queue.enqueue(rq_jobs.fail)
        queue.enqueue(rq_jobs.flaky, str(notes), 2, retry=Retry(max=3))
        queue.enqueue(rq_jobs.slow, job_timeout=1)


EXPECTED = Counter(
    {
        "run rq_jobs.add success": 3,
        "run rq_jobs.fail failure": 1,
        "run rq_jobs.flaky failure and will be retried": 2,
        "run rq_jobs.flaky success": 1,
        "run rq_jobs.slow timeout": 1,
    }
)


def lines_of(service: Service) -> Counter[str]:
    return Counter(line["message"] for line in service.json_lines if line["logger"] == "connectsoft_obs.job")


@pytest.mark.parametrize("kind", [pytest.param("simple", marks=pytest.mark.full), "fork"])
def test_a_worker_tells_of_each_job_once(kind: str, redis: Broker, tmp_path: Path) -> None:
    queue, port = queue_of(redis), free_port()
    with HttpSink() as sink:
        env = {
            "BROKER": redis.url,
            "QUEUE": queue.name,
            "OTEL_EXPORTER_PROMETHEUS_PORT": str(port),
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url,
            "OTEL_BSP_SCHEDULE_DELAY": "50",
        }
        with Service([sys.executable, str(APPS / "rq_jobs.py"), kind], port, env) as service:
            service.wait_until_ready(seconds=20)
            with capture() as seen:
                send(queue, tmp_path / "notes")
            wait_for(lambda: not EXPECTED - lines_of(service), 30, f"{EXPECTED}")
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
            assert seen.metric("messaging.client.sent.messages").value == 6
            assert service.stop(seconds=20) == 0, service.output[-2000:]
        spans = sink.received.spans
    assert lines_of(service) == EXPECTED
    web = seen.span("run web")
    assert {span.trace_id for span in spans} == {web.context.trace_id.to_bytes(16, "big")}
    assert len(spans) == 8
    first, second, third = sorted(
        (span for span in spans if span.name == "run rq_jobs.flaky"),
        key=lambda span: decode_attributes(span.attributes)["connectsoft.job.attempt"],
    )
    assert first.span_id in {link.span_id for link in second.links}
    assert second.span_id in {link.span_id for link in third.links}


def test_a_work_horse_that_is_killed_is_counted_by_the_worker(redis: Broker) -> None:
    queue, port = queue_of(redis), free_port()
    env = {"BROKER": redis.url, "QUEUE": queue.name, "OTEL_EXPORTER_PROMETHEUS_PORT": str(port)}
    with Service([sys.executable, str(APPS / "rq_jobs.py"), "fork"], port, env) as service:
        service.wait_until_ready(seconds=20)
        with capture():
            queue.enqueue(rq_jobs.lost)
        killed = ("rq_jobs.lost", "failure", "connectsoft_obs.integrations.rq.WorkHorseKilled")
        wait_for(lambda: scrape(service.url).job_runs() == {killed: 1}, 20)
        assert httpx.get(f"{service.url}/health/live").status_code == 200
        assert scrape(service.url).sum("connectsoft_job_active") == 0


def test_the_tenant_of_whoever_enqueues_is_that_of_the_job(redis: Broker) -> None:
    queue = queue_of(redis)
    with capture() as seen:
        with obs.operation("web"):
            obs.bind(tenant_id="acme", correlation_id="corr-1")
            queue.enqueue(rq_jobs.add, 1, 2)
        worker: Any = SimpleWorker([queue], connection=queue.connection, job_class=rq.ObservedJob)
        worker.work(burst=True, logging_level="WARNING")
    job = seen.span("run rq_jobs.add")
    assert (job.attributes or {})["connectsoft.tenant.id"] == "acme"
    assert (job.attributes or {})["connectsoft.correlation.id"] == "corr-1"


@pytest.mark.full
def test_an_enqueuing_that_fails_ends_its_span() -> None:
    queue = Queue("nowhere", connection=Redis(port=free_port()))
    rq.install(queue)
    with capture() as seen, pytest.raises(redis_errors.ConnectionError, match="refused"):
        queue.enqueue(rq_jobs.add, 1, 2)
    assert seen.span("send nowhere").status.status_code.name == "ERROR"
