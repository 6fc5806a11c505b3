"""Producers: the span always ends, and the headers carry the current context."""

from __future__ import annotations

import asyncio
import datetime
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

import connectsoft_obs as obs
from connectsoft_obs.testing import capture


def test_send_records_one_span_and_injects_it_into_the_headers() -> None:
    with capture() as captured, obs.operation("web"):
        with obs.producer("audit-events", system="servicebus") as headers:
            current_inside = trace.get_current_span().get_span_context()
        current_after = trace.get_current_span().get_span_context()
    sent, web = captured.spans
    assert (sent.name, sent.kind, sent.status.status_code) == ("send audit-events", SpanKind.PRODUCER, StatusCode.UNSET)
    assert sent.parent == web.context == current_after
    assert current_inside == sent.context
    assert headers["traceparent"].split("-")[1:3] == [f"{sent.context.trace_id:032x}", f"{sent.context.span_id:016x}"]
    assert headers["X-Correlation-Id"] == f"{sent.context.trace_id:032x}"
    assert abs(
        datetime.datetime.fromisoformat(headers["connectsoft-sent-at"]) - datetime.datetime.now(datetime.UTC)
    ) < (datetime.timedelta(seconds=5))
    assert all(type(value) is str for value in headers.values())
    assert dict(sent.attributes or {}) == {
        "messaging.system": "servicebus",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": "audit-events",
    }
    sent_messages = captured.metric("messaging.client.sent.messages")
    assert sent_messages.value == 1
    assert sent_messages.series == (
        {
            "messaging_system": "servicebus",
            "messaging_operation_name": "send",
            "messaging_destination_name": "audit-events",
        },
    )


@pytest.mark.parametrize("error", [OSError("broker unavailable"), asyncio.CancelledError(), KeyboardInterrupt()])
def test_failed_send_ends_its_span_and_restores_the_context(error: BaseException) -> None:
    """Two widely used integrations leave the span open and current for the rest of the thread."""
    with capture() as captured:
        with pytest.raises(type(error)), obs.producer("audit-events", system="servicebus"):
            raise error
        assert not trace.get_current_span().get_span_context().is_valid
    [span] = captured.spans
    is_failure = isinstance(error, Exception)
    assert span.status.status_code is (StatusCode.ERROR if is_failure else StatusCode.UNSET)
    error_type = "OSError" if is_failure else "cancelled"
    assert (span.attributes or {})["error.type"] == error_type
    assert captured.metric("messaging.client.sent.messages", error_type=error_type).value == 1


def test_bound_context_reaches_the_consumer() -> None:
    @obs.consumer("audit-events", system="servicebus", headers=lambda headers: headers)
    def ingest(message: dict[str, str]) -> None:
        pass

    with capture() as captured:
        with obs.operation("web"):
            obs.bind(tenant_id="acme", execution_id="e-1", correlation_id="corr-1", secret="x")
            with obs.producer("audit-events", system="servicebus") as headers:
                pass
        ingest(headers)
    assert headers["tenant-id"] == "acme"
    assert "secret" not in str(headers)
    received = captured.span("process audit-events")
    sent = captured.span("send audit-events")
    assert received.parent is not None
    assert received.parent.span_id == sent.context.span_id
    attributes = received.attributes or {}
    assert attributes["connectsoft.tenant.id"] == "acme"
    assert attributes["connectsoft.execution.id"] == "e-1"
    assert attributes["connectsoft.correlation.id"] == "corr-1"
    assert "secret" not in attributes
    assert captured.metric("connectsoft.message.wait.duration").count == 1


def test_send_inside_a_consumer_continues_trace_and_correlation_id() -> None:
    @obs.consumer("first", system="rabbitmq", headers=lambda headers: headers)
    def relay(message: dict[str, str]) -> dict[str, str]:
        with obs.producer("second", system="rabbitmq") as headers:
            return headers

    with capture() as captured:
        with obs.producer("first", system="rabbitmq") as headers:
            pass
        relayed = relay(headers)
    traces = {span.context.trace_id for span in captured.spans}
    assert len(traces) == 1
    assert relayed["X-Correlation-Id"] == headers["X-Correlation-Id"]


def test_messages_of_a_batch_are_counted_individually() -> None:
    with capture() as captured, obs.producer("audit-events", system="servicebus", count=5):
        pass
    assert (captured.span().attributes or {})["messaging.batch.message_count"] == 5
    assert captured.metric("messaging.client.sent.messages").value == 5


def test_headers_carry_a_negative_sampling_decision() -> None:
    with capture(traces_sampler="always_off") as captured, obs.producer("q", system="rabbitmq") as headers:
        pass
    assert headers["traceparent"].endswith(("-00", "-02"))
    assert captured.spans == []
    assert captured.metric("messaging.client.sent.messages").value == 1


def test_concurrent_async_sends_have_separate_headers() -> None:
    async def publish(number: int) -> dict[str, str]:
        with obs.producer("q", system="rabbitmq") as headers:
            await asyncio.sleep(0)
            return headers

    async def main() -> list[dict[str, str]]:
        return await asyncio.gather(*(publish(number) for number in range(5)))

    with capture() as captured:
        headers = asyncio.run(main())
    assert {carrier["traceparent"].split("-")[2] for carrier in headers} == {
        f"{span.context.span_id:016x}" for span in captured.spans
    }


def test_disabled_telemetry_sends_headers_without_a_trace_context() -> None:
    with capture(disabled=True) as captured, obs.producer("q", system="rabbitmq") as headers:
        pass
    assert captured.spans == []
    assert "traceparent" not in headers
    assert "connectsoft-sent-at" in headers


def test_failing_propagator_does_not_stop_the_send(monkeypatch: pytest.MonkeyPatch) -> None:
    from connectsoft_obs.work import producers

    def fail(_: Any) -> None:
        raise OSError("internal fault")

    with capture() as captured:
        with monkeypatch.context() as patch:
            patch.setattr(producers, "inject", fail)
            with obs.producer("q", system="rabbitmq") as headers:
                pass
        assert headers == {}
        assert not trace.get_current_span().get_span_context().is_valid
    assert captured.metric("connectsoft.obs.errors", connectsoft_obs_where="work.producer").value == 1
    assert captured.metric("messaging.client.sent.messages").value == 1


def test_invalid_name_raises_configuration_error() -> None:
    with pytest.raises(obs.ConfigurationError):
        obs.producer("", system="rabbitmq")
