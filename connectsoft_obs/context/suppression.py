"""Suppresses instrumentation of calls that the library itself makes: exports and health checks."""

from __future__ import annotations

from opentelemetry.context import Context

from connectsoft_obs.context.otel_private import SUPPRESS_HTTP_INSTRUMENTATION_KEY, SUPPRESS_INSTRUMENTATION_KEY


def suppressed_context() -> Context:
    """Return a context in which client instrumentations do nothing."""
    keys = (SUPPRESS_INSTRUMENTATION_KEY, SUPPRESS_HTTP_INSTRUMENTATION_KEY)
    return Context({key: True for key in keys if key is not None})
