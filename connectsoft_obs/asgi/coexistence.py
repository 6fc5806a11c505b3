"""Coexistence with other request instrumentation: reuse its span if it runs first, disable it otherwise.

The outermost instrumentation owns the server span. FastAPI (from 0.142) instruments requests outside of everything that
`add_middleware` can add. It is disabled for the application when this middleware is constructed; if its span is open
anyway, that span is used. The middlewares of Starlette and OpenTelemetry are disabled inside the application;
around the application, their span is the server span.

All names of FastAPI's and OpenTelemetry's instrumentation that are not public are used in this module only
(tests/asgi/test_private_names.py).
"""

from __future__ import annotations

import sys
from typing import Any

from opentelemetry import baggage
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanContext, SpanKind

from connectsoft_obs.asgi.types import Scope
from connectsoft_obs.context import OPERATION_KEY, SPAN_KEY
from connectsoft_obs.operations import exception_name
from connectsoft_obs.signals.tracing import ApiSpan

FASTAPI_SPAN_KEY = "fastapi.telemetry"
"""Key in the ASGI scope where FastAPI stores its own telemetry of the request; None disables it for the request."""

STARLETTE_MODULE = "starlette.middleware.opentelemetry"
"""Module of Starlette's own OpenTelemetry middleware."""

STARLETTE_OBSERVED_KEY = "starlette.opentelemetry"
"""Key in the ASGI scope of a request that Starlette's middleware must not observe again."""

CONTRIB_MODULE = "opentelemetry.instrumentation.asgi"
"""Module of OpenTelemetry's ASGI middleware; its `send` and `receive` are defined there."""

NATIVE_TELEMETRY = "_native_telemetry"
"""Attribute of a FastAPI application with its own telemetry. Without it, FastAPI is not disabled."""

FASTAPI_SIGNALS = {"tracing": "tracer_provider", "metrics": "meter_provider", "logs": "logger_provider"}
"""Keys of FastAPI's configuration: each signal and its provider."""

ERROR_MIDDLEWARE_MODULE = "starlette.middleware.errors"
"""Module of the middleware that sends the 500 for an exception that no handler has handled."""

ROUTER_OWNER = "dependency_overrides_provider"
"""Attribute of a FastAPI router that refers to its application."""


class AdoptedSpan(ApiSpan):
    """A server span that another instrumentation has started and will end; attributes are added to it."""

    __slots__ = ()


class _ExcludeAllUrls:
    """Replaces the URL exclusions of OpenTelemetry's middleware and excludes every URL."""

    def url_disabled(self, url: str) -> bool:
        """Return True: no URL is traced."""
        return True


def find_active_server_span(
    scope: Scope, current_context: Context, parent: SpanContext | None, server_functions: tuple[Any, ...]
) -> AdoptedSpan | None:
    """Return the open server span of an outer instrumentation, or None. Its sampling decision is kept.

    A span that is not sampled is usually a `NonRecordingSpan` of the API, which has no kind. It is adopted if it continues the trace of
    the request, or if a known instrumentation handles the request. Otherwise it can be the span of a process
    that runs the server, or of a test that calls the application.

    Args:
        scope: ASGI scope of the request.
        current_context: the context that is current when the request comes.
        parent: span context in the headers of the request.
        server_functions: the `receive` and `send` that the next outer layer has passed.
    """
    telemetry = scope.get(FASTAPI_SPAN_KEY)
    span = getattr(telemetry, "span", None) if telemetry is not None else None
    if span is None:
        if OPERATION_KEY in current_context:  # the span of another request, which calls this application in-process
            return None
        span = current_context.get(SPAN_KEY)
        kind = getattr(span, "kind", None)
        if kind is not SpanKind.SERVER and (
            kind is not None
            or not isinstance(span, Span)
            or not _is_span_of_request(span, scope, parent, server_functions)
        ):
            return None
    if not isinstance(span, Span):
        return None
    context = span.get_span_context()
    if not context.is_valid or context.is_remote or getattr(span, "end_time", None) is not None:
        return None
    return AdoptedSpan(span)


