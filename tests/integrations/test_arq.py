"""arq with a real Redis: one run per job, one trace from the producer to the job, and linked retries."""

from __future__ import annotations

import asyncio
import pickle
import sys
import time
import uuid
from collections import Counter
from datetime import datetime
from typing import Any

import httpx
import pytest
from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import func
from support.brokers import Broker
from support.otlp import HttpSink, decode_attributes
from support.process import Service, free_port, wait_for
from support.scrape import scrape

import connectsoft_obs as obs
from connectsoft_obs.integrations import arq
from connectsoft_obs.testing import capture


def test_metrics_match_the_sent_jobs_and_traces_are_complete(redis: Broker) -> None:
    queue, port = f"arq-{uuid.uuid4().hex[:8]}", free_port()

    async def send() -> None:
        pool = await create_pool(RedisSettings.from_dsn(redis.url), default_queue_name=queue)
        arq.install(pool)
        arq.install(pool)
        with obs.operation("web"):
            for _ in range(3):
                await pool.enqueue_job("add", 1, 2)
            for name, arguments in (("fail", ()), ("flaky", (2,)), ("slow", ()), ("parent", ())):
                await pool.enqueue_job(name, *arguments)
        await pool.aclose(close_connection_pool=True)

    with HttpSink() as sink:
        env = {
            "BROKER": redis.url,
            "QUEUE": queue,
            "OTEL_EXPORTER_PROMETHEUS_PORT": str(port),
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url,
            "OTEL_BSP_SCHEDULE_DELAY": "50",
        }
        with Service([sys.executable, "-m", "arq", "arq_jobs.WorkerSettings"], port, env) as service:
            service.wait_until_ready(seconds=20)
            with capture() as captured:
                asyncio.run(send())

            def all_runs_counted() -> bool:
                runs = scrape(service.url).job_runs()
                return sum(count for (name, _, _), count in runs.items() if name != "cron:tick") == 8

            wait_for(all_runs_counted, 20, "8 runs")
            page = scrape(service.url)
            outcomes = {key: count for key, count in page.job_runs().items() if key[0] != "cron:tick"}
            expected = page.sum("connectsoft_job_next_expected_timestamp_seconds", connectsoft_job_name="cron:nightly")
            due = datetime.fromtimestamp(expected - 300)
            assert (due.hour, due.minute, due.second) == (2, 0, 0), "expected before its first run"
            assert time.time() < expected < time.time() + 90_000
            assert outcomes == {
                ("add", "success", ""): 4,
                ("fail", "failure", "ValueError"): 1,
                ("flaky", "success", ""): 1,
                ("slow", "timeout", "timeout"): 1,
                ("parent", "success", ""): 1,
            }
            assert page.values_by("connectsoft_job_retries_total", "connectsoft_job_name") == {("flaky",): 2}
            assert page.sum("connectsoft_job_active") == 0
            assert page.sum("messaging_client_sent_messages_total") >= 1, "arq enqueues its cron jobs itself"
            assert captured.metric("messaging.client.sent.messages", messaging_destination_name=queue).value == 7
            assert page.sum("connectsoft_message_wait_duration_seconds_count") >= 10
            assert page.sum("connectsoft_job_duration_seconds_count", connectsoft_job_trigger="timer") >= 1
            assert httpx.get(f"{service.url}/health/live").status_code == 200
            assert service.stop() == 0, service.output[-2000:]
        spans = sink.received.spans
    web = captured.span("run web")
    web_trace_spans = [span for span in spans if span.trace_id == web.context.trace_id.to_bytes(16, "big")]
    assert Counter(span.name for span in web_trace_spans) == {
        "run add": 4, "run fail": 1, "run flaky": 3, "run slow": 1, "run parent": 1, f"send {queue}": 1,
    }  # fmt: skip
    first, second, third = sorted(
        (span for span in spans if span.name == "run flaky"),
        key=lambda span: decode_attributes(span.attributes)["connectsoft.job.attempt"],
    )
    assert first.span_id in {link.span_id for link in second.links}
    assert second.span_id in {link.span_id for link in third.links}


