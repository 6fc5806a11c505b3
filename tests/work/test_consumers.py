"""Consumers: trace context, dimensions and metrics of messages, with the message types of several libraries."""

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

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE_ID}-{SPAN_ID}-01"


@dataclass
class Message:
    """A message with the attributes that several client libraries use."""

    headers: dict[str, Any] | None = None
    body: Any = b"hello"
    message_id: str | None = "m-1"
    redelivered: bool = False
    timestamp: datetime.datetime | None = None


@dataclass
class ServiceBusMessage:
    application_properties: dict[bytes, Any] = field(default_factory=dict)
    delivery_count: int = 0
    enqueued_time_utc: datetime.datetime | None = None
    message_id: str = "sb-1"


@obs.consumer("audit-events", system="rabbitmq")
def ingest(message: Any) -> Any:
    obs.bind(order_id=42)
    return message


def process(message: Any, **capture_settings: Any) -> Captured:
    with capture(**capture_settings) as captured:
        assert ingest(message) is message
    return captured


def test_tuple_is_one_message_and_list_is_a_batch() -> None:
    @obs.consumer("entries", system="redis", headers=lambda entry: entry[1])
    def process_entry(entry: tuple[str, dict[str, str]]) -> None: ...

    with capture() as captured:
        process_entry(("1-0", {"traceparent": TRACEPARENT, "body": "hello"}))
    [span] = captured.spans
    assert f"{span.context.trace_id:032x}" == TRACE_ID
    assert "messaging.batch.message_count" not in (span.attributes or {})


def test_message_is_recorded_once_in_every_signal() -> None:
    captured = process(Message({"traceparent": TRACEPARENT}))
    [span] = captured.spans
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
    duration = captured.metric("messaging.process.duration")
    assert (duration.count, duration.series) == (1, (labels,))
    consumed = captured.metric("messaging.client.consumed.messages")
    assert (consumed.value, consumed.series) == (1, (labels,))
    outcomes = captured.metric("connectsoft.message.outcomes", connectsoft_outcome="success")
    assert outcomes.value == 1
    [line] = captured.logs
    assert (line["message"], line["logger"], line["order_id"]) == (
        "process audit-events success",
        "connectsoft_obs.message",
        42,
    )


def test_single_recent_message_continues_the_producer_trace() -> None:
    [span] = process(Message({"traceparent": TRACEPARENT})).spans
    assert f"{span.context.trace_id:032x}" == TRACE_ID
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == SPAN_ID
    assert [f"{link.context.span_id:016x}" for link in span.links] == [SPAN_ID]


@pytest.mark.parametrize(
    "message",
    [
        Message({"traceparent": TRACEPARENT}, redelivered=True),
        Message({"traceparent": TRACEPARENT, "x-delivery-count": 2}),
        Message({"traceparent": TRACEPARENT, "connectsoft-sent-at": "2020-01-01T00:00:00Z"}),
        Message({"traceparent": TRACEPARENT}, timestamp=datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)),
        ServiceBusMessage({b"traceparent": TRACEPARENT.encode()}, delivery_count=1),
        ServiceBusMessage(
            {b"traceparent": TRACEPARENT.encode()}, enqueued_time_utc=datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
        ),
    ],
)
def test_old_or_redelivered_message_starts_a_linked_trace(message: Any) -> None:
    [span] = process(message).spans
    assert span.parent is None
    assert f"{span.context.trace_id:032x}" != TRACE_ID
    assert [f"{link.context.span_id:016x}" for link in span.links] == [SPAN_ID]


def test_settings_control_trace_continuation_and_maximum_age() -> None:
    sent_at = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=30)
    message = Message({"traceparent": TRACEPARENT}, timestamp=sent_at)
    assert process(message).spans[0].parent is not None
    assert process(message, message_trace_continuation="link").spans[0].parent is None
    assert process(message, message_trace_max_age=10).spans[0].parent is None


def test_untrusted_message_is_linked_and_its_dimensions_are_ignored() -> None:
    headers = {"traceparent": TRACEPARENT, "baggage": "connectsoft.tenant.id=acme", "tenant-id": "acme"}
    captured = process(Message(headers), trust_inbound=False)
    [span] = captured.spans
    assert span.parent is None
    assert len(span.links) == 1
    assert "connectsoft.tenant.id" not in (span.attributes or {})
    assert "connectsoft.tenant.id" not in captured.logs[0]


