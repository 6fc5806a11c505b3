"""OpenTelemetry's current context by way of the context variable that it is kept in.

Its functions are two calls deep each, and a request needs five of them (tests/bench/instructions.py). Where OpenTelemetry
keeps its context elsewhere, by OTEL_PYTHON_CONTEXT or in a version to come, these are its own functions.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import Any, Final

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.context.contextvars_context import ContextVarsRuntimeContext

_runtime: Final[Any] = getattr(otel_context, "_RUNTIME_CONTEXT", None)
_variable: Final[Any] = getattr(_runtime, "_current_context", None)
_near: Final = type(_runtime) is ContextVarsRuntimeContext and isinstance(_variable, ContextVar)

get_current: Final[Callable[[], Context]] = _variable.get if _near else otel_context.get_current
"""The current context."""

attach: Final[Callable[[Context], Token[Context]]] = _variable.set if _near else otel_context.attach
"""Make a context current; the token is for `detach`."""

reset: Final[Callable[[Token[Context]], None]] = _variable.reset if _near else otel_context.detach
"""Make what was current before current again. `detach` is the same for who may be in another context than it began in.

Raises:
    ValueError: the token is of another context of Python's.
"""


def detach(token: Token[Context]) -> None:
    """Make what was current before current again; OpenTelemetry says in its log where that cannot be."""
    otel_context.detach(token)
