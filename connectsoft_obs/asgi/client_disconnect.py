"""Disconnects of the client: what the server's connection object knows, and which exceptions are their consequence.

ASGI does not expose the state of a connection. uvicorn's `RequestResponseCycle` has an attribute `disconnected` and
hypercorn's `HTTPStream` an attribute `closed`. A server without either is treated as connected; granian reports a
disconnect only to an application that awaits `receive`.
"""

from __future__ import annotations


def is_disconnected(connection: object) -> bool:
    """Return whether the server knows that the client has closed the connection. `connection` owns the `send` method."""
    return bool(getattr(connection, "disconnected", False) or getattr(connection, "closed", False))


def is_disconnect_error(error: BaseException, raised_by_server: BaseException | None, disconnected: bool) -> bool:
    """Return whether an exception is nothing but the consequence of the client's disconnect.

    It is the exception that the server's `send` or `receive` raised, one that is raised from it, or what frameworks raise
    after a disconnect message: an exception called `ClientDisconnect` or `WebSocketDisconnect`. An `OSError` of the
    application, for example of its database, is not, even if the client has disconnected.

    Args:
        error: the exception that the application has raised.
        raised_by_server: the `OSError` that `send` or `receive` raised last, if any.
        disconnected: whether the server has reported a disconnect.
    """
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        if current is raised_by_server:
            return True
        seen.add(id(current))
        if isinstance(current, BaseExceptionGroup):
            return all(is_disconnect_error(inner, raised_by_server, disconnected) for inner in current.exceptions)
        reports_disconnect = type(current).__name__ in ("ClientDisconnect", "WebSocketDisconnect")
        if reports_disconnect and disconnected:
            return True
        # An exception that is raised while another is handled is a failure of its own, unless it only translates it.
        current = current.__cause__ or (current.__context__ if reports_disconnect else None)
    return False
