"""Messages: which trace each belongs to, what it brings along, what is counted, whatever library delivered it."""

from __future__ import annotations

import asyncio
import datetime
import time
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import baggage, context, trace
from opentelemetry.trace import SpanKind, StatusCode

import connectsoft_obs as obs
from connectsoft_obs.testing import capture
from connectsoft_obs.testing.captured_telemetry import Captured

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"


@dataclass
class Message:
    """A message as several libraries have them."""

    headers: dict[str, Any] | None = None
    body: Any = b"hello"
    message_id: str | None = "m-1"
    redelivered: bool = False
    timestamp: datetime.datetime | None = None


@dataclass
class ServiceBusLike:
    application_properties: dict[bytes, Any] = field(default_factory=dict)
    delivery_count: int = 0
    enqueued_time_utc: datetime.datetime | None = None
    message_id: str = "sb-1"


@obs.consumer("audit-events", system="rabbitmq")
def ingest(message: Any) -> Any:
    obs.bind(order_id=42)
    return message


def process(message: Any, **arguments: Any) -> Captured:
    with capture(**arguments) as seen:
        assert ingest(message) is message
    return seen


def test_a_tuple_is_one_message_as_redis_has_them_and_only_a_list_is_a_batch() -> None:
    @obs.consumer("entries", system="redis", headers=lambda entry: entry[1])
    def take(entry: tuple[str, dict[str, str]]) -> None: ...

    with capture() as seen:
        take(("1-0", {"traceparent": PARENT, "body": "hello"}))
    [span] = seen.spans
    assert f"{span.context.trace_id:032x}" == TRACE
    assert "messaging.batch.message_count" not in (span.attributes or {})


def test_one_message_is_one_span_one_sample_one_line_and_one_delivery() -> None:
    seen = process(Message({"traceparent": PARENT}))
    [span] = seen.spans
    assert (span.name, span.kind, span.status.status_code) == (
        "process audit-events",
        SpanKind.CONSUMER,
        StatusCode.UNSET,
    )
    assert dict(span.attributes or {}) == {
        "messaging.system": "rabbitmq",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "audit-events",
        "messaging.message.id": "m-1",
        "connectsoft.outcome": "success",
        "order_id": 42,
    }
    labels = {
        "messaging_system": "rabbitmq",
        "messaging_operation_name": "process",
        "messaging_destination_name": "audit-events",
    }
    duration = seen.metric("messaging.process.duration")
    assert (duration.count, duration.series) == (1, (labels,))
    consumed = seen.metric("messaging.client.consumed.messages")
    assert (consumed.value, consumed.series) == (1, (labels,))
    outcomes = seen.metric("connectsoft.message.outcomes", connectsoft_outcome="success")
    assert outcomes.value == 1
    [line] = seen.logs
    assert (line["message"], line["logger"], line["order_id"]) == (
        "process audit-events success",
        "connectsoft_obs.message",
        42,
    )


def test_a_single_fresh_message_continues_its_senders_trace_and_links_to_it() -> None:
    [span] = process(Message({"traceparent": PARENT})).spans
    assert f"{span.context.trace_id:032x}" == TRACE
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == SPAN
    assert [f"{link.context.span_id:016x}" for link in span.links] == [SPAN]


@pytest.mark.parametrize(
    "message",
    [
        Message({"traceparent": PARENT}, redelivered=True),
        Message({"traceparent": PARENT, "x-delivery-count": 2}),
        Message({"traceparent": PARENT, "connectsoft-sent-at": "2020-01-01T00:00:00Z"}),
        Message({"traceparent": PARENT}, timestamp=datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)),
        ServiceBusLike({b"traceparent": PARENT.encode()}, delivery_count=1),
        ServiceBusLike(
            {b"traceparent": PARENT.encode()}, enqueued_time_utc=datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
        ),
    ],
)
def test_a_message_that_is_old_or_was_delivered_before_is_linked(message: Any) -> None:
    [span] = process(message).spans
    assert span.parent is None
    assert f"{span.context.trace_id:032x}" != TRACE
    assert [f"{link.context.span_id:016x}" for link in span.links] == [SPAN]


def test_the_policy_is_a_setting_and_so_is_what_is_old() -> None:
    sent = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=30)
    message = Message({"traceparent": PARENT}, timestamp=sent)
    assert process(message).spans[0].parent is not None
    assert process(message, message_trace_continuation="link").spans[0].parent is None
    assert process(message, message_trace_max_age=10).spans[0].parent is None


