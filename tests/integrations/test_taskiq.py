"""taskiq with a real Redis: one run per task, one trace from the producer to the task, and linked retries."""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections import Counter
from datetime import datetime
from zoneinfo import ZoneInfo

import httpx
import pytest
from opentelemetry import trace
from support.brokers import Broker
from support.otlp import HttpSink, decode_attributes
from support.process import Service, free_port, wait_for
from support.scrape import scrape
from taskiq.exceptions import SendTaskError
from taskiq_redis import ListQueueBroker

import connectsoft_obs as obs
from connectsoft_obs.integrations import taskiq
from connectsoft_obs.testing import capture


def test_metrics_match_the_sent_tasks_and_traces_are_complete(redis: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    queue, port = f"taskiq-{uuid.uuid4().hex[:8]}", free_port()
    monkeypatch.setenv("BROKER", redis.url)
    monkeypatch.setenv("QUEUE", queue)
    monkeypatch.delitem(sys.modules, "taskiq_tasks", raising=False)
    import taskiq_tasks as tasks

    async def send() -> None:
        await tasks.broker.startup()
        with obs.operation("web"):
            for _ in range(3):
                await tasks.add.kiq(1, 2)
            await tasks.add_sync.kiq(1, 2)
            await tasks.fail.kiq()
            await tasks.flaky.kiq(2)
            await tasks.slow.kiq()
            await tasks.parent.kiq()
        await tasks.broker.shutdown()

    with HttpSink() as sink:
        env = {
            "BROKER": redis.url,
            "QUEUE": queue,
            "OTEL_EXPORTER_PROMETHEUS_PORT": str(port),
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url,
            "OTEL_BSP_SCHEDULE_DELAY": "50",
        }
        command = [sys.executable, "-m", "taskiq", "worker", "taskiq_tasks:broker", "--workers", "1"]
        with Service(command, port, env) as service:
            service.wait_until_ready(seconds=20)
            with capture() as captured:
                asyncio.run(send())
            expected = {
                ("add", "success", ""): 4,
                ("add-sync", "success", ""): 1,
                ("fail", "failure", "ValueError"): 1,
                ("flaky", "success", ""): 1,
                ("slow", "timeout", "timeout"): 1,
                ("parent", "success", ""): 1,
            }
            wait_for(lambda: scrape(service.url).job_runs() == expected, 20, f"{expected}")
            page = scrape(service.url)
            assert page.values_by("connectsoft_job_retries_total", "connectsoft_job_name") == {("flaky",): 2}
            assert page.sum("connectsoft_job_active") == 0
            expected_times = page.values_by("connectsoft_job_next_expected_timestamp_seconds", "connectsoft_job_name")
            [(name, expected_time)] = expected_times.items()
            due = datetime.fromtimestamp(expected_time - 300, ZoneInfo("Europe/Berlin"))
            assert (*name, due.hour, due.minute) == ("nightly", 2, 0), "expected before its first run"
            assert page.sum("messaging_client_sent_messages_total") == 3
            assert captured.metric("messaging.client.sent.messages", messaging_destination_name=queue).value == 8
            assert page.sum("connectsoft_message_wait_duration_seconds_count") == 11
            assert httpx.get(f"{service.url}/health/live").status_code == 200
            assert service.stop(seconds=30) == 0, service.output[-2000:]
        spans = sink.received.spans
    web = captured.span("run web")
    assert {span.trace_id for span in spans} == {web.context.trace_id.to_bytes(16, "big")}
    assert Counter(span.name for span in spans) == {
        "run add": 4, "run add-sync": 1, "run fail": 1, "run flaky": 3, "run slow": 1, "run parent": 1,
        f"send {queue}": 3,
    }  # fmt: skip
    first, second, third = sorted(
        (span for span in spans if span.name == "run flaky"),
        key=lambda span: decode_attributes(span.attributes)["connectsoft.job.attempt"],
    )
    assert first.span_id in {link.span_id for link in second.links}
    assert second.span_id in {link.span_id for link in third.links}
    [sync_task_span] = [span for span in spans if span.name == "run add-sync"]
    assert decode_attributes(sync_task_span.attributes)["order_id"] == 1, "context bound in the thread of a sync task"


def test_failed_kick_ends_its_span_and_restores_the_context() -> None:
    """The OpenTelemetry middleware of taskiq leaves the span open."""
    broker = ListQueueBroker(f"redis://127.0.0.1:{free_port()}", queue_name="nowhere")
    taskiq.install(broker)
    taskiq.install(broker)

    @broker.task("never")
    async def never() -> None:
        pass

    async def main() -> None:
        with pytest.raises(SendTaskError):
            await never.kiq()
        assert not trace.get_current_span().get_span_context().is_valid
        await broker.shutdown()

    with capture() as captured:
        asyncio.run(main())
    [span] = captured.spans
    assert (span.name, span.status.status_code.name) == ("send nowhere", "ERROR")
    assert captured.metric("messaging.client.sent.messages").value == 1
