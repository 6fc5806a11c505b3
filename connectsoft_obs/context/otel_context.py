"""OpenTelemetry's current context, read and set through the context variable that stores it.

The functions of the API are two calls each, and a request needs five of them (tests/bench/instructions.py). If
OpenTelemetry stores its context elsewhere, the functions here are those of the API.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Token
from typing import Final

from opentelemetry import context as otel_context
from opentelemetry.context import Context

from connectsoft_obs.context.otel_private import CURRENT_CONTEXT

_uses_variable: Final = CURRENT_CONTEXT is not None

get_current: Final[Callable[[], Context]] = CURRENT_CONTEXT.get if _uses_variable else otel_context.get_current
"""Return the current context."""

attach: Final[Callable[[Context], Token[Context]]] = CURRENT_CONTEXT.set if _uses_variable else otel_context.attach
"""Make a context current. The token is for `reset` or `detach`."""

reset: Final[Callable[[Token[Context]], None]] = CURRENT_CONTEXT.reset if _uses_variable else otel_context.detach
"""Restore the previous context. Use `detach` where the calling code may run in another `contextvars.Context`.

Raises:
    ValueError: the token was created in another `contextvars.Context`.
"""


def detach(token: Token[Context]) -> None:
    """Restore the previous context. OpenTelemetry logs an error if the token is from another `contextvars.Context`."""
    otel_context.detach(token)
