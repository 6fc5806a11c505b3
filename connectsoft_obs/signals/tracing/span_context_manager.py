"""The context manager and decorator `start_as_current_span` of a tracer, with the same behaviour as in the SDK.

The SDK formats the exception for the status of the span; an exception that cannot be formatted would be replaced by the
error of its formatting. Here it propagates unchanged.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Status, StatusCode

from connectsoft_obs.context.otel_private import agnosticcontextmanager
from connectsoft_obs.redaction import safe_str


@agnosticcontextmanager
def start_as_current_span(  # noqa: PLR0913, PLR0917  OpenTelemetry's own signature
    self: trace.Tracer,
    name: str,
    context: Context | None = None,
    kind: SpanKind = SpanKind.INTERNAL,
    attributes: Any = None,
    links: Any = (),
    start_time: int | None = None,
    record_exception: bool = True,
    set_status_on_exception: bool = True,
    end_on_exit: bool = True,
) -> Iterator[trace.Span]:
    """Start a span and make it current for a block, or for each call of a function."""
    span = self.start_span(
        name, context, kind, attributes, links, start_time, record_exception, set_status_on_exception
    )
    with trace.use_span(span, end_on_exit, record_exception, set_status_on_exception=False):
        try:
            yield span
        except Exception as error:
            if set_status_on_exception:
                with suppress(Exception):  # the exception of the application must propagate
                    span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {safe_str(error, str)}"))
            raise
