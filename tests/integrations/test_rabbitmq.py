"""RabbitMQ: FastStream with its integration, and aio-pika with the decorators, both with a real broker."""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections import Counter
from typing import Any

import aio_pika
import httpx
import pytest
from faststream.rabbit import RabbitBroker, TestRabbitBroker
from opentelemetry import trace
from support.brokers import Broker
from support.otlp import HttpSink
from support.process import Service, free_port, wait_for
from support.scrape import scrape

import connectsoft_obs as obs
from connectsoft_obs.integrations import faststream
from connectsoft_obs.testing import capture


def test_faststream_records_each_message_once(rabbitmq: Broker) -> None:
    queue, port = f"faststream-{uuid.uuid4().hex[:8]}", free_port()

    async def send() -> None:
        broker = RabbitBroker(rabbitmq.url)
        faststream.install(broker)
        faststream.install(broker)
        async with broker:
            with obs.operation("web"):
                obs.bind(tenant_id="acme")
                for kind in ("fine", "fine", "fails", "poison", "slow", "skipped", "relay"):
                    await broker.publish({"kind": kind}, queue=queue)

    with HttpSink() as sink:
        env = {
            "BROKER": rabbitmq.url,
            "QUEUE": queue,
            "OTEL_EXPORTER_PROMETHEUS_PORT": str(port),
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url,
            "OTEL_BSP_SCHEDULE_DELAY": "50",
        }
        with Service([sys.executable, "-m", "faststream", "run", "faststream_app:app"], port, env) as service:
            service.wait_until_ready(seconds=20)
            with capture() as captured:
                asyncio.run(send())
            expected = {
                (queue, "success"): 3,
                (queue, "failure"): 1,
                (queue, "rejected"): 2,
                (queue, "timeout"): 1,
                (f"{queue}-next", "success"): 1,
            }

            def outcomes() -> dict[tuple[str, ...], float]:
                return scrape(service.url).values_by(
                    "connectsoft_message_outcomes_total", "messaging_destination_name", "connectsoft_outcome"
                )

            wait_for(lambda: outcomes() == expected, 20, f"{expected}")
            page = scrape(service.url)
            assert page.sum("messaging_process_duration_seconds_count") == 8
            assert page.sum("messaging_client_consumed_messages_total") == 8
            assert page.sum("messaging_client_sent_messages_total") == 1
            assert page.sum("connectsoft_message_wait_duration_seconds_count") == 8
            assert captured.metric("messaging.client.sent.messages", messaging_destination_name=queue).value == 7
            assert httpx.get(f"{service.url}/health/live").status_code == 200
            assert service.stop(seconds=20) == 0, service.output[-2000:]
        spans = sink.received.spans
        lines = [line for line in service.json_lines if line["logger"] == "connectsoft_obs.message"]
    web = captured.span("run web")
    assert {span.trace_id for span in spans} == {web.context.trace_id.to_bytes(16, "big")}
    assert Counter(span.name for span in spans) == {
        f"process {queue}": 7, f"process {queue}-next": 1, f"send {queue}-next": 1,
    }  # fmt: skip
    assert {line["connectsoft.tenant.id"] for line in lines} == {"acme"}


def test_cancelled_message_is_aborted_and_not_counted_as_success() -> None:
    """FastStream's Prometheus middleware counts such a message as acknowledged."""
    broker = RabbitBroker()
    faststream.install(broker)

    @broker.subscriber("orders")
    async def handle(body: str) -> None:
        await asyncio.sleep(30)

    async def main() -> None:
        async with TestRabbitBroker(broker) as connected:
            task = asyncio.create_task(connected.publish("hello", "orders"))
            await asyncio.sleep(0.05)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    with capture() as captured:
        asyncio.run(main())
    captured.span("process orders", connectsoft_outcome="aborted", error_type="cancelled")
    assert captured.metric("connectsoft.message.outcomes", connectsoft_outcome="aborted").value == 1
    assert captured.metric("connectsoft.message.outcomes", connectsoft_outcome="success").value == 0


@obs.consumer("aio-pika", system="rabbitmq", rejects=UnicodeDecodeError)
async def consume(message: aio_pika.abc.AbstractIncomingMessage) -> str:
    async with message.process(requeue=not message.redelivered):
        text = message.body.decode()
        if text == "retry" and not message.redelivered:
            raise ConnectionError("not yet")
        return text


def test_aio_pika_works_with_the_decorators(rabbitmq: Broker) -> None:
    name = f"aio-pika-{uuid.uuid4().hex[:8]}"

    async def main() -> list[str]:
        connection = await aio_pika.connect(rabbitmq.url)
        async with connection, connection.channel() as channel:
            queue = await channel.declare_queue(name)
            bodies = [b"hello", b"retry", b"\xff"]
            with obs.operation("web"):
                obs.bind(tenant_id="acme")
                for body in bodies:
                    with obs.producer("aio-pika", system="rabbitmq") as headers:
                        await channel.default_exchange.publish(
                            aio_pika.Message(body, headers=dict(headers)), routing_key=name
                        )
            results = []
            async with queue.iterator() as messages:
                async for message in messages:
                    try:
                        results.append(await consume(message))
                    except (ConnectionError, UnicodeDecodeError) as error:
                        results.append(type(error).__name__)
                    if len(results) == 5:
                        break
            await queue.delete()
            return results

    with capture() as captured:
        results = asyncio.run(asyncio.wait_for(main(), 30))
    assert Counter(results) == {"hello": 1, "ConnectionError": 1, "retry": 1, "UnicodeDecodeError": 2}
    web_trace_id = captured.span("run web").context.trace_id
    processed = [span for span in captured.spans if span.name == "process aio-pika"]
    first_deliveries = [span for span in processed if span.context.trace_id == web_trace_id]
    redeliveries = [span for span in processed if span.context.trace_id != web_trace_id]
    assert (len(first_deliveries), len(redeliveries)) == (3, 2), "a redelivered message has its own trace with a link"
    for span in redeliveries:
        assert span.parent is None
        assert [link.context.trace_id for link in span.links] == [web_trace_id]
        assert (span.attributes or {})["connectsoft.message.delivery_count"] == 2
    assert {(span.attributes or {})["connectsoft.tenant.id"] for span in processed} == {"acme"}
    assert captured.metric("messaging.client.consumed.messages").value == 5
    assert captured.metric("connectsoft.message.outcomes", connectsoft_outcome="rejected").value == 2
    assert captured.metric("connectsoft.message.outcomes", connectsoft_outcome="failure").value == 1


def test_publish_without_a_broker_ends_its_span() -> None:
    async def main() -> None:
        broker = RabbitBroker(f"amqp://guest:guest@127.0.0.1:{free_port()}//", fail_fast=True)
        faststream.install(broker)
        await broker.publish("hello", "orders")

    with capture() as captured:
        with pytest.raises(Exception, match=r".+"):
            asyncio.run(main())
        assert not trace.get_current_span().get_span_context().is_valid
    spans: list[Any] = captured.spans
    assert [(span.name, span.status.status_code.name) for span in spans] == [("send orders", "ERROR")]
