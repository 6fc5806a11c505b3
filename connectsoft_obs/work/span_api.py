"""Plain spans: a block or function inside a request, message or job, without metrics and without a log line."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Token
from time import time_ns
from types import TracebackType
from typing import Any, TypeVar, overload

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, SpanKind, StatusCode

from connectsoft_obs.context import SPAN_KEY, otel_context
from connectsoft_obs.internal_telemetry import record_internal_error
from connectsoft_obs.operations import exception_outcome
from connectsoft_obs.redaction import safe_str
from connectsoft_obs.signals.tracing import ExternalSpan, NonRecordingSpan, Span, api_span
from connectsoft_obs.telemetry import Telemetry
from connectsoft_obs.vocabulary import DIMENSIONS, ERROR_TYPE
from connectsoft_obs.work.options import resolve_name
from connectsoft_obs.work.registry import resolve_or_none
from connectsoft_obs.work.wrappers import wrap

F = TypeVar("F", bound=Callable[..., Any])


def span(name: str, /, **attributes: Any) -> SpanBlock:
    """Record a block of code as a span, without metrics and without a log line: `with obs.span("price", total=99.5): ...`.

    The span is INTERNAL and a child of the current span; it is the current span inside the block, for sync and async
    code. `with ... as current:` gives the OpenTelemetry span. An exception that leaves the block sets the status to Error
    and `error.type`, and propagates. As a decorator (`@obs.span("price")`), each call of the function is a span. For units
    of work that need a duration metric, an outcome and a log line, use `operation`. Never raises.

    Args:
        name: static name of the span.
        attributes: attributes of the span; `tenant_id` and the other names that `bind` knows are written under their
            `connectsoft.*.id` names, other keys unchanged. Secrets are redacted.
    """
    return SpanBlock(name, attributes)


@overload
def traced(function: F, /) -> F: ...


@overload
def traced(name: str | None = None, /, **attributes: Any) -> Callable[[F], F]: ...


def traced(name: Any = None, /, **attributes: Any) -> Any:
    """Record each call of a function as a span, like `span`: `@obs.traced`, `@obs.traced("price", currency="EUR")`.

    For def, async def, generators, async generators, methods, classmethods, staticmethods and partials. Signature, kind,
    return values and exceptions of the function stay the same. The span of a generator lasts until its end, and is
    current only while the generator runs.

    Args:
        name: static name of the span; the name of the function by default.
        attributes: attributes of each span.

    Raises:
        ConfigurationError: the decorated object is not a function, or the name is not valid.
    """
    if name is None or isinstance(name, str):
        return lambda function: _decorate(function, name, attributes)
    return _decorate(name, None, attributes)


def _decorate(function: Any, name: str | None, attributes: dict[str, Any]) -> Any:
    if isinstance(function, classmethod | staticmethod):
        return type(function)(_decorate(function.__func__, name, attributes))
    span_name = resolve_name("traced", name, function)
    return wrap(function, lambda _args, _kwargs: SpanBlock(span_name, attributes), None)


class SpanBlock:
    """Context manager and decorator of one plain span. As a context manager, an instance is used once."""

    __slots__ = ("_attributes", "_context", "_name", "_started", "_telemetry", "_token")

    def __init__(self, name: str, attributes: dict[str, Any]) -> None:
        self._name = name
        self._attributes = attributes
        self._telemetry: Telemetry | None = None
        self._started: Span | NonRecordingSpan | ExternalSpan | None = None
        self._context: Context | None = None
        self._token: Token[Context] | None = None

    def __call__(self, function: F) -> F:
        """Decorate a function: each call is a span.

        Raises:
            ConfigurationError: the decorated object is not a function, or the name is not valid.
        """
        decorated: F = _decorate(function, self._name, self._attributes)
        return decorated

    def __enter__(self) -> trace.Span:
        """Start the span and make it current. Returns the OpenTelemetry span; one that records nothing if disabled."""
        if not self.begin() or self._context is None or self._started is None:
            return INVALID_SPAN
        self._token = otel_context.attach(self._context)
        return api_span(self._started)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        """End the span; an exception propagates."""
        token, self._token = self._token, None
        if token is not None:
            otel_context.detach(token, self._context)
        self.end(error)

    def begin(self) -> bool:
        """Start the span without making it current; False if telemetry is disabled."""
        try:
            telemetry = resolve_or_none()
            if telemetry is None:
                return False
            self._start(telemetry)
        except Exception as failure:  # noqa: BLE001  must not affect the block
            record_internal_error("work.span", failure)
            return False
        return True

    def resume(self) -> Token[Context] | None:
        """Make the span current for one step of a generator; pass the token to `pause`."""
        return None if self._context is None else otel_context.attach(self._context)

    def pause(self, token: Token[Context] | None) -> None:
        """End a step and keep its context for the next step."""
        if token is not None:
            self._context = otel_context.get_current()
            otel_context.detach(token)

    def end(self, error: BaseException | None) -> None:
        """End the span. Idempotent."""
        started, self._started, self._context = self._started, None, None
        if started is None or type(started) is NonRecordingSpan or self._telemetry is None:
            return
        try:
            ended = api_span(started)
            if error is not None and not isinstance(
                error, GeneratorExit
            ):  # the caller of a generator stopped iterating
                ended.set_attribute(ERROR_TYPE, exception_outcome(error)[1])
                if isinstance(error, Exception):
                    message = self._telemetry.logs.redaction.redact_text(safe_str(error, str))
                    ended.set_status(StatusCode.ERROR, message or None)
            ended.end()
        except Exception as failure:  # noqa: BLE001  must not affect the block
            record_internal_error("work.span", failure)

    def warn(self, message: str) -> None:
        """Log a warning about this span once."""
        if self._telemetry is not None:
            self._telemetry.internal_telemetry.warn_once(("span", self._name), message, {"operation": self._name})

    @property
    def deadline_ns(self) -> int | None:
        """A span has no deadline."""
        return None

    def _start(self, telemetry: Telemetry) -> None:
        context = otel_context.get_current()
        parent = trace.get_current_span(context).get_span_context() if SPAN_KEY in context else None
        if parent is not None and not parent.is_valid:
            parent = None
        tracer = telemetry.tracing.tracer
        needs_attributes = self._attributes and tracer.provider.needs_start_attributes
        attributes = self._sanitized_attributes(telemetry) if needs_attributes else None
        started = tracer.start_fast(
            self._name,
            SpanKind.INTERNAL,
            parent,
            time_ns(),
            None if attributes is None else lambda: attributes,
            context,
        )
        if type(started) is Span and self._attributes:
            started.own_attributes = self._sanitized_attributes(telemetry) if attributes is None else attributes
        self._telemetry, self._started = telemetry, started
        self._context = Context({**context, SPAN_KEY: api_span(started)})

    def _sanitized_attributes(self, telemetry: Telemetry) -> dict[str, Any]:
        return telemetry.logs.sanitize({DIMENSIONS.get(key, key): value for key, value in self._attributes.items()})
