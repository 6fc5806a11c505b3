"""Azure Service Bus over AMQP on the loopback interface, and Azure Storage Queue with Azurite; official clients."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import orjson
import pytest
from azure.servicebus import ServiceBusClient, ServiceBusMessage
from azure.servicebus.aio import ServiceBusClient as AsyncServiceBusClient
from azure.storage.queue import QueueClient
from azure.storage.queue.aio import QueueClient as AsyncQueueClient
from support import brokers
from support.servicebus import servicebus

import connectsoft_obs as obs
from connectsoft_obs.integrations import servicebus as servicebus_integration
from connectsoft_obs.integrations import storagequeue
from connectsoft_obs.testing import capture
from connectsoft_obs.testing.captured_telemetry import Captured


class PoisonMessage(Exception):
    pass


@obs.consumer("audit-events", system="servicebus", rejects=PoisonMessage)
def ingest(message: Any) -> str:
    text = b"".join(message.body).decode()
    if text == "poison":
        raise PoisonMessage
    if text == "retry" and not message.delivery_count:
        raise ConnectionError("not yet")
    return text


def process_messages(receiver: Any, expected: int) -> list[str]:
    """Process a number of messages, and return the result or the exception name of each."""
    results = []
    for message in receiver:
        try:
            results.append(ingest(message))
            receiver.complete_message(message)
        except PoisonMessage:
            results.append("PoisonMessage")
            receiver.dead_letter_message(message, reason="poison")
        except ConnectionError:
            results.append("ConnectionError")
            receiver.abandon_message(message)
        if len(results) == expected:
            break
    return results


def assert_traces_and_outcomes(captured: Captured) -> None:
    """Assert that first deliveries continue the producer's trace, and that the redelivery has its own, linked trace."""
    web_trace_id = captured.span("run web").context.trace_id
    processed = [span for span in captured.spans if span.name == "process audit-events"]
    first_deliveries = [
        span for span in processed if "messaging.servicebus.message.delivery_count" not in (span.attributes or {})
    ]
    [redelivery] = [
        span for span in processed if "messaging.servicebus.message.delivery_count" in (span.attributes or {})
    ]
    assert {span.context.trace_id for span in first_deliveries} == {web_trace_id}
    assert redelivery.parent is None
    assert [link.context.trace_id for link in redelivery.links] == [web_trace_id]
    assert (redelivery.attributes or {})["messaging.servicebus.message.delivery_count"] == 2
    assert {(span.attributes or {})["connectsoft.tenant.id"] for span in processed} == {"acme"}
    assert captured.metric("connectsoft.message.wait.duration").count == len(processed)
    outcomes = {
        series["connectsoft_outcome"]: captured.metric("connectsoft.message.outcomes", **series).value
        for series in captured.metric("connectsoft.message.outcomes").series
    }
    assert outcomes == {"success": 2, "rejected": 1, "failure": 1}
    assert captured.metric("messaging.client.sent.messages").value == 3
    assert captured.metric("messaging.client.consumed.messages").value == 4


def test_service_bus_traces_and_outcomes() -> None:
    with (
        servicebus() as connection,
        capture() as captured,
        ServiceBusClient.from_connection_string(connection) as client,
    ):
        with client.get_queue_sender("audit-events") as sender:
            servicebus_integration.install(sender)
            servicebus_integration.install(sender)
            with obs.operation("web"):
                obs.bind(tenant_id="acme")
                message = ServiceBusMessage("hello", application_properties={"application": "unchanged"})
                sender.send_messages(message)
                sender.send_messages([ServiceBusMessage("retry"), ServiceBusMessage("poison")])
        assert (message.application_properties or {})["application"] == "unchanged"
        with client.get_queue_receiver("audit-events", max_wait_time=10) as receiver:
            results = process_messages(receiver, 4)
    assert sorted(results) == ["ConnectionError", "PoisonMessage", "hello", "retry"]
    assert_traces_and_outcomes(captured)
    captured.span("send audit-events", messaging_batch_message_count=2)


