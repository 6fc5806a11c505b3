"""RabbitMQ: FastStream by its integration, aio-pika by the decorator alone, both with a real broker."""

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


def test_faststream_tells_of_each_message_once(rabbitmq: Broker) -> None:
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
            with capture() as seen:
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
            assert seen.metric("messaging.client.sent.messages", messaging_destination_name=queue).value == 7
            assert httpx.get(f"{service.url}/health/live").status_code == 200
            assert service.stop(seconds=20) == 0, service.output[-2000:]
        spans = sink.received.spans
        lines = [line for line in service.json_lines if line["logger"] == "connectsoft_obs.message"]
    web = seen.span("run web")
    assert {span.trace_id for span in spans} == {web.context.trace_id.to_bytes(16, "big")}
    assert Counter(span.name for span in spans) == {
        f"process {queue}": 7, f"process {queue}-next": 1, f"send {queue}-next": 1,
    }  # fmt: skip
    assert {line["connectsoft.tenant.id"] for line in lines} == {"acme"}


def test_a_cancelled_message_is_aborted_and_not_acknowledged_as_well() -> None:
    """FastStream's own Prometheus middleware counts it as acked."""
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

    with capture() as seen:
        asyncio.run(main())
    seen.span("process orders", connectsoft_outcome="aborted", error_type="cancelled")
    assert seen.metric("connectsoft.message.outcomes", connectsoft_outcome="aborted").value == 1
    assert seen.metric("connectsoft.message.outcomes", connectsoft_outcome="success").value == 0


@obs.consumer("aio-pika", system="rabbitmq", rejects=UnicodeDecodeError)
async def consume(message: aio_pika.abc.AbstractIncomingMessage) -> str:
    async with message.process(requeue=not message.redelivered):
        text = message.body.decode()
        if text == "again" and not message.redelivered:
            raise ConnectionError("not yet")
        return text


def test_aio_pika_needs_no_integration(rabbitmq: Broker) -> None:
    name = f"aio-pika-{uuid.uuid4().hex[:8]}"

    async def main() -> list[str]:
        connection = await aio_pika.connect(rabbitmq.url)
        async with connection, connection.channel() as channel:
            queue = await channel.declare_queue(name)
            bodies = [b"hello", b"again", b"\xff"]
            with obs.operation("web"):
                obs.bind(tenant_id="acme")
                for body in bodies:
                    with obs.producer("aio-pika", system="rabbitmq") as headers:
                        await channel.default_exchange.publish(
                            aio_pika.Message(body, headers=dict(headers)), routing_key=name
                        )
            said = []
            async with queue.iterator() as messages:
                async for message in messages:
                    try:
                        said.append(await consume(message))
                    except (ConnectionError, UnicodeDecodeError) as error:
                        said.append(type(error).__name__)
                    if len(said) == 5:
                        break
            await queue.delete()
            return said

    with capture() as seen:
        said = asyncio.run(asyncio.wait_for(main(), 30))
    assert Counter(said) == {"hello": 1, "ConnectionError": 1, "again": 1, "UnicodeDecodeError": 2}
    web = seen.span("run web").context.trace_id
    processed = [span for span in seen.spans if span.name == "process aio-pika"]
    fresh = [span for span in processed if span.context.trace_id == web]
    again = [span for span in processed if span.context.trace_id != web]
    assert (len(fresh), len(again)) == (3, 2), "what was delivered before is linked, in a trace of its own"
    for span in again:
        assert span.parent is None
        assert [link.context.trace_id for link in span.links] == [web]
        assert (span.attributes or {})["connectsoft.message.delivery_count"] == 2
    assert {(span.attributes or {})["connectsoft.tenant.id"] for span in processed} == {"acme"}
    assert seen.metric("messaging.client.consumed.messages").value == 5
    assert seen.metric("connectsoft.message.outcomes", connectsoft_outcome="rejected").value == 2
    assert seen.metric("connectsoft.message.outcomes", connectsoft_outcome="failure").value == 1


def test_a_publishing_to_nowhere_ends_its_span() -> None:
    async def main() -> None:
        broker = RabbitBroker(f"amqp://guest:guest@127.0.0.1:{free_port()}//", fail_fast=True)
        faststream.install(broker)
        await broker.publish("hello", "orders")

    with capture() as seen:
        with pytest.raises(Exception, match=r".+"):
            asyncio.run(main())
        assert not trace.get_current_span().get_span_context().is_valid
    spans: list[Any] = seen.spans
    assert [(span.name, span.status.status_code.name) for span in spans] == [("send orders", "ERROR")]
