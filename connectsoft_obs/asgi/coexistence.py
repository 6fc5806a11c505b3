"""Others who trace requests: their span is adopted when it is there first, and they are switched off when it is not.

Who is outside decides. FastAPI (from 0.142) observes requests around everything that `add_middleware` can add; it is
switched off for our application, and where its span is already open (the first request of a server without lifespan)
we use that one. Starlette's and OpenTelemetry's middlewares inside our application are told to pass; around it, their
span is the server span.
"""

from __future__ import annotations

import sys
from typing import Any

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind

from connectsoft_obs.asgi.types import Scope
from connectsoft_obs.context import OPERATION, SPAN
from connectsoft_obs.signals.tracing import hexadecimal

FASTAPI = "fastapi.telemetry"
"""FastAPI's key of the scope for its own span."""

STARLETTE = "starlette.middleware.opentelemetry"
"""The module of Starlette's middleware, which observes too."""

_OBSERVED = "starlette.opentelemetry"


class AdoptedSpan:
    """A server span that somebody else opened and will end; we add what we know."""

    __slots__ = ("flags", "hexed", "ids", "span")

    def __init__(self, span: Span) -> None:
        context = span.get_span_context()
        self.span: Span = span
        self.ids: bytes = context.trace_id.to_bytes(16, "big") + context.span_id.to_bytes(8, "big")
        self.flags: int = int(context.trace_flags)
        self.hexed: tuple[str, str, str] = hexadecimal(self.ids, self.flags)


class _ExcludeAllUrls:
    """Stands in for the URL exclusions of OpenTelemetry's middleware and excludes every URL."""

    def url_disabled(self, url: str) -> bool:
        """Whether a URL is not to be traced: none is."""
        return True


def find_active_server_span(scope: Scope, here: Context) -> AdoptedSpan | None:
    """The server span that is open around us, if there is one; `here` is the context that is current."""
    native = scope.get(FASTAPI)
    span = getattr(native, "span", None) if native is not None else None
    if span is None:
        current = here.get(SPAN)
        # An operation of ours around us is another request, which calls this application from inside.
        if current is None or OPERATION in here or getattr(current, "kind", None) is not SpanKind.SERVER:
            return None
        span = current
    return AdoptedSpan(span) if isinstance(span, Span) and span.is_recording() else None


def mark_observed(scope: Scope) -> None:
    """Tell those further in that this request is observed already; only those that are loaded."""
    if "fastapi" in sys.modules:
        scope.setdefault(FASTAPI, None)  # FastAPI's own mark for a request that it shall not observe
    if STARLETTE in sys.modules:
        scope[_OBSERVED] = True


def disable_other_instrumentation(application: Any) -> list[str]:
    """Switch off who observes requests inside an application, as far as it is built; gives back who that was."""
    found = []
    stack = application
    native = getattr(application, "_native_telemetry", None)
    config = getattr(native, "config", None)
    if isinstance(config, dict) and not (config.get("tracer_provider") or config.get("meter_provider")):
        if any(config.get(part) for part in ("tracing", "metrics", "logs")):
            found.append("FastAPI")
        config.update(tracing=False, metrics=False, logs=False)
    seen: set[int] = set()
    while stack is not None and id(stack) not in seen:
        seen.add(id(stack))
        kind = type(stack)
        if kind.__module__ == "opentelemetry.instrumentation.asgi" and kind.__name__ == "OpenTelemetryMiddleware":
            stack.excluded_urls = _ExcludeAllUrls()
            found.append("opentelemetry-instrumentation-asgi")
        stack = getattr(stack, "middleware_stack", None) or getattr(stack, "app", None)
    return found