def test_where_the_inside_is_not_trusted_a_message_is_linked_and_brings_nothing() -> None:
    headers = {"traceparent": PARENT, "baggage": "connectsoft.tenant.id=acme", "tenant-id": "acme"}
    seen = process(Message(headers), trust_inbound=False)
    [span] = seen.spans
    assert span.parent is None
    assert len(span.links) == 1
    assert "connectsoft.tenant.id" not in (span.attributes or {})
    assert "connectsoft.tenant.id" not in seen.logs[0]


def test_inside_a_span_of_this_process_that_span_is_the_parent() -> None:
    with capture() as seen, obs.operation("poll"):
        ingest(Message({"traceparent": PARENT, "X-Correlation-Id": "corr-1"}))
    inner, outer = seen.spans
    assert inner.parent == outer.context
    assert inner.kind is SpanKind.CONSUMER
    assert [f"{link.context.span_id:016x}" for link in inner.links] == [SPAN]
    assert seen.logs[0]["connectsoft.correlation.id"] == "corr-1"


def test_a_batch_is_linked_to_each_sender_and_has_no_parent() -> None:
    other = f"00-{'1' * 32}-{'2' * 16}-01"
    messages = [Message({"traceparent": PARENT}), Message({"traceparent": other}), Message({"traceparent": PARENT})]

    @obs.consumer("audit-events", system="kafka")
    async def several(messages: list[Message]) -> None:
        pass

    with capture() as seen:
        asyncio.run(several(messages))
    [span] = seen.spans
    assert span.parent is None
    assert sorted(f"{link.context.span_id:016x}" for link in span.links) == ["2" * 16, SPAN]
    assert (span.attributes or {})["messaging.batch.message_count"] == 3
    assert "messaging.message.id" not in (span.attributes or {})
    assert seen.metric("messaging.client.consumed.messages").value == 3
    assert seen.metric("messaging.process.duration").count == 1
    assert seen.metric("connectsoft.message.outcomes", connectsoft_outcome="success").value == 3


def test_what_all_messages_of_a_batch_say_is_said_of_the_run() -> None:
    def batch(*tenants: str) -> dict[str, Any]:
        with capture() as seen:
            ingest([Message({"tenant-id": tenant, "baggage": "connectsoft.execution.id=e1"}) for tenant in tenants])
        return seen.logs[0]

    assert batch("acme", "acme")["connectsoft.tenant.id"] == "acme"
    assert "connectsoft.tenant.id" not in batch("acme", "other")
    assert batch("acme", "other")["connectsoft.execution.id"] == "e1"


def test_the_time_in_the_queue_is_measured_from_the_senders_time() -> None:
    now = datetime.datetime.now(datetime.UTC)
    ages = {
        "timestamp": Message(timestamp=now - datetime.timedelta(seconds=5)),
        "header": Message({"connectsoft-sent-at": (now - datetime.timedelta(seconds=7)).isoformat()}),
        "service bus": ServiceBusLike(enqueued_time_utc=now - datetime.timedelta(seconds=9)),
        "future": Message(timestamp=now + datetime.timedelta(hours=1)),
        "unknown": Message(),
    }
    waited = {}
    for name, message in ages.items():
        wait = process(message).metric("connectsoft.message.wait.duration")
        waited[name] = (wait.count, round(wait.sum))
    assert waited == {
        "timestamp": (1, 5),
        "header": (1, 7),
        "service bus": (1, 9),
        "future": (1, 0),
        "unknown": (0, 0),
    }


def test_the_application_may_say_where_headers_and_time_are() -> None:
    @obs.consumer("odd", system="odd", headers=lambda m: m["meta"], sent=lambda m: m["at"])
    def odd(message: dict[str, Any]) -> None:
        pass

    with capture() as seen:
        odd({"meta": [("Traceparent", PARENT.encode())], "at": time.time() - 3})
        odd({"meta": [(b"traceparent", PARENT)], "at": int((time.time() - 3) * 1000)})
    assert [span.parent is not None for span in seen.spans] == [True, True]
    wait = seen.metric("connectsoft.message.wait.duration")
    assert (wait.count, round(wait.sum)) == (2, 6)