def test_local_span_is_the_parent_of_a_message_span() -> None:
    with capture() as captured, obs.operation("poll"):
        ingest(Message({"traceparent": TRACEPARENT, "X-Correlation-Id": "corr-1"}))
    message_span, poll_span = captured.spans
    assert message_span.parent == poll_span.context
    assert message_span.kind is SpanKind.CONSUMER
    assert [f"{link.context.span_id:016x}" for link in message_span.links] == [SPAN_ID]
    assert captured.logs[0]["connectsoft.correlation.id"] == "corr-1"


def test_batch_links_to_each_producer_and_has_no_parent() -> None:
    other_traceparent = f"00-{'1' * 32}-{'2' * 16}-01"
    messages = [
        Message({"traceparent": TRACEPARENT}),
        Message({"traceparent": other_traceparent}),
        Message({"traceparent": TRACEPARENT}),
    ]

    @obs.consumer("audit-events", system="kafka")
    async def process_batch(messages: list[Message]) -> None:
        pass

    with capture() as captured:
        asyncio.run(process_batch(messages))
    [span] = captured.spans
    assert span.parent is None
    assert sorted(f"{link.context.span_id:016x}" for link in span.links) == ["2" * 16, SPAN_ID]
    assert (span.attributes or {})["messaging.batch.message_count"] == 3
    assert "messaging.message.id" not in (span.attributes or {})
    assert captured.metric("messaging.client.consumed.messages").value == 3
    assert captured.metric("messaging.process.duration").count == 1
    assert captured.metric("connectsoft.message.outcomes", connectsoft_outcome="success").value == 3


def test_dimensions_common_to_a_batch_are_logged() -> None:
    def logged_batch(*tenants: str) -> dict[str, Any]:
        with capture() as captured:
            ingest([Message({"tenant-id": tenant, "baggage": "connectsoft.execution.id=e1"}) for tenant in tenants])
        return captured.logs[0]

    assert logged_batch("acme", "acme")["connectsoft.tenant.id"] == "acme"
    assert "connectsoft.tenant.id" not in logged_batch("acme", "other")
    assert logged_batch("acme", "other")["connectsoft.execution.id"] == "e1"


def test_wait_duration_is_measured_from_the_send_time() -> None:
    now = datetime.datetime.now(datetime.UTC)
    messages = {
        "timestamp": Message(timestamp=now - datetime.timedelta(seconds=5)),
        "header": Message({"connectsoft-sent-at": (now - datetime.timedelta(seconds=7)).isoformat()}),
        "service bus": ServiceBusMessage(enqueued_time_utc=now - datetime.timedelta(seconds=9)),
        "future": Message(timestamp=now + datetime.timedelta(hours=1)),
        "unknown": Message(),
    }
    wait_durations = {}
    for name, message in messages.items():
        wait = process(message).metric("connectsoft.message.wait.duration")
        wait_durations[name] = (wait.count, round(wait.sum))
    assert wait_durations == {
        "timestamp": (1, 5),
        "header": (1, 7),
        "service bus": (1, 9),
        "future": (1, 0),
        "unknown": (0, 0),
    }


def test_custom_functions_extract_headers_and_send_time() -> None:
    @obs.consumer("custom", system="custom", headers=lambda m: m["meta"], sent=lambda m: m["at"])
    def process_custom(message: dict[str, Any]) -> None:
        pass

    with capture() as captured:
        process_custom({"meta": [("Traceparent", TRACEPARENT.encode())], "at": time.time() - 3})
        process_custom({"meta": [(b"traceparent", TRACEPARENT)], "at": int((time.time() - 3) * 1000)})
    assert [span.parent is not None for span in captured.spans] == [True, True]
    wait = captured.metric("connectsoft.message.wait.duration")
    assert (wait.count, round(wait.sum)) == (2, 6)