def _is_span_of_request(
    span: Span, scope: Scope, parent: SpanContext | None, server_functions: tuple[Any, ...]
) -> bool:
    """Whether a span without a kind was started for this request by an outer layer."""
    if STARLETTE_OBSERVED_KEY in scope or any(
        _module_name(function) == CONTRIB_MODULE for function in server_functions
    ):
        return True
    context = span.get_span_context()
    return parent is not None and parent.trace_id == context.trace_id and parent.span_id != context.span_id


def _module_name(function: Any) -> Any:
    """Return the name of the module that defines a function; `functools.wraps` replaces its `__module__`."""
    return getattr(function, "__globals__", {}).get("__name__")


def error_type_of_response(status: int) -> str | None:
    """Return `error.type` of a response that is sent now: the exception that the framework's error middleware handles.

    An outer instrumentation ends its span with the last byte, before the exception is raised to it.
    """
    if status < 500:
        return None
    error = sys.exc_info()[1]
    traceback = None if error is None else error.__traceback__  # its first frame is the one that handles the exception
    frame_globals = {} if traceback is None else traceback.tb_frame.f_globals
    is_unhandled = frame_globals.get("__name__") == ERROR_MIDDLEWARE_MODULE
    return exception_name(error) if error is not None and is_unhandled else str(status)


def with_outer_values(inner: Context, outer: Context) -> Context:
    """Return a context with the values of an outer layer and of the request's headers; the outer layer's take precedence.

    The context of another operation is left out: servers start a pipelined request in the context of the previous one.
    """
    if not outer or OPERATION_KEY in outer:
        return inner
    merged, outer_baggage = Context({**inner, **outer}), baggage.get_all(outer)
    for key, value in baggage.get_all(inner).items():
        if key not in outer_baggage:
            merged = baggage.set_baggage(key, value, merged)
    return merged


def mark_observed(scope: Scope) -> None:
    """Set the scope keys that make FastAPI and Starlette skip this request, for those that are imported."""
    if "fastapi" in sys.modules:
        scope.setdefault(FASTAPI_SPAN_KEY, None)
    if STARLETTE_MODULE in sys.modules:
        scope[STARLETTE_OBSERVED_KEY] = True


def disable_other_instrumentation(application: Any) -> list[str]:
    """Disable other request instrumentation inside an application and return the names of what was disabled.

    A signal of FastAPI's own telemetry stays enabled if the application has configured a provider for it. Middlewares
    are found only if the application has built its middleware stack.
    """
    disabled = ["FastAPI"] if _disable_fastapi_telemetry(application) else []
    app = application
    visited: set[int] = set()
    while app is not None and id(app) not in visited:
        visited.add(id(app))
        app_class = type(app)
        is_otel = app_class.__module__ == CONTRIB_MODULE
        if is_otel and app_class.__name__ == "OpenTelemetryMiddleware":
            app.excluded_urls = _ExcludeAllUrls()
            disabled.append("opentelemetry-instrumentation-asgi")
        app = getattr(app, "middleware_stack", None) or getattr(app, "app", None)
    return disabled


def disable_fastapi_of_stack(inner: Any) -> bool:
    """Disable the telemetry of the FastAPI application whose middleware stack contains `inner`.

    The application is looked up through its router, which is the innermost application of the stack. FastAPI builds the
    stack at the first request at the latest, before it starts the span of that request.

    Returns:
        Whether telemetry was enabled.
    """
    if "fastapi" not in sys.modules:
        return False
    visited: set[int] = set()
    while inner is not None and id(inner) not in visited:
        visited.add(id(inner))
        application = getattr(inner, ROUTER_OWNER, None)
        if application is not None:
            return _disable_fastapi_telemetry(application)
        inner = getattr(inner, "app", None)
    return False


def _disable_fastapi_telemetry(application: Any) -> bool:
    config = getattr(getattr(application, NATIVE_TELEMETRY, None), "config", None)
    if not isinstance(config, dict):
        return False
    disabled = [
        signal for signal, provider in FASTAPI_SIGNALS.items() if config.get(signal) and not config.get(provider)
    ]
    config.update(dict.fromkeys(disabled, False))
    return bool(disabled)
