"""The current operation and span of a task or thread, and the attributes that `bind()` has added to it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.context import Context, create_key, get_current

from connectsoft_obs.internal_telemetry import record_internal_error
from connectsoft_obs.operations import Operation
from connectsoft_obs.vocabulary import CORRELATION_ID, DIMENSIONS

# The operation is stored in the OpenTelemetry context, so it is carried to other threads together with the span.
OPERATION_KEY: Final = create_key("connectsoft-operation")
(SPAN_KEY,) = trace.set_span_in_context(trace.INVALID_SPAN, Context())

_HEADER_VALUE: Final = re.compile(r"[!-~]{1,256}")

_ambient_bindings: ContextVar[dict[str, Any] | None] = ContextVar("connectsoft-obs-bound", default=None)


def current_operation() -> Operation | None:
    """Return the operation of the calling task or thread, or None."""
    operation = get_current().get(OPERATION_KEY)
    return operation if isinstance(operation, Operation) else None


def context_with(operation: Operation, span: trace.Span, base: Context) -> Context:
    """Return a copy of a context in which an operation and its span are current."""
    return Context({**base, OPERATION_KEY: operation, SPAN_KEY: span})


def ambient_bindings() -> dict[str, Any] | None:
    """Return what is bound to the calling task or thread outside of operations, by attribute name."""
    return _ambient_bindings.get()


@contextmanager
def isolated_bindings() -> Iterator[None]:
    """Hide the ambient bindings of the calling task or thread for the block, and drop those that the block adds."""
    token = _ambient_bindings.set(None)
    try:
        yield
    finally:
        with suppress(ValueError):  # a generator that is closed in another `contextvars.Context`
            _ambient_bindings.reset(token)


def bind(**values: Any) -> None:
    """Add attributes to the current operation: to its span and to all its later log lines, never to a metric.

    `tenant_id`, `execution_id`, `project_id`, `module_id`, `agent_id`, `skill_id`, `artifact_id`, `workflow_id` and
    `correlation_id` are written under their `connectsoft.*.id` names, other keys unchanged. Outside of an operation the
    attributes are bound to the calling task or thread. Safe from any thread or task of the operation. Never raises.

    A correlation id is propagated in headers if it is a valid header value: 1 to 256 visible ASCII characters. Any other
    is on span and log lines only.
    """
    try:
        _bind(values)
    except Exception as failure:  # noqa: BLE001  the calling application must not fail
        record_internal_error("context.bind", failure)


def set_sanitizer(sanitizer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Set the function that redacts secrets in attributes before they are bound."""
    global _sanitizer
    _sanitizer = sanitizer


def sanitize(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return attributes with secrets redacted."""
    return _sanitizer(attributes)


_sanitizer: Callable[[dict[str, Any]], dict[str, Any]] = dict


def _bind(values: dict[str, Any]) -> None:
    operation = current_operation()
    attributes = _sanitizer({DIMENSIONS.get(key, key): value for key, value in values.items()})
    if operation is None:
        _ambient_bindings.set({**(_ambient_bindings.get() or {}), **attributes})
        return
    if CORRELATION_ID in attributes and _HEADER_VALUE.fullmatch(correlation_id := str(attributes[CORRELATION_ID])):
        operation.correlation_id = correlation_id
    operation.bind(attributes)
