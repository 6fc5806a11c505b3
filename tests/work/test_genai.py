"""Calls of generative models: one span and two metrics, by the names of the gen_ai convention."""

from __future__ import annotations

import asyncio

import pytest
from opentelemetry.trace import SpanKind, StatusCode

import connectsoft_obs as obs
from connectsoft_obs.testing import assert_conventions, capture
from connectsoft_obs.vocabulary import MODEL_DURATION, MODEL_TOKENS

DURATION, TOKENS = "gen_ai.client.operation.duration", "gen_ai.client.token.usage"


def test_a_call_is_one_span_one_duration_and_its_tokens() -> None:
    with capture() as seen:
        with obs.operation("generate"):
            obs.bind(agent_id="developer")
            with obs.genai_call("gpt-5", provider="azure.ai.openai") as call:
                call.set_usage(input_tokens=1200, output_tokens=345)
                call.set_response(model="gpt-5-2026-08-07", identifier="r-1", finish_reasons=["stop"])
    span = seen.span("chat gpt-5")
    assert (span.kind, span.status.status_code) == (SpanKind.CLIENT, StatusCode.UNSET)
    assert span.parent is not None
    assert span.parent.span_id == seen.span("run generate").context.span_id
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
    assert seen.metric(DURATION, gen_ai_request_model="gpt-5").count == 1
    assert seen.metric(TOKENS, gen_ai_token_type="input").sum == 1200
    assert seen.metric(TOKENS, gen_ai_token_type="output").sum == 345
    assert_conventions(seen)


def test_what_runs_inside_is_below_it_and_what_comes_after_is_not() -> None:
    with capture() as seen:
        with obs.operation("generate"):
            with obs.genai_call("gpt-5", provider="openai"), obs.operation("connect"):
                pass
            with obs.operation("store"):
                pass
    parents = {span.name: span.parent.span_id for span in seen.spans if span.parent is not None}
    assert parents["run connect"] == seen.span("chat gpt-5").context.span_id
    assert parents["run store"] == seen.span("run generate").context.span_id


@pytest.mark.parametrize(
    ("error", "name", "status"),
    [
        (ConnectionError("secret prompt"), "ConnectionError", StatusCode.ERROR),
        (TimeoutError(), "TimeoutError", StatusCode.ERROR),
        (asyncio.CancelledError(), "cancelled", StatusCode.UNSET),
    ],
)
def test_what_the_block_raises_is_raised_and_told_without_its_words(
    error: BaseException, name: str, status: StatusCode
) -> None:
    with capture() as seen:
        with pytest.raises(type(error)) as raised, obs.genai_call("gpt-5", provider="openai"):
            raise error
        assert raised.value is error
    span = seen.span("chat gpt-5")
    assert (span.attributes or {})["error.type"] == name
    assert span.status.status_code is status
    assert not span.events
    assert "secret" not in str(span.to_json())
    assert seen.metric(DURATION, error_type=name).count == 1


def test_numbers_that_are_none_are_not_counted_and_the_last_one_counts() -> None:
    with capture() as seen, obs.genai_call("gpt-5", provider="openai") as call:
        call.set_usage(input_tokens=None)
        call.set_usage(output_tokens=1)
        call.set_usage(output_tokens=7)
    assert seen.metric(TOKENS).sum == 7
    assert "gen_ai.usage.input_tokens" not in (seen.span("chat gpt-5").attributes or {})


def test_disabled_telemetry_leaves_the_call_alone() -> None:
    with capture(disabled=True) as seen, obs.genai_call("gpt-5", provider="openai") as call:
        call.set_usage(input_tokens=1)
        call.set_response(model="x")
    assert seen.spans == []


def test_a_name_that_cannot_be_a_label_is_refused() -> None:
    with pytest.raises(obs.ConfigurationError):
        obs.genai_call("", provider="openai")


def test_buckets_are_those_of_the_convention() -> None:
    assert MODEL_DURATION.buckets[:3] == (0.01, 0.02, 0.04)
    assert MODEL_DURATION.buckets[-1] == 81.92
    assert MODEL_TOKENS.buckets[0] == 1
    assert MODEL_TOKENS.buckets[-1] == 67108864
    assert len(MODEL_DURATION.buckets) == len(MODEL_TOKENS.buckets) == 14