@pytest.mark.full
def test_service_bus_async_client_and_batches() -> None:
    @obs.consumer("audit-events", system="servicebus")
    async def process_batch(messages: list[Any]) -> int:
        return len(messages)

    async def main(connection: str) -> None:
        async with AsyncServiceBusClient.from_connection_string(connection) as client:
            async with client.get_queue_sender("audit-events") as sender:
                servicebus_integration.install(sender)
                for number in range(3):
                    await sender.send_messages(ServiceBusMessage(str(number)))
            async with client.get_queue_receiver("audit-events", max_wait_time=10) as receiver:
                received: list[Any] = []
                while len(received) < 3:
                    batch = await receiver.receive_messages(max_message_count=3, max_wait_time=5)
                    received += batch
                    assert await process_batch(batch) == len(batch)
                    for message in batch:
                        await receiver.complete_message(message)

    with servicebus() as connection, capture() as captured:
        asyncio.run(main(connection))
    sent_span_ids = {span.context.span_id for span in captured.spans if span.name == "send audit-events"}
    batch_spans = [span for span in captured.spans if span.name == "process audit-events"]
    assert {link.context.span_id for span in batch_spans for link in span.links} == sent_span_ids
    assert all(span.parent is None for span in batch_spans)
    assert captured.metric("messaging.client.consumed.messages").value == 3


@pytest.mark.full
def test_failed_service_bus_send_ends_its_span() -> None:
    with servicebus() as connection:
        client = ServiceBusClient.from_connection_string(connection, retry_total=0)
        sender = client.get_queue_sender("audit-events")
        servicebus_integration.install(sender)
    with capture() as captured, pytest.raises(Exception, match=r".+"):
        sender.send_messages(ServiceBusMessage("hello"))
    assert captured.span("send audit-events").status.status_code.name == "ERROR"


def test_diagnostic_id_of_a_dotnet_producer_is_read_as_traceparent() -> None:
    message = ServiceBusMessage("hello")
    message.application_properties = {b"Diagnostic-Id": b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    with capture() as captured:
        obs.consumer("audit-events", system="servicebus")(lambda m: m)(message)
    assert f"{captured.span().context.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture(scope="module")
def storage() -> Any:
    with brokers.azurite() as broker:
        yield broker


def envelope(number: int) -> dict[str, Any]:
    return {
        "eventId": f"evt-{number}",
        "eventType": "OrderPlaced",
        "tenantId": "acme",
        "traceId": "trace-9f1c2b7d",
        "correlationId": "corr-1",
        "payload": {"number": number},
    }


@obs.consumer("reports", system="azure_storage_queue")
def read_report(message: Any) -> Any:
    content = orjson.loads(message.content)
    if message.dequeue_count == 1 and content["payload"]["number"] == 1:
        raise ConnectionError("not yet")
    return content


@pytest.mark.full
def test_storage_queue_envelope_carries_the_trace(storage: brokers.Broker) -> None:
    queue = QueueClient.from_connection_string(storage.url, f"reports-{uuid.uuid4().hex[:8]}")
    queue.create_queue()
    storagequeue.install(queue)
    storagequeue.install(queue)
    with capture() as captured:
        with obs.operation("web"):
            for number in range(2):
                event = envelope(number)
                obs.inject(event)
                queue.send_message(orjson.dumps(event).decode())
        processed_count = 0
        while processed_count < 2:
            for message in queue.receive_messages(visibility_timeout=1):
                try:
                    read_report(message)
                except ConnectionError:
                    queue.update_message(message, visibility_timeout=0)
                else:
                    queue.delete_message(message)
                    processed_count += 1
    web_trace_id = captured.span("run web").context.trace_id
    processed = [span for span in captured.spans if span.name == "process reports"]
    assert len(processed) == 3
    assert [span.context.trace_id == web_trace_id for span in processed].count(True) == 2
    [redelivery] = [span for span in processed if (span.attributes or {}).get("connectsoft.message.delivery_count")]
    assert redelivery.parent is None
    assert [link.context.trace_id for link in redelivery.links] == [web_trace_id]
    for span in processed:
        attributes = span.attributes or {}
        assert (attributes["connectsoft.tenant.id"], attributes["connectsoft.correlation.id"]) == ("acme", "corr-1")
        assert attributes["connectsoft.lifecycle.id"] == "trace-9f1c2b7d"
    assert captured.metric("connectsoft.message.wait.duration").count == 3
    assert captured.metric("messaging.client.sent.messages").value == 2
    assert captured.metric("messaging.client.consumed.messages").value == 3


@pytest.mark.full
def test_storage_queue_async_client_and_failed_send(storage: brokers.Broker) -> None:
    async def main() -> None:
        async with AsyncQueueClient.from_connection_string(storage.url, f"reports-{uuid.uuid4().hex[:8]}") as queue:
            storagequeue.install(queue)
            with pytest.raises(Exception, match="queue does not exist"):
                await queue.send_message("never")
            await queue.create_queue()
            await queue.send_message("hello")

    with capture() as captured:
        asyncio.run(main())
    failed, sent = captured.spans
    assert (failed.status.status_code.name, sent.status.status_code.name) == ("ERROR", "UNSET")