def test_correlation_id_and_dimensions_are_read_from_headers() -> None:
    headers = {
        "traceparent": TRACEPARENT,
        "X-Correlation-Id": "corr-7",
        "tenant-id": "acme",
        "baggage": "connectsoft.execution.id=run-1,secret=x",
    }
    with capture() as captured:

        @obs.consumer("audit-events", system="rabbitmq")
        def process_and_inject(message: Message) -> str:
            outgoing: dict[str, str] = {}
            obs.inject(outgoing)
            return f"{outgoing['X-Correlation-Id']} {baggage.get_baggage('secret')}"

        assert process_and_inject(Message(headers)) == "corr-7 x"
    attributes = captured.spans[0].attributes or {}
    for fields in (attributes, captured.logs[0]):
        assert fields["connectsoft.correlation.id"] == "corr-7"
        assert fields["connectsoft.tenant.id"] == "acme"
        assert fields["connectsoft.execution.id"] == "run-1"
        assert "secret" not in fields


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


@pytest.mark.parametrize("form", ["mapping", "bytes", "text", "body", "text body"])
def test_envelope_ids_are_recorded(form: str) -> None:
    import orjson

    content = orjson.dumps(ENVELOPE)
    message: Any = {
        "mapping": ENVELOPE,
        "bytes": content,
        "text": content.decode(),
        "body": Message(body=content, message_id=None),
        "text body": Message(body=content.decode(), message_id=None),
    }[form]
    captured = process(message)
    for fields in (captured.spans[0].attributes or {}, captured.logs[0]):
        assert fields["connectsoft.tenant.id"] == "acme"
        assert fields["connectsoft.project.id"] == "p-1"
        assert fields["connectsoft.module.id"] == "m-1"
        assert fields["connectsoft.correlation.id"] == "corr-3a6e1d40"
        assert fields["connectsoft.causation.id"] == "evt-0"
        assert fields["connectsoft.lifecycle.id"] == "trace-9f1c2b7d"
        assert fields["messaging.message.id"] == "evt-1"
        assert "payload" not in fields
        assert "99" not in str(fields["connectsoft.tenant.id"])
    assert captured.spans[0].parent is None


def test_valid_envelope_trace_id_is_used_unless_headers_carry_one() -> None:
    captured = process({**ENVELOPE, "traceId": TRACE_ID})
    [span] = captured.spans
    assert f"{span.context.trace_id:032x}" == TRACE_ID
    assert span.parent is None
    assert span.context.is_valid
    assert "connectsoft.lifecycle.id" not in (span.attributes or {})
    with_headers = process({**ENVELOPE, "traceId": "1" * 32, "traceparent": TRACEPARENT})
    assert f"{with_headers.spans[0].context.trace_id:032x}" == TRACE_ID
    assert with_headers.spans[0].parent is not None


def test_rejected_message_is_not_a_failure_and_is_reraised() -> None:
    @obs.consumer("audit-events", system="rabbitmq", rejects=(UnicodeDecodeError, KeyError))
    async def decode(message: Message) -> str:
        text: str = message.body.decode()
        if not text:
            message = "empty"  # type: ignore[assignment]
            raise OSError(message)
        return text

    with capture() as captured:
        with pytest.raises(UnicodeDecodeError):
            asyncio.run(decode(Message(body=b"\xff")))
        with pytest.raises(OSError, match="empty"):
            asyncio.run(decode(Message(body=b"")))
        asyncio.run(decode(Message(body=b"fine")))
    outcomes = {
        series["connectsoft_outcome"]: captured.metric("connectsoft.message.outcomes", **series).value
        for series in captured.metric("connectsoft.message.outcomes").series
    }
    assert outcomes == {"success": 1, "failure": 1, "rejected": 1}
    assert captured.metric("messaging.process.duration", error_type="OSError").count == 1
    assert captured.metric("messaging.process.duration", error_type="").count == 2, (
        "a rejected message has no error type"
    )
    rejected, failure, _ = captured.spans
    assert (rejected.status.status_code, failure.status.status_code) == (StatusCode.UNSET, StatusCode.ERROR)
    assert captured.log("process audit-events failure")["otel.event.name"] == "messaging.process.exception"