def test_job_cancelled_by_a_shutdown_is_aborted(redis: Broker) -> None:
    """On shutdown, arq cancels running jobs and leaves them in the queue for another worker."""
    queue, port = f"arq-{uuid.uuid4().hex[:8]}", free_port()

    async def send() -> None:
        pool = await create_pool(RedisSettings.from_dsn(redis.url), default_queue_name=queue)
        arq.install(pool)
        await pool.enqueue_job("endless")
        await pool.aclose(close_connection_pool=True)

    script = (
        "import asyncio, arq_jobs, arq.worker\n"
        "async def endless(ctx): await asyncio.sleep(60)\n"
        "from connectsoft_obs.integrations import arq as integration\n"
        "options = {'functions': [endless], 'queue_name': arq_jobs.WorkerSettings.queue_name,\n"
        "           'redis_settings': arq_jobs.WorkerSettings.redis_settings}\n"
        "integration.install(options, service='reports')\n"
        "arq.worker.run_worker(options)\n"
    )
    env = {"BROKER": redis.url, "QUEUE": queue, "OTEL_EXPORTER_PROMETHEUS_PORT": str(port)}
    with Service([sys.executable, "-c", script], port, env) as service:
        service.wait_until_ready(seconds=20)
        asyncio.run(send())
        wait_for(lambda: scrape(service.url).sum("connectsoft_job_active", connectsoft_job_name="endless") == 1, 10)
        service.stop()
        lines = [line for line in service.json_lines if line["logger"] == "connectsoft_obs.job"]
    assert [(line["message"], line["error.type"]) for line in lines] == [("run endless aborted", "cancelled")]


def test_failed_enqueue_ends_its_span(redis: Broker) -> None:
    async def send() -> None:
        pool = await create_pool(RedisSettings.from_dsn(redis.url))
        arq.install(pool)
        try:
            await pool.enqueue_job("add", lambda: None)  # pickle cannot serialize a lambda
        finally:
            await pool.aclose(close_connection_pool=True)

    with capture() as captured, pytest.raises(Exception, match="unable to serialize"):
        asyncio.run(send())
    assert captured.span("send arq:queue").status.status_code.name == "ERROR"
    assert captured.metric("messaging.client.sent.messages", error_type="arq.jobs.SerializationError").value == 1


@pytest.mark.filterwarnings("ignore:Call to deprecated close")  # arq calls it
def test_worker_without_the_integration_runs_jobs_of_an_instrumented_client(redis: Broker) -> None:
    from arq.worker import Worker, func

    async def echo(ctx: dict[str, object], number: int) -> int:
        return number

    async def main() -> object:
        settings = RedisSettings.from_dsn(redis.url)
        queue = f"arq-{uuid.uuid4().hex[:8]}"
        pool = await create_pool(settings, default_queue_name=queue)
        arq.install(pool)
        job = await pool.enqueue_job("echo", 5)
        assert job is not None
        worker = Worker([func(echo, name="echo")], queue_name=queue, redis_settings=settings, burst=True,
                        handle_signals=False, poll_delay=0.01)  # fmt: skip
        await worker.async_run()
        await worker.close()
        result = await job.result(timeout=5)
        await pool.aclose(close_connection_pool=True)
        return result

    with capture():
        assert asyncio.run(main()) == 5


def test_settings_classes_that_inherit_functions_record_a_job_once() -> None:
    async def work(ctx: dict[str, Any]) -> int:
        return 1

    class First:
        functions = (func(work, name="work"),)
        job_serializer = staticmethod(pickle.dumps)

    class Second(First):
        queue_name = "second"

    arq.install(First)
    arq.install(Second)
    arq.install(Second)
    content = First.job_serializer({"connectsoft_obs": {"tracestate": "a=b"}})
    with capture() as captured:
        for settings in (First, Second):
            settings.job_deserializer(content)  # type: ignore[attr-defined]
            [function] = settings.functions
            assert asyncio.run(function.coroutine({"job_id": settings.__name__})) == 1
    assert [span.name for span in captured.spans] == ["run work", "run work"]
    queues = [span.attributes["messaging.destination.name"] for span in captured.spans if span.attributes]
    assert queues == ["arq:queue", "second"]
