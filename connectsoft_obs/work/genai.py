"""Observes calls of generative models: a span and the two metrics of the OpenTelemetry `gen_ai` convention.

The convention is in development (as of 1.41, since then in a separate repository): names can change in a minor version of
this package. Prompts and responses are never recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import Token
from time import perf_counter_ns
from types import TracebackType
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode

from connectsoft_obs.context import current_operation, otel_context
from connectsoft_obs.operations import exception_outcome
from connectsoft_obs.telemetry import Telemetry
from connectsoft_obs.vocabulary import (
    ERROR_TYPE,
    GEN_AI_FINISH_REASONS,
    GEN_AI_INPUT_TOKENS,
    GEN_AI_OPERATION,
    GEN_AI_OUTPUT_TOKENS,
    GEN_AI_PROVIDER,
    GEN_AI_REQUEST_MODEL,
    GEN_AI_RESPONSE_ID,
    GEN_AI_RESPONSE_MODEL,
    MODEL_DURATION,
    MODEL_TOKENS,
)
from connectsoft_obs.work.options import validate_name
from connectsoft_obs.work.registry import resolve_or_none

INPUT, OUTPUT = "input", "output"


def genai_call(model: str, *, provider: str, operation: str = "chat", telemetry: Telemetry | None = None) -> GenAiCall:
    """Observe a call of a generative model: `with obs.genai_call("gpt-5", provider="azure.ai.openai") as call: ...`.

    A span `chat {model}` of kind CLIENT, `gen_ai.client.operation.duration` in seconds, and
    `gen_ai.client.token.usage` from `call.set_usage()`. Prompts and responses are not recorded. Bound attributes
    (`obs.bind(agent_id=...)`) are on the span. For a streamed response, keep the block open until the last chunk. For sync
    and async code; exceptions propagate. The convention is in development: names can change.

    Args:
        model: name of the requested model; static, a metric label.
        provider: `openai`, `azure.ai.openai`, `anthropic`, ... as in `gen_ai.provider.name`.
        operation: `chat`, `embeddings`, `text_completion`, ... as in `gen_ai.operation.name`.
        telemetry: a Telemetry other than that of the process.

    Raises:
        ConfigurationError: a name is not valid as a metric label.
    """
    where = "genai_call"
    return GenAiCall(
        telemetry or resolve_or_none(),
        validate_name(where, model),
        validate_name(where, provider),
        validate_name(where, operation),
    )


class GenAiCall:
    """Context manager around one call. An instance is used once."""

    __slots__ = ("_context", "_labels", "_span", "_start_ns", "_telemetry", "_token", "_usage")

    def __init__(self, telemetry: Telemetry | None, model: str, provider: str, operation: str) -> None:
        self._telemetry = telemetry
        self._labels = (operation, provider, model)
        self._usage: dict[str, int] = {}
        self._span: Span | None = None
        self._context: Context | None = None
        self._token: Token[Context] | None = None
        self._start_ns = 0

    def __enter__(self) -> GenAiCall:
        """Start the span and make it current."""
        try:
            if self._telemetry is not None:
                self._start_span(self._telemetry)
        except Exception as failure:  # noqa: BLE001  must not affect the call
            self._record_error(failure)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        """End the span; an exception propagates."""
        token, self._token = self._token, None
        if token is not None:
            otel_context.detach(token, self._context)
        span, self._span = self._span, None
        if span is None or self._telemetry is None:
            return
        try:
            self._finish_span(self._telemetry, span, error)
        except Exception as failure:  # noqa: BLE001  must not affect the call
            self._record_error(failure)

    def set_usage(self, *, input_tokens: int | None = None, output_tokens: int | None = None) -> None:
        """Set the token counts of the provider, together or one after the other; a later call overrides."""
        for kind, number in ((INPUT, input_tokens), (OUTPUT, output_tokens)):
            if isinstance(number, int) and number >= 0:
                self._usage[kind] = number

    def set_response(
        self, *, model: str | None = None, identifier: str | None = None, finish_reasons: Sequence[str] = ()
    ) -> None:
        """Set the model, id and finish reasons of the response, for the span."""
        if self._span is None:
            return
        attributes = {
            GEN_AI_RESPONSE_MODEL: model,
            GEN_AI_RESPONSE_ID: identifier,
            GEN_AI_FINISH_REASONS: tuple(finish_reasons) or None,
        }
        self._span.set_attributes({name: value for name, value in attributes.items() if value is not None})

    def _start_span(self, telemetry: Telemetry) -> None:
        operation, provider, model = self._labels
        attributes: dict[str, Any] = {
            GEN_AI_OPERATION: operation,
            GEN_AI_PROVIDER: provider,
            GEN_AI_REQUEST_MODEL: model,
        }
        running = current_operation()
        if running is not None and running.bound_attributes:
            attributes = {**running.bound_attributes, **attributes}
        span = telemetry.tracing.tracer.start_span(f"{operation} {model}", kind=SpanKind.CLIENT, attributes=attributes)
        self._start_ns = perf_counter_ns()
        self._span = span
        self._context = trace.set_span_in_context(span)
        self._token = otel_context.attach(self._context)

    def _finish_span(self, telemetry: Telemetry, span: Span, error: BaseException | None) -> None:
        seconds = (perf_counter_ns() - self._start_ns) / 1e9
        name = "" if error is None else exception_outcome(error)[1]
        if name:
            span.set_attribute(ERROR_TYPE, name)
        if isinstance(error, Exception):
            span.set_status(StatusCode.ERROR)
        for kind, attribute in ((INPUT, GEN_AI_INPUT_TOKENS), (OUTPUT, GEN_AI_OUTPUT_TOKENS)):
            if (number := self._usage.get(kind)) is not None:
                span.set_attribute(attribute, number)
                telemetry.metrics.family(MODEL_TOKENS).histogram_series(*self._labels, kind).observe(number)
        telemetry.metrics.family(MODEL_DURATION).histogram_series(*self._labels, name).observe(seconds)
        span.end()

    def _record_error(self, failure: Exception) -> None:
        if self._telemetry is not None:
            self._telemetry.internal_telemetry.record_error("work.genai", failure)
