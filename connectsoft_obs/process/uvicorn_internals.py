"""Private names of uvicorn that have no public equivalent.

`tests/health/test_private_names.py` checks each of them on the installed uvicorn version.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Awaitable, Callable

from connectsoft_obs.process.cpython_internals import process_keyword_arguments


def is_websocket_access_record(logger: str, message: object) -> bool:
    """Whether a log record is uvicorn's of a WebSocket handshake, with path and query.

    uvicorn does not use its access logger for it. `message` is the format, without arguments.
    """
    return logger == "uvicorn.error" and isinstance(message, str) and '"WebSocket %s"' in message


def is_reload_worker() -> bool:
    """Whether this process was started by `uvicorn.run(..., reload=True)`, which changes neither argv nor environment."""
    return bool(getattr(process_keyword_arguments().get("config"), "should_reload", False))


def call_after_serving(callback: Callable[[], Awaitable[None]]) -> bool:
    """Await a callback when the server of this process has stopped serving, on its event loop; it must not raise.

    The server is the owner of the handler of SIGINT. After a SIGTERM uvicorn ends the process by raising the signal
    again, so that exit handlers are not called, and it calls an application only if that supports the lifespan protocol.

    Returns:
        False if no uvicorn server runs on the main thread of this process.
    """
    server_module = sys.modules.get("uvicorn.server")
    server = getattr(signal.getsignal(signal.SIGINT), "__self__", None)
    if server_module is None or not isinstance(server, server_module.Server):
        return False
    lifespan, shutdown = server.lifespan, server.lifespan.shutdown

    async def shutdown_and_call() -> None:
        try:
            await shutdown()
        finally:
            await callback()

    lifespan.shutdown = shutdown_and_call
    return True