def test_correlation_and_dimensions_come_from_the_headers() -> None:
    headers = {
        "traceparent": PARENT,
        "X-Correlation-Id": "corr-7",
        "tenant-id": "acme",
        "baggage": "connectsoft.execution.id=run-1,secret=x",
    }
    with capture() as seen:

        @obs.consumer("audit-events", system="rabbitmq")
        def nested(message: Message) -> str:
            carried: dict[str, str] = {}
            obs.inject(carried)
            return f"{carried['X-Correlation-Id']} {baggage.get_baggage('secret')}"

        assert nested(Message(headers)) == "corr-7 x"
    attributes = seen.spans[0].attributes or {}
    for found in (attributes, seen.logs[0]):
        assert found["connectsoft.correlation.id"] == "corr-7"
        assert found["connectsoft.tenant.id"] == "acme"
        assert found["connectsoft.execution.id"] == "run-1"
        assert "secret" not in found


ENVELOPE = {
    "eventId": "evt-1",
    "eventType": "OrderPlaced",
    "tenantId": "acme",
    "projectId": "p-1",
    "moduleId": "m-1",
    "traceId": "trace-9f1c2b7d",
    "correlationId": "corr-3a6e1d40",
    "causationId": "evt-0",
    "occurredAt": "2026-01-01T00:00:00Z",
    "payload": {"total": 99},
}


@pytest.mark.parametrize("form", ["mapping", "bytes", "text", "body", "body of text"])
def test_the_ids_of_an_event_envelope_are_those_of_the_run(form: str) -> None:
    import orjson

    content = orjson.dumps(ENVELOPE)
    message: Any = {
        "mapping": ENVELOPE,
        "bytes": content,
        "text": content.decode(),
        "body": Message(body=content, message_id=None),
        "body of text": Message(body=content.decode(), message_id=None),
    }[form]
    seen = process(message)
    for found in (seen.spans[0].attributes or {}, seen.logs[0]):
        assert found["connectsoft.tenant.id"] == "acme"
        assert found["connectsoft.project.id"] == "p-1"
        assert found["connectsoft.module.id"] == "m-1"
        assert found["connectsoft.correlation.id"] == "corr-3a6e1d40"
        assert found["connectsoft.causation.id"] == "evt-0"
        assert found["connectsoft.lifecycle.id"] == "trace-9f1c2b7d"
        assert found["messaging.message.id"] == "evt-1"
        assert "payload" not in found
        assert "99" not in str(found["connectsoft.tenant.id"])
    assert seen.spans[0].parent is None


def test_an_envelope_whose_trace_id_is_one_gives_it_to_the_trace_unless_headers_do() -> None:
    seen = process({**ENVELOPE, "traceId": TRACE})
    [span] = seen.spans
    assert f"{span.context.trace_id:032x}" == TRACE
    assert span.parent is None
    assert span.context.is_valid
    assert "connectsoft.lifecycle.id" not in (span.attributes or {})
    with_headers = process({**ENVELOPE, "traceId": "1" * 32, "traceparent": PARENT})
    assert f"{with_headers.spans[0].context.trace_id:032x}" == TRACE
    assert with_headers.spans[0].parent is not None


def test_poison_is_told_from_failure_and_raised_on() -> None:
    @obs.consumer("audit-events", system="rabbitmq", rejects=(UnicodeDecodeError, KeyError))
    async def strict(message: Message) -> str:
        text: str = message.body.decode()
        if not text:
            message = "empty"  # type: ignore[assignment]
            raise OSError(message)
        return text

    with capture() as seen:
        with pytest.raises(UnicodeDecodeError):
            asyncio.run(strict(Message(body=b"\xff")))
        with pytest.raises(OSError, match="empty"):
            asyncio.run(strict(Message(body=b"")))
        asyncio.run(strict(Message(body=b"fine")))
    outcomes = {
        series["connectsoft_outcome"]: seen.metric("connectsoft.message.outcomes", **series).value
        for series in seen.metric("connectsoft.message.outcomes").series
    }
    assert outcomes == {"success": 1, "failure": 1, "rejected": 1}
    assert seen.metric("messaging.process.duration", error_type="OSError").count == 1
    assert seen.metric("messaging.process.duration", error_type="").count == 2, "a rejected message is no error of ours"
    poison, failure, _ = seen.spans
    assert (poison.status.status_code, failure.status.status_code) == (StatusCode.UNSET, StatusCode.ERROR)
    assert seen.log("process audit-events failure")["otel.event.name"] == "messaging.process.exception"