def test_message_argument_is_located_by_position_and_by_name() -> None:
    class Worker:
        @obs.consumer("method", system="rabbitmq")
        def handle(self, message: Message) -> None:
            pass

    @obs.consumer("second", system="rabbitmq", message="event")
    def second_argument(context: object, event: Message) -> None:
        pass

    @obs.consumer("by-name", system="rabbitmq", message="event")
    def keyword_argument(*, event: Message) -> None:
        pass

    message = Message({"traceparent": TRACEPARENT})
    with capture() as captured:
        Worker().handle(message)
        Worker().handle(message=message)
        second_argument(None, message)
        second_argument(None, event=message)
        keyword_argument(event=message)
        with obs.consumer("block", system="rabbitmq").process(message):
            pass
    assert [span.parent is not None for span in captured.spans] == [True] * 6


def test_invalid_names_and_arguments_raise_configuration_error() -> None:
    for invalid in ({"destination": ""}, {"system": "a\nb"}, {"timeout": 0}):
        with pytest.raises(obs.ConfigurationError):
            obs.consumer(**{"destination": "queue", "system": "rabbitmq", **invalid})  # type: ignore[arg-type]
    with pytest.raises(obs.ConfigurationError, match="has no arguments"):
        obs.consumer("queue", system="rabbitmq")(lambda: None)
    with pytest.raises(obs.ConfigurationError, match="no such argument"):
        obs.consumer("queue", system="rabbitmq", message="unknown")(lambda m: m)


def test_failing_headers_function_does_not_stop_processing() -> None:
    @obs.consumer("audit-events", system="rabbitmq", headers=lambda m: m.missing)
    def handle(message: Any) -> str:
        return "handled"

    with capture() as captured:
        assert handle(object()) == "handled"
        assert handle([1, 2, 3]) == "handled"
    assert captured.metric("connectsoft.obs.errors", connectsoft_obs_where="work.message").value == 2
    assert captured.metric("messaging.client.consumed.messages").value == 4


def test_additional_span_processor_receives_message_links() -> None:
    events = []

    class RecordingProcessor:
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            events.append(("start", span.name))

        def on_end(self, span: Any) -> None:
            events.append(("end", len(span.links)))

        def shutdown(self) -> None: ...
        def force_flush(self, timeout_millis: int = 30000) -> bool:
            return True

    with capture() as captured:
        ingest(Message())
        assert captured.telemetry is not None
        captured.telemetry.tracing.provider.add_span_processor(RecordingProcessor())  # type: ignore[arg-type]
        ingest(Message({"traceparent": TRACEPARENT}))
    assert events == [("start", "process audit-events"), ("end", 1)]


any_value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.binary(), inner, max_size=4),
    max_leaves=8,
)
header_names = st.sampled_from(
    ["traceparent", "tracestate", "baggage", "X-Correlation-Id", "tenant-id", "connectsoft-sent-at", "Diagnostic-Id",
     "connectsoft-previous-attempt", "x-delivery-count"]
)  # fmt: skip
arbitrary_headers = st.dictionaries(header_names | st.text() | st.binary(), any_value, max_size=6)


@settings(max_examples=100, deadline=None)
@given(
    headers=arbitrary_headers | any_value,
    body=any_value | st.fixed_dictionaries(dict.fromkeys(ENVELOPE, any_value)),
    message_id=any_value,
    delivery_count=any_value,
    timestamp=any_value | st.datetimes(),
)
def test_arbitrary_messages_are_processed_and_counted(
    headers: Any, body: Any, message_id: Any, delivery_count: Any, timestamp: Any
) -> None:
    class ArbitraryMessage:
        def __init__(self) -> None:
            self.headers, self.body, self.message_id = headers, body, message_id
            self.delivery_count, self.timestamp = delivery_count, timestamp

    with capture() as captured:
        for message in (ArbitraryMessage(), headers, body, [ArbitraryMessage(), body]):
            ingest(message)
    assert captured.metric("connectsoft.obs.errors").value == 0
    assert captured.metric("messaging.process.duration").count == 4
    for snapshot in captured.telemetry.metrics.snapshots() if captured.telemetry else ():
        if snapshot.metric.name.startswith(("messaging", "connectsoft.message")):
            assert len(snapshot.series) <= 3
    assert trace.get_current_span(context.get_current()).get_span_context().span_id == 0
