"""What runs here and now: the operation and the span of the calling task or thread."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar, Token
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.context import Context, attach, create_key, get_current

from connectsoft_obs.internal_telemetry import record_internal_error
from connectsoft_obs.operations import Operation
from connectsoft_obs.vocabulary import CORRELATION_ID, DIMENSIONS

# The operation travels in the OpenTelemetry context, so whatever carries a span to another thread carries it too.
OPERATION: Final = create_key("connectsoft-operation")
(SPAN,) = trace.set_span_in_context(trace.INVALID_SPAN, Context())

_SENDABLE: Final = re.compile(r"[!-~]{1,256}")

_outside: ContextVar[dict[str, Any] | None] = ContextVar("connectsoft-obs-bound", default=None)


def current_operation() -> Operation | None:
    """The operation of the calling task or thread, if there is one."""
    found = get_current().get(OPERATION)
    return found if isinstance(found, Operation) else None


def push(operation: Operation, span: trace.Span, base: Context | None = None) -> tuple[Token[Context], Context]:
    """Make an operation and its span current, on top of `base` or of what is current; the token is for `detach`."""
    context = context_with(operation, span, get_current() if base is None else base)
    return attach(context), context


def context_with(operation: Operation, span: trace.Span, base: Context) -> Context:
    """A context in which an operation and its span are current, for work that goes on in steps."""
    return Context({**base, OPERATION: operation, SPAN: span})


def ambient_bindings() -> dict[str, Any] | None:
    """What is bound to the calling task or thread while no operation runs, under attribute names."""
    return _outside.get()


@contextmanager
def isolated_bindings() -> Iterator[None]:
    """Inside, nothing is bound to the calling task or thread; what it binds outside of operations ends with the block."""
    token = _outside.set(None)
    try:
        yield
    finally:
        with suppress(ValueError):  # a generator that ends in another context than it began in
            _outside.reset(token)


def bind(**facts: Any) -> None:
    """Put facts about what is running now on its span and on all its log lines from here on; never on a metric.

    `tenant_id`, `execution_id`, `project_id`, `module_id`, `agent_id`, `skill_id`, `artifact_id`, `workflow_id` and
    `correlation_id` are written under their `connectsoft.*.id` names, other keys as they are. Outside an operation the
    facts belong to the calling task or thread. Safe from any thread or task of the operation. Never raises.

    A correlation id is sent on, and back with the response, if a header can carry it: 1 to 256 visible ASCII characters.
    Any other is on span and lines only.
    """
    try:
        _bind(facts)
    except Exception as failure:  # noqa: BLE001  who says what runs must not fail for it
        record_internal_error("context.bind", failure)


def set_sanitizer(clean: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """How secrets are taken out of what is bound, before it is on a span or anywhere else."""
    global _clean
    _clean = clean


def sanitize(facts: dict[str, Any]) -> dict[str, Any]:
    """Facts under their attribute names without secrets."""
    return _clean(facts)


_clean: Callable[[dict[str, Any]], dict[str, Any]] = dict


def _bind(facts: dict[str, Any]) -> None:
    operation = current_operation()
    facts = _clean({DIMENSIONS.get(key, key): value for key, value in facts.items()})
    if operation is None:
        named = facts
        _outside.set({**(_outside.get() or {}), **named})
        return
    if CORRELATION_ID in facts and _SENDABLE.fullmatch(given := str(facts[CORRELATION_ID])):
        operation.correlation_id = given
    operation.bind(facts)
