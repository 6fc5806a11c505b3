"""The one noun of the code: an operation is a request, a message, a job, or a named piece of work.

Adapters open one and say how it ended; signals read it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from connectsoft_obs.vocabulary import DIMENSIONS, ErrorType, Outcome


class Operation:
    """What is running: its name, what was bound to it, and in the end how it went.

    One instance belongs to one operation; it is shared by the tasks and threads that work for it. Binding is a single
    dictionary write and therefore safe from any of them.

    Args:
        name: what log lines call it (`GET /orders/{id}`, `nightly-report`).
        correlation_id: id of the business transaction; the trace id where nobody gave one.
        facts: what the enclosing operation had bound.
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

    def bind(self, bound_attributes: dict[str, Any]) -> None:
        """Add facts under their attribute names: `tenant_id` becomes `connectsoft.tenant.id`, other keys stay."""
        named = {DIMENSIONS.get(key, key): value for key, value in bound_attributes.items()}
        # A new dictionary instead of an update: whoever iterates over the old one in another thread keeps a whole one.
        self.bound_attributes = named if self.bound_attributes is None else {**self.bound_attributes, **named}


def status_outcome(status: int) -> tuple[Outcome, str | None]:
    """Outcome and `error.type` of a response by its status code."""
    if status < 400:
        return Outcome.SUCCESS, None
    if status < 500:
        return Outcome.REJECTED, None
    return (Outcome.TIMEOUT if status == 504 else Outcome.FAILURE), str(status)


def exception_outcome(error: BaseException) -> tuple[Outcome, str]:
    """Outcome and `error.type` of work that an exception ended; cancellation is neither success nor our failure."""
    if not isinstance(error, Exception):
        return Outcome.ABORTED, ErrorType.CANCELLED.value
    return (Outcome.TIMEOUT if isinstance(error, TimeoutError) else Outcome.FAILURE), exception_name(error)


def exception_name(error: BaseException) -> str:
    """Class of an exception as telemetry names it: with its module, except for builtins."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


_TOLD = "_connectsoft_obs_told"


def already_logged(error: BaseException) -> bool:
    """Whether this exception was logged before, by an operation further in; from now on it was.

    The mark is an attribute of the exception itself: it travels with it, and holds nothing alive.
    """
    if getattr(error, _TOLD, False):
        return True
    with suppress(Exception):  # an exception of somebody's that refuses attributes is told twice
        error.__dict__[_TOLD] = True
    return False