def test_the_message_is_found_wherever_it_is_passed() -> None:
    class Worker:
        @obs.consumer("method", system="rabbitmq")
        def handle(self, message: Message) -> None:
            pass

    @obs.consumer("second", system="rabbitmq", message="event")
    def second(context: object, event: Message) -> None:
        pass

    @obs.consumer("by-name", system="rabbitmq", message="event")
    def by_name(*, event: Message) -> None:
        pass

    message = Message({"traceparent": PARENT})
    with capture() as seen:
        Worker().handle(message)
        Worker().handle(message=message)
        second(None, message)
        second(None, event=message)
        by_name(event=message)
        with obs.consumer("block", system="rabbitmq").process(message):
            pass
    assert [span.parent is not None for span in seen.spans] == [True] * 6


def test_names_and_arguments_that_cannot_work_are_refused() -> None:
    for bad in ({"destination": ""}, {"system": "a\nb"}, {"timeout": 0}):
        with pytest.raises(obs.ConfigurationError):
            obs.consumer(**{"destination": "queue", "system": "rabbitmq", **bad})  # type: ignore[arg-type]
    with pytest.raises(obs.ConfigurationError, match="has no arguments"):
        obs.consumer("queue", system="rabbitmq")(lambda: None)
    with pytest.raises(obs.ConfigurationError, match="no such argument"):
        obs.consumer("queue", system="rabbitmq", message="nothing")(lambda m: m)


def test_a_headers_function_that_fails_does_not_stop_the_message() -> None:
    @obs.consumer("audit-events", system="rabbitmq", headers=lambda m: m.nothing)
    def handle(message: Any) -> str:
        return "handled"

    with capture() as seen:
        assert handle(object()) == "handled"
        assert handle([1, 2, 3]) == "handled"
    assert seen.metric("connectsoft.obs.errors", connectsoft_obs_where="work.message").value == 2
    assert seen.metric("messaging.client.consumed.messages").value == 4


def test_a_span_processor_that_somebody_added_sees_the_links_of_messages() -> None:
    ended = []

    class Processor:
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            ended.append(("start", span.name))

        def on_end(self, span: Any) -> None:
            ended.append(("end", len(span.links)))

        def shutdown(self) -> None: ...
        def force_flush(self, timeout_millis: int = 30000) -> bool:
            return True

    with capture() as seen:
        ingest(Message())
        assert seen.telemetry is not None
        seen.telemetry.tracing.provider.add_span_processor(Processor())  # type: ignore[arg-type]
        ingest(Message({"traceparent": PARENT}))
    assert ended == [("start", "process audit-events"), ("end", 1)]


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.binary(), inner, max_size=4),
    max_leaves=8,
)
names = st.sampled_from(
    ["traceparent", "tracestate", "baggage", "X-Correlation-Id", "tenant-id", "connectsoft-sent-at", "Diagnostic-Id",
     "connectsoft-previous-attempt", "x-delivery-count"]
)  # fmt: skip
strange_headers = st.dictionaries(names | st.text() | st.binary(), anything, max_size=6)


@settings(max_examples=100, deadline=None)
@given(
    headers=strange_headers | anything,
    body=anything | st.fixed_dictionaries(dict.fromkeys(ENVELOPE, anything)),
    identifier=anything,
    count=anything,
    moment=anything | st.datetimes(),
)
def test_whatever_strangers_send_is_processed_and_counted(
    headers: Any, body: Any, identifier: Any, count: Any, moment: Any
) -> None:
    class Strange:
        def __init__(self) -> None:
            self.headers, self.body, self.message_id = headers, body, identifier
            self.delivery_count, self.timestamp = count, moment

    with capture() as seen:
        for message in (Strange(), headers, body, [Strange(), body]):
            ingest(message)
    assert seen.metric("connectsoft.obs.errors").value == 0
    assert seen.metric("messaging.process.duration").count == 4
    for snapshot in seen.telemetry.metrics.snapshots() if seen.telemetry else ():
        if snapshot.metric.name.startswith(("messaging", "connectsoft.message")):
            assert len(snapshot.series) <= 3
    assert trace.get_current_span(context.get_current()).get_span_context().span_id == 0
