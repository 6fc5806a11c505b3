"""Work of our own that is nobody's telemetry: exports, and what health checks ask of databases and services."""

from __future__ import annotations

from opentelemetry import context
from opentelemetry.context import Context, set_value


def suppressed_context() -> Context:
    """A context in which client instrumentations do nothing."""
    marked = Context()
    for name in ("_SUPPRESS_INSTRUMENTATION_KEY", "_SUPPRESS_HTTP_INSTRUMENTATION_KEY"):
        if (key := getattr(context, name, None)) is not None:
            marked = set_value(key, True, marked)
    return marked
