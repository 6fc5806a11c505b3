"""Sending: a span that ends whatever happens, and headers that carry what runs here."""

from __future__ import annotations

import asyncio
import datetime
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

import connectsoft_obs as obs
from connectsoft_obs.testing import capture


def test_one_publishing_is_one_span_and_the_headers_name_it() -> None:
    with capture() as seen, obs.operation("web"):
        with obs.producer("audit-events", system="servicebus") as headers:
            inside = trace.get_current_span().get_span_context()
        after = trace.get_current_span().get_span_context()
    sent, web = seen.spans
    assert (sent.name, sent.kind, sent.status.status_code) == ("send audit-events", SpanKind.PRODUCER, StatusCode.UNSET)
    assert sent.parent == web.context == after
    assert inside == sent.context
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
    measured = seen.metric("messaging.client.sent.messages")
    assert measured.value == 1
    assert measured.series == (
        {
            "messaging_system": "servicebus",
            "messaging_operation_name": "send",
            "messaging_destination_name": "audit-events",
        },
    )


@pytest.mark.parametrize("error", [OSError("broker is away"), asyncio.CancelledError(), KeyboardInterrupt()])
def test_a_publishing_that_fails_ends_its_span_and_leaks_nothing(error: BaseException) -> None:
    """Two popular integrations leave it open and current for the rest of the thread."""
    with capture() as seen:
        with pytest.raises(type(error)), obs.producer("audit-events", system="servicebus"):
            raise error
        assert not trace.get_current_span().get_span_context().is_valid
    [span] = seen.spans
    ours = isinstance(error, Exception)
    assert span.status.status_code is (StatusCode.ERROR if ours else StatusCode.UNSET)
    name = "OSError" if ours else "cancelled"
    assert (span.attributes or {})["error.type"] == name
    assert seen.metric("messaging.client.sent.messages", error_type=name).value == 1


def test_what_one_side_has_bound_the_other_side_has() -> None:
    @obs.consumer("audit-events", system="servicebus", headers=lambda headers: headers)
    def ingest(message: dict[str, str]) -> None:
        pass

    with capture() as seen:
        with obs.operation("web"):
            obs.bind(tenant_id="acme", execution_id="e-1", correlation_id="corr-1", secret="x")
            with obs.producer("audit-events", system="servicebus") as headers:
                pass
        ingest(headers)
    assert headers["tenant-id"] == "acme"
    assert "secret" not in str(headers)
    received = seen.span("process audit-events")
    sent = seen.span("send audit-events")
    assert received.parent is not None
    assert received.parent.span_id == sent.context.span_id
    attributes = received.attributes or {}
    assert attributes["connectsoft.tenant.id"] == "acme"
    assert attributes["connectsoft.execution.id"] == "e-1"
    assert attributes["connectsoft.correlation.id"] == "corr-1"
    assert "secret" not in attributes
    assert seen.metric("connectsoft.message.wait.duration").count == 1


def test_publishing_from_a_run_names_the_run_in_the_chain() -> None:
    @obs.consumer("first", system="rabbitmq", headers=lambda headers: headers)
    def relay(message: dict[str, str]) -> dict[str, str]:
        with obs.producer("second", system="rabbitmq") as headers:
            return headers

    with capture() as seen:
        with obs.producer("first", system="rabbitmq") as headers:
            pass
        second = relay(headers)
    traces = {span.context.trace_id for span in seen.spans}
    assert len(traces) == 1
    assert second["X-Correlation-Id"] == headers["X-Correlation-Id"]


def test_several_messages_count_each() -> None:
    with capture() as seen, obs.producer("audit-events", system="servicebus", count=5):
        pass
    assert (seen.span().attributes or {})["messaging.batch.message_count"] == 5
    assert seen.metric("messaging.client.sent.messages").value == 5


def test_without_sampling_the_headers_say_so() -> None:
    with capture(traces_sampler="always_off") as seen, obs.producer("q", system="rabbitmq") as headers:
        pass
    assert headers["traceparent"].endswith(("-00", "-02"))
    assert seen.spans == []
    assert seen.metric("messaging.client.sent.messages").value == 1


def test_in_async_code_too() -> None:
    async def publish(number: int) -> dict[str, str]:
        with obs.producer("q", system="rabbitmq") as headers:
            await asyncio.sleep(0)
            return headers

    async def main() -> list[dict[str, str]]:
        return await asyncio.gather(*(publish(number) for number in range(5)))

    with capture() as seen:
        headers = asyncio.run(main())
    assert {one["traceparent"].split("-")[2] for one in headers} == {
        f"{span.context.span_id:016x}" for span in seen.spans
    }


def test_disabled_sends_no_span_but_still_what_runs_here(monkeypatch: pytest.MonkeyPatch) -> None:
    with capture(disabled=True) as seen, obs.producer("q", system="rabbitmq") as headers:
        pass
    assert seen.spans == []
    assert "traceparent" not in headers
    assert "connectsoft-sent-at" in headers


def test_a_propagator_that_fails_does_not_stop_the_message(monkeypatch: pytest.MonkeyPatch) -> None:
    from connectsoft_obs.work import producers

    def broken(_: Any) -> None:
        raise OSError("ours")

    with capture() as seen:
        with monkeypatch.context() as patch:
            patch.setattr(producers, "inject", broken)
            with obs.producer("q", system="rabbitmq") as headers:
                pass
        assert headers == {}
        assert not trace.get_current_span().get_span_context().is_valid
    assert seen.metric("connectsoft.obs.errors", connectsoft_obs_where="work.producer").value == 1
    assert seen.metric("messaging.client.sent.messages").value == 1


def test_names_that_are_no_labels_are_refused() -> None:
    with pytest.raises(obs.ConfigurationError):
        obs.producer("", system="rabbitmq")
