"""Generative AI calls: one span and two metrics with the names of the gen_ai semantic conventions."""

from __future__ import annotations

import asyncio

import pytest
from opentelemetry.trace import SpanKind, StatusCode

import connectsoft_obs as obs
from connectsoft_obs.testing import assert_conventions, capture
from connectsoft_obs.vocabulary import MODEL_DURATION, MODEL_TOKENS

DURATION, TOKENS = "gen_ai.client.operation.duration", "gen_ai.client.token.usage"


def test_call_records_a_span_a_duration_and_token_usage() -> None:
    with capture() as captured:
        with obs.operation("generate"):
            obs.bind(agent_id="developer")
            with obs.genai_call("gpt-5", provider="azure.ai.openai") as call:
                call.set_usage(input_tokens=1200, output_tokens=345)
                call.set_response(model="gpt-5-2026-08-07", identifier="r-1", finish_reasons=["stop"])
    span = captured.span("chat gpt-5")
    assert (span.kind, span.status.status_code) == (SpanKind.CLIENT, StatusCode.UNSET)
    assert span.parent is not None
    assert span.parent.span_id == captured.span("run generate").context.span_id
    assert dict(span.attributes or {}) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "azure.ai.openai",
        "gen_ai.request.model": "gpt-5",
        "gen_ai.response.model": "gpt-5-2026-08-07",
        "gen_ai.response.id": "r-1",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 1200,
        "gen_ai.usage.output_tokens": 345,
        "connectsoft.agent.id": "developer",
    }
    assert captured.metric(DURATION, gen_ai_request_model="gpt-5").count == 1
    assert captured.metric(TOKENS, gen_ai_token_type="input").sum == 1200
    assert captured.metric(TOKENS, gen_ai_token_type="output").sum == 345
    assert_conventions(captured)


def test_call_span_is_the_parent_only_inside_the_block() -> None:
    with capture() as captured:
        with obs.operation("generate"):
            with obs.genai_call("gpt-5", provider="openai"), obs.operation("connect"):
                pass
            with obs.operation("store"):
                pass
    parents = {span.name: span.parent.span_id for span in captured.spans if span.parent is not None}
    assert parents["run connect"] == captured.span("chat gpt-5").context.span_id
    assert parents["run store"] == captured.span("run generate").context.span_id


@pytest.mark.parametrize(
    ("error", "error_type", "status"),
    [
        (ConnectionError("secret prompt"), "ConnectionError", StatusCode.ERROR),
        (TimeoutError(), "TimeoutError", StatusCode.ERROR),
        (asyncio.CancelledError(), "cancelled", StatusCode.UNSET),
    ],
)
def test_exception_is_reraised_and_recorded_without_its_message(
    error: BaseException, error_type: str, status: StatusCode
) -> None:
    with capture() as captured:
        with pytest.raises(type(error)) as exc_info, obs.genai_call("gpt-5", provider="openai"):
            raise error
        assert exc_info.value is error
    span = captured.span("chat gpt-5")
    assert (span.attributes or {})["error.type"] == error_type
    assert span.status.status_code is status
    assert not span.events
    assert "secret" not in str(span.to_json())
    assert captured.metric(DURATION, error_type=error_type).count == 1


def test_token_usage_ignores_none_and_uses_the_last_value() -> None:
    with capture() as captured, obs.genai_call("gpt-5", provider="openai") as call:
        call.set_usage(input_tokens=None)
        call.set_usage(output_tokens=1)
        call.set_usage(output_tokens=7)
    assert captured.metric(TOKENS).sum == 7
    assert "gen_ai.usage.input_tokens" not in (captured.span("chat gpt-5").attributes or {})


def test_disabled_telemetry_records_no_call() -> None:
    with capture(disabled=True) as captured, obs.genai_call("gpt-5", provider="openai") as call:
        call.set_usage(input_tokens=1)
        call.set_response(model="x")
    assert captured.spans == []


def test_invalid_model_name_raises_configuration_error() -> None:
    with pytest.raises(obs.ConfigurationError):
        obs.genai_call("", provider="openai")


def test_bucket_boundaries_match_the_convention() -> None:
    assert MODEL_DURATION.buckets[:3] == (0.01, 0.02, 0.04)
    assert MODEL_DURATION.buckets[-1] == 81.92
    assert MODEL_TOKENS.buckets[0] == 1
    assert MODEL_TOKENS.buckets[-1] == 67108864
    assert len(MODEL_DURATION.buckets) == len(MODEL_TOKENS.buckets) == 14
