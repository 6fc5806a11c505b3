"""Everything that this package uses of OpenTelemetry beyond its public API.

tests/tracing/test_otel_private.py checks each name against the installed version. OpenTelemetry's API of logs is here too:
its packages are named `_logs` until it is stable.
"""

from __future__ import annotations

from contextvars import ContextVar
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import context as otel_context
from opentelemetry.context.contextvars_context import ContextVarsRuntimeContext
from opentelemetry.util._decorator import _agnosticcontextmanager

if TYPE_CHECKING:
    from opentelemetry._logs import LogRecord as LogRecord
    from opentelemetry._logs import SeverityNumber as SeverityNumber
    from opentelemetry.metrics import _Gauge
    from opentelemetry.sdk._logs import ReadableLogRecord as ReadableLogRecord

    Gauge = _Gauge

_runtime_context: Final[Any] = getattr(otel_context, "_RUNTIME_CONTEXT", None)
_variable: Final[Any] = getattr(_runtime_context, "_current_context", None)

CURRENT_CONTEXT: Final[Any] = (
    _variable if type(_runtime_context) is ContextVarsRuntimeContext and isinstance(_variable, ContextVar) else None
)
"""The context variable that holds OpenTelemetry's current context. It is used directly, because `get_current()`, `attach()`
and `detach()` of the API are two calls each. None if OpenTelemetry stores the context elsewhere (OTEL_PYTHON_CONTEXT, or
another version); then `otel_context` uses the functions of the API."""

SUPPRESS_INSTRUMENTATION_KEY: Final[str | None] = getattr(otel_context, "_SUPPRESS_INSTRUMENTATION_KEY", None)
"""Context key that disables client instrumentation, for exports and health checks. The API has no function that returns a
context with it. None if this version has no such key; then exports and health checks are traced by instrumented clients."""

SUPPRESS_HTTP_INSTRUMENTATION_KEY: Final[str | None] = getattr(otel_context, "_SUPPRESS_HTTP_INSTRUMENTATION_KEY", None)
"""The same for instrumentation of HTTP clients."""

agnosticcontextmanager: Final = _agnosticcontextmanager
"""`contextlib.contextmanager` whose result decorates coroutine functions too, as `start_as_current_span` of the API does.
There is no fallback: the import fails if it is missing."""

PROVIDER_LOGGERS: Final = {"traces": "opentelemetry.trace", "metrics": "opentelemetry.metrics._internal"}
"""Loggers that report a refused second provider, by signal. With other names, OpenTelemetry's own line stays."""

REFUSED_PROVIDER_TEXT: Final = "Overriding of current "
"""Beginning of the log message about a refused provider. With another text, OpenTelemetry's own line stays."""

INCUBATING_ATTRIBUTES: Final = "opentelemetry.semconv._incubating.attributes"
"""Package with the attributes that are not stable yet. The test kit skips it if it cannot be imported."""

_LAZY: Final = {
    # The API exports the synchronous gauge under a private name only. No fallback: OpenTelemetry's meters need it.
    "Gauge": ("opentelemetry.metrics", "_Gauge"),
    # Exporters of the SDK take log records of these classes. No fallback: such an exporter cannot be used without them.
    "LogRecord": ("opentelemetry._logs", "LogRecord"),
    "SeverityNumber": ("opentelemetry._logs", "SeverityNumber"),
    "ReadableLogRecord": ("opentelemetry.sdk._logs", "ReadableLogRecord"),
}
"""Names that are imported at first use, as their modules take milliseconds to import."""


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _LAZY[name]
    value = globals()[name] = getattr(import_module(module), attribute)
    return value


def proxy_instrument_methods() -> list[tuple[type[Any], str]]:
    """Classes of the instruments that OpenTelemetry creates before a meter provider is set, and their recording methods.

    With other classes the list is empty, and measurements before the provider is set are lost, as OpenTelemetry specifies.
    """
    instruments = import_module("opentelemetry.metrics._internal.instrument")
    names = {"_ProxyCounter": "add", "_ProxyUpDownCounter": "add", "_ProxyHistogram": "record", "_ProxyGauge": "set"}
    classes = [(getattr(instruments, name), method) for name, method in names.items() if hasattr(instruments, name)]
    return [(proxy, method) for proxy, method in classes if hasattr(proxy, method) and lacks_provider(proxy("name"))]


def lacks_provider(proxy_instrument: Any) -> bool:
    """Whether an instrument of `proxy_instrument_methods()` has no meter provider yet."""
    return getattr(proxy_instrument, "_real_instrument", proxy_instrument) is None


def dependency_conflict(instrumentor: object) -> str:
    """Return the dependency conflict of an instrumentation, which `instrument()` only logs, or "" if there is none.

    Without the method, the conflict is only in OpenTelemetry's log.
    """
    check = getattr(instrumentor, "_check_dependency_conflicts", None)
    conflict = check() if callable(check) else None
    return str(conflict) if conflict else ""
