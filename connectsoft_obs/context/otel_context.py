"""OpenTelemetry's current context, read and set through the context variable that stores it.

The functions of the API are two calls each, and a request needs five of them (tests/bench/instructions.py). If
OpenTelemetry stores its context elsewhere, the functions here are those of the API.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Token
from typing import Final
from weakref import WeakValueDictionary

from opentelemetry import context as otel_context
from opentelemetry.context import Context

from connectsoft_obs.context.otel_private import CURRENT_CONTEXT

_LEFT: Final = "connectsoft_obs_left"
"""Attribute of a context with the contexts that were restored to it in place."""

_uses_variable: Final = CURRENT_CONTEXT is not None

get_current: Final[Callable[[], Context]] = CURRENT_CONTEXT.get if _uses_variable else otel_context.get_current
"""Return the current context."""

attach: Final[Callable[[Context], Token[Context]]] = CURRENT_CONTEXT.set if _uses_variable else otel_context.attach
"""Make a context current. The token is for `reset` or `detach`."""

reset: Final[Callable[[Token[Context]], None]] = CURRENT_CONTEXT.reset if _uses_variable else otel_context.detach
"""Restore the previous context. Use `restore_in_place` or `detach` where the calling code may run in another `contextvars.Context`.

Raises:
    ValueError: the token was created in another `contextvars.Context`.
"""


def detach(token: Token[Context], attached: Context | None = None) -> None:
    """Restore the previous context; see `restore_in_place` for a token from another `contextvars.Context`. Never raises.

    Args:
        token: what `attach` has returned.
        attached: the context that was attached, if nothing else uses the object.
    """
    try:
        reset(token)
    except ValueError:
        if attached is not None:
            restore_in_place(attached, token)


def restore_in_place(attached: Context, token: Token[Context]) -> None:
    """Restore the previous context by changing `attached` in place, after `reset` has raised.

    An async generator that is not exhausted is closed by another task or by the event loop. A block in it then ends in
    another `contextvars.Context`, where its token is not valid, and `attached` remains the current context of the task that
    entered the block. The context variable of that task cannot be set from here. Therefore the content of `attached` is
    replaced by that of the previous context, and so is the content of contexts that were restored to `attached` before.
    """
    if not _uses_variable:
        return
    previous = token.old_value
    if not isinstance(previous, Context):
        previous = Context()
    left = vars(attached).pop(_LEFT, {})
    left[id(attached)] = attached
    for context in list(left.values()):
        dict.update(context, previous)
        for key in context.keys() - previous.keys():
            dict.pop(context, key)
    vars(previous).setdefault(_LEFT, WeakValueDictionary()).update(left)
