"""Azure Service Bus over AMQP on the loopback, and Azure Storage Queue against Azurite, with the official clients."""

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


class Poison(Exception):
    pass


@obs.consumer("audit-events", system="servicebus", rejects=Poison)
def ingest(message: Any) -> str:
    text = b"".join(message.body).decode()
    if text == "poison":
        raise Poison
    if text == "again" and not message.delivery_count:
        raise ConnectionError("not yet")
    return text


def work_off(receiver: Any, expected: int) -> list[str]:
    said = []
    for message in receiver:
        try:
            said.append(ingest(message))
            receiver.complete_message(message)
        except Poison:
            said.append("Poison")
            receiver.dead_letter_message(message, reason="poison")
        except ConnectionError:
            said.append("ConnectionError")
            receiver.abandon_message(message)
        if len(said) == expected:
            break
    return said


def whole(seen: Captured) -> None:
    """One trace from whoever sent to whoever processed; what came again is linked."""
    web = seen.span("run web").context.trace_id
    processed = [span for span in seen.spans if span.name == "process audit-events"]
    first = [span for span in processed if "messaging.servicebus.message.delivery_count" not in (span.attributes or {})]
    [again] = [span for span in processed if "messaging.servicebus.message.delivery_count" in (span.attributes or {})]
    assert {span.context.trace_id for span in first} == {web}
    assert again.parent is None
    assert [link.context.trace_id for link in again.links] == [web]
    assert (again.attributes or {})["messaging.servicebus.message.delivery_count"] == 2
    assert {(span.attributes or {})["connectsoft.tenant.id"] for span in processed} == {"acme"}
    assert seen.metric("connectsoft.message.wait.duration").count == len(processed)
    outcomes = {
        series["connectsoft_outcome"]: seen.metric("connectsoft.message.outcomes", **series).value
        for series in seen.metric("connectsoft.message.outcomes").series
    }
    assert outcomes == {"success": 2, "rejected": 1, "failure": 1}
    assert seen.metric("messaging.client.sent.messages").value == 3
    assert seen.metric("messaging.client.consumed.messages").value == 4


def test_service_bus_over_the_wire() -> None:
    with servicebus() as connection, capture() as seen, ServiceBusClient.from_connection_string(connection) as client:
        with client.get_queue_sender("audit-events") as sender:
            servicebus_integration.install(sender)
            servicebus_integration.install(sender)
            with obs.operation("web"):
                obs.bind(tenant_id="acme")
                mine = ServiceBusMessage("hello", application_properties={"mine": "stays"})
                sender.send_messages(mine)
                sender.send_messages([ServiceBusMessage("again"), ServiceBusMessage("poison")])
        assert (mine.application_properties or {})["mine"] == "stays"
        with client.get_queue_receiver("audit-events", max_wait_time=10) as receiver:
            said = work_off(receiver, 4)
    assert sorted(said) == ["ConnectionError", "Poison", "again", "hello"]
    whole(seen)
    seen.span("send audit-events", messaging_batch_message_count=2)


@pytest.mark.full
def test_service_bus_over_the_wire_in_async_code_and_in_batches() -> None:
    @obs.consumer("audit-events", system="servicebus")
    async def several(messages: list[Any]) -> int:
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
                    assert await several(batch) == len(batch)
                    for message in batch:
                        await receiver.complete_message(message)

    with servicebus() as connection, capture() as seen:
        asyncio.run(main(connection))
    sent = {span.context.span_id for span in seen.spans if span.name == "send audit-events"}
    batches = [span for span in seen.spans if span.name == "process audit-events"]
    assert {link.context.span_id for span in batches for link in span.links} == sent
    assert all(span.parent is None for span in batches)
    assert seen.metric("messaging.client.consumed.messages").value == 3


@pytest.mark.full
def test_a_sending_that_fails_ends_its_span() -> None:
    with servicebus() as connection:
        client = ServiceBusClient.from_connection_string(connection, retry_total=0)
        sender = client.get_queue_sender("audit-events")
        servicebus_integration.install(sender)
    with capture() as seen, pytest.raises(Exception, match=r".+"):
        sender.send_messages(ServiceBusMessage("hello"))
    assert seen.span("send audit-events").status.status_code.name == "ERROR"


def test_the_traceparent_that_a_net_service_sends_under_its_old_name_is_read() -> None:
    message = ServiceBusMessage("hello")
    message.application_properties = {b"Diagnostic-Id": b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    with capture() as seen:
        obs.consumer("audit-events", system="servicebus")(lambda m: m)(message)
    assert f"{seen.span().context.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c"


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
def read(message: Any) -> Any:
    content = orjson.loads(message.content)
    if message.dequeue_count == 1 and content["payload"]["number"] == 1:
        raise ConnectionError("not yet")
    return content


@pytest.mark.full
def test_storage_queue_carries_the_trace_in_the_envelope(storage: brokers.Broker) -> None:
    queue = QueueClient.from_connection_string(storage.url, f"reports-{uuid.uuid4().hex[:8]}")
    queue.create_queue()
    storagequeue.install(queue)
    storagequeue.install(queue)
    with capture() as seen:
        with obs.operation("web"):
            for number in range(2):
                event = envelope(number)
                obs.inject(event)
                queue.send_message(orjson.dumps(event).decode())
        done = 0
        while done < 2:
            for message in queue.receive_messages(visibility_timeout=1):
                try:
                    read(message)
                except ConnectionError:
                    queue.update_message(message, visibility_timeout=0)
                else:
                    queue.delete_message(message)
                    done += 1
    web = seen.span("run web").context.trace_id
    processed = [span for span in seen.spans if span.name == "process reports"]
    assert len(processed) == 3
    assert [span.context.trace_id == web for span in processed].count(True) == 2
    [again] = [span for span in processed if (span.attributes or {}).get("connectsoft.message.delivery_count")]
    assert again.parent is None
    assert [link.context.trace_id for link in again.links] == [web]
    for span in processed:
        attributes = span.attributes or {}
        assert (attributes["connectsoft.tenant.id"], attributes["connectsoft.correlation.id"]) == ("acme", "corr-1")
        assert attributes["connectsoft.lifecycle.id"] == "trace-9f1c2b7d"
    assert seen.metric("connectsoft.message.wait.duration").count == 3
    assert seen.metric("messaging.client.sent.messages").value == 2
    assert seen.metric("messaging.client.consumed.messages").value == 3


@pytest.mark.full
def test_storage_queue_in_async_code_and_a_sending_that_fails(storage: brokers.Broker) -> None:
    async def main() -> None:
        async with AsyncQueueClient.from_connection_string(storage.url, f"reports-{uuid.uuid4().hex[:8]}") as queue:
            storagequeue.install(queue)
            with pytest.raises(Exception, match="queue does not exist"):
                await queue.send_message("never")
            await queue.create_queue()
            await queue.send_message("hello")

    with capture() as seen:
        asyncio.run(main())
    failed, sent = seen.spans
    assert (failed.status.status_code.name, sent.status.status_code.name) == ("ERROR", "UNSET")
