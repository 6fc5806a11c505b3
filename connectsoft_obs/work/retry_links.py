"""Stores the span context of the previous attempt, so that each attempt links to it.

Attempts of a loop run one after the other in the same task or thread, or in child tasks, and are stored in a context
variable. Attempts of a task of a queue are stored by task id, within this process.
"""

from __future__ import annotations

from collections import OrderedDict
from contextvars import ContextVar

from opentelemetry.trace import SpanContext

MAX_TASKS = 1000
"""Limit of stored tasks; the oldest are removed first."""

_last_attempt: ContextVar[tuple[str, SpanContext] | None] = ContextVar("connectsoft-obs-last-attempt", default=None)
_task_attempts: OrderedDict[str, SpanContext] = OrderedDict()


def store_attempt(span_name: str, span: SpanContext) -> None:
    """Store an attempt that will be retried."""
    _last_attempt.set((span_name, span))


def previous_attempt(span_name: str) -> SpanContext | None:
    """The previous attempt with this span name; removed when it is returned."""
    last = _last_attempt.get()
    if last is None or last[0] != span_name:
        return None
    _last_attempt.set(None)
    return last[1]


def store_task_attempt(identifier: str, span: SpanContext) -> None:
    """Store an attempt of a task that will be retried."""
    _task_attempts[identifier] = span
    _task_attempts.move_to_end(identifier)
    while len(_task_attempts) > MAX_TASKS:
        _task_attempts.popitem(last=False)


def previous_task_attempt(identifier: str) -> SpanContext | None:
    """The previous attempt of a task, or None."""
    return _task_attempts.get(identifier)
