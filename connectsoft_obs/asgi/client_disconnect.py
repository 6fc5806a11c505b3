"""Detects that the client has disconnected, and which exceptions are a consequence of the disconnect.

ASGI does not expose the state of a connection. uvicorn's `RequestResponseCycle` has an attribute `disconnected` and
hypercorn's `HTTPStream` an attribute `closed`. A server without either is treated as connected; granian reports a
disconnect only to an application that awaits `receive`.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import CodeType


def is_disconnected(connection: object) -> bool:
    """Return whether the server has detected that the client has closed the connection. `connection` is the owner of `send`."""
    return bool(getattr(connection, "disconnected", False) or getattr(connection, "closed", False))


def is_disconnect_error(error: BaseException, server_functions: Iterable[object], disconnected: bool) -> bool:
    """Return whether an exception is only a consequence of the client's disconnect.

    It is an `OSError` that the server's `send` or `receive` raised (ASGI 2.4), an exception that is raised from it, or what
    frameworks raise after a disconnect message: an exception called `ClientDisconnect` or `WebSocketDisconnect`. An
    `OSError` of the application, for example of its database, is not, even if the client has disconnected.

    Args:
        error: the exception that the application has raised.
        server_functions: the server's `send` and `receive`.
        disconnected: whether the server has reported a disconnect.
    """
    return _is_disconnect_error(error, {_code(function) for function in server_functions} - {None}, disconnected)


def _is_disconnect_error(error: BaseException, server_code: set[CodeType | None], disconnected: bool) -> bool:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        if isinstance(current, OSError) and _has_passed_through(current, server_code):
            return True
        seen.add(id(current))
        if isinstance(current, BaseExceptionGroup):
            return all(_is_disconnect_error(inner, server_code, disconnected) for inner in current.exceptions)
        reports_disconnect = type(current).__name__ in ("ClientDisconnect", "WebSocketDisconnect")
        if reports_disconnect and disconnected:
            return True
        # An exception that is raised while another is handled is an independent failure, unless it is raised `from` that one.
        current = current.__cause__ or (current.__context__ if reports_disconnect else None)
    return False


def _has_passed_through(error: BaseException, code: set[CodeType | None]) -> bool:
    traceback = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code in code:
            return True
        traceback = traceback.tb_next
    return False


def _code(function: object) -> CodeType | None:
    """Return the code of a function, method, `functools.partial` or callable object, or None if it is not in Python."""
    function = getattr(function, "func", function)
    if callable(function) and not hasattr(function, "__code__"):
        function = type(function).__call__
    return getattr(function, "__code__", None)
