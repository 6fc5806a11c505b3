"""State of the server's connection object behind `send`, which ASGI does not expose.

uvicorn's `RequestResponseCycle` has an attribute `disconnected` and hypercorn's `HTTPStream` an attribute `closed`. A
server without either is treated as connected; granian reports a disconnect only to an application that awaits `receive`.
"""

from __future__ import annotations


def is_disconnected(connection: object) -> bool:
    """Return whether the server knows that the client has closed the connection. `connection` owns the `send` method."""
    return bool(getattr(connection, "disconnected", False) or getattr(connection, "closed", False))
