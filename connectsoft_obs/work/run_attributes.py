"""Attributes of the span of a run, and its log line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.context import Context

from connectsoft_obs.operations import Operation, already_logged, exception_name
from connectsoft_obs.redaction import safe_str
from connectsoft_obs.vocabulary import (
    CORRELATION_ID,
    EXCEPTION_MESSAGE,
    EXCEPTION_TYPE,
    JOB_ATTEMPT,
    SKIP_REASON,
    duration_attribute,
)

if TYPE_CHECKING:
    from connectsoft_obs.work.inbound import InboundContext
    from connectsoft_obs.work.recorder import BoundOutcome, RunRecorder


def run_fields(inbound: InboundContext, skip_reason: str | None) -> dict[str, Any]:
    """Fields of a run for its log line and its span."""
    fields = {} if inbound.span_attributes is None else dict(inbound.span_attributes)
    if inbound.attempt:
        fields[JOB_ATTEMPT] = inbound.attempt
    if skip_reason is not None:
        fields[SKIP_REASON] = skip_reason
    return fields


def span_attributes(operation: Operation, fields: dict[str, Any]) -> dict[str, Any]:
    """Span attributes of a run: its fields, which are changed, its correlation id and what is bound to it."""
    if operation.correlation_id is not None:
        fields[CORRELATION_ID] = operation.correlation_id
    if operation.bound_attributes:
        fields |= operation.bound_attributes
    return fields


def log_outcome(
    recorder: RunRecorder,
    bound: BoundOutcome,
    context: Context | None,
    fields: dict[str, Any],
    error: BaseException | None,
    seconds: float,
) -> None:
    """Write the log line of a run. An exception is logged once, by the innermost run that it ends."""
    log_exception = bound.is_bad and bound.duration is not None and error is not None and not already_logged(error)
    if bound.level < recorder.min_level and not log_exception:
        return
    fields = {**bound.fields, duration_attribute(recorder.durations.metric.name): seconds, **fields}
    if log_exception:
        fields["otel.event.name"] = recorder.exception_event
    elif bound.is_bad and error is not None:
        fields |= {EXCEPTION_TYPE: exception_name(error), EXCEPTION_MESSAGE: safe_str(error, str)}
    assert context is not None
    recorder.telemetry.logs.emit_with_context(
        context, bound.level, bound.message, fields, recorder.logger, error if log_exception else None
    )
