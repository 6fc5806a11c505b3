"""Operation and outcome: the state that requests, messages, jobs and other instrumented work have in common.

An adapter creates an operation and sets its outcome; the signals read it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from connectsoft_obs.vocabulary import DIMENSIONS, ErrorType, Outcome


class Operation:
    """One unit of work: a request, a message, a job, or a named block.

    It is shared by the tasks and threads that work for it. `bind` replaces the dictionary in one assignment and is
    therefore safe from any of them. `outcome` and `error_type` are set at the end.

    Args:
        name: name in log lines (`GET /orders/{id}`, `nightly-report`).
        correlation_id: id of the business transaction; None means that the trace id is used.
        bound_attributes: attributes that the enclosing operation has bound.
    """

    __slots__ = ("bound_attributes", "correlation_id", "error_type", "name", "outcome")

    def __init__(
        self, name: str, correlation_id: str | None = None, bound_attributes: dict[str, Any] | None = None
    ) -> None:
        self.name: str = name
        self.correlation_id: str | None = correlation_id
        self.bound_attributes: dict[str, Any] | None = bound_attributes
        self.outcome: Outcome | None = None
        self.error_type: str | None = None

    def bind(self, attributes: dict[str, Any]) -> None:
        """Add attributes to span and log lines: `tenant_id` becomes `connectsoft.tenant.id`, other keys are unchanged."""
        named = {DIMENSIONS.get(key, key): value for key, value in attributes.items()}
        # A new dictionary instead of an update, because another thread may iterate over the old one.
        self.bound_attributes = named if self.bound_attributes is None else {**self.bound_attributes, **named}


def status_outcome(status: int) -> tuple[Outcome, str | None]:
    """Return outcome and `error.type` of a response with a status code."""
    if status < 400:
        return Outcome.SUCCESS, None
    if status < 500:
        return Outcome.REJECTED, None
    return (Outcome.TIMEOUT if status == 504 else Outcome.FAILURE), str(status)


def exception_outcome(error: BaseException) -> tuple[Outcome, str]:
    """Return outcome and `error.type` of work that ended with an exception. Cancellation is aborted, not a failure."""
    if not isinstance(error, Exception):
        return Outcome.ABORTED, ErrorType.CANCELLED.value
    return (Outcome.TIMEOUT if isinstance(error, TimeoutError) else Outcome.FAILURE), exception_name(error)


def exception_name(error: BaseException) -> str:
    """Return the class of an exception as in `error.type`: with its module, except for builtins."""
    error_class = type(error)
    name = error_class.__qualname__
    return name if error_class.__module__ == "builtins" else f"{error_class.__module__}.{name}"


_LOGGED_ATTRIBUTE = "_connectsoft_obs_logged"


def already_logged(error: BaseException) -> bool:
    """Return whether an exception was logged before, by an inner operation, and mark it as logged.

    The mark is an attribute of the exception, so it is kept as long as the exception and not longer.
    """
    if getattr(error, _LOGGED_ATTRIBUTE, False):
        return True
    with suppress(Exception):  # an exception class without a dictionary; it may be logged twice
        error.__dict__[_LOGGED_ATTRIBUTE] = True
    return False
