"""Which attempt came before this one, so that each links to the one before it.

Attempts of a loop run one after the other in the same task or thread, or in tasks made from it; what is remembered of
them belongs to that task or thread. Attempts of a queue's task are told apart by its id, within this process.
"""

from __future__ import annotations

from collections import OrderedDict
from contextvars import ContextVar

from opentelemetry.trace import SpanContext

KEPT = 1000
"""Tasks whose last attempt is remembered; of more than that, the oldest are forgotten."""

_last: ContextVar[tuple[str, SpanContext] | None] = ContextVar("connectsoft-obs-last-attempt", default=None)
_of_tasks: OrderedDict[str, SpanContext] = OrderedDict()


def store_attempt(title: str, span: SpanContext) -> None:
    """An attempt has ended, and another one follows."""
    _last.set((title, span))


def previous_attempt(title: str) -> SpanContext | None:
    """The attempt before, of work with this title; forgotten once asked for."""
    last = _last.get()
    if last is None or last[0] != title:
        return None
    _last.set(None)
    return last[1]


def remember_task(identifier: str, span: SpanContext) -> None:
    """An attempt of a task has ended, and another one follows."""
    _of_tasks[identifier] = span
    _of_tasks.move_to_end(identifier)
    while len(_of_tasks) > KEPT:
        _of_tasks.popitem(last=False)


def before_task(identifier: str) -> SpanContext | None:
    """The attempt before, of this task."""
    return _of_tasks.get(identifier)
