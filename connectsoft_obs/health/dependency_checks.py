"""Built-in checks of dependencies, through the connection pools and clients of the application.

    obs.readiness_check("orders-db")(dependency_checks.sqlalchemy(engine))

Each function takes a pool or client, or a function without parameters that returns one that is created later. A run
borrows a connection from the pool and never opens one of its own; if the pool has no free connection within the timeout
of the check, the check fails. Sync and async clients are supported. No client library is imported.
"""

from __future__ import annotations

import http.client
import weakref
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.health.checks import CheckFunction

_MAX_RESPONSE_BYTES = 65536


class UnhealthyError(Exception):
    """Raised by a built-in check that fails."""


def sqlalchemy(engine: Any) -> CheckFunction:
    """Check a SQLAlchemy `Engine` or `AsyncEngine`: one SELECT 1 on a pooled connection."""

    async def check_async(async_engine: Any) -> None:
        async with async_engine.connect() as connection:
            await connection.exec_driver_sql("SELECT 1")

    def check() -> Any:
        current_engine = _resolve(engine, "connect")
        if hasattr(current_engine, "sync_engine"):
            return check_async(current_engine)
        with current_engine.connect() as connection:
            connection.exec_driver_sql("SELECT 1")
        return None

    return check


def asyncpg(pool: Any) -> CheckFunction:
    """Check an asyncpg `Pool` (or `Connection`): one SELECT 1."""

    async def check() -> None:
        await _resolve(pool, "fetchval").fetchval("SELECT 1")

    return check


def psycopg(pool: Any) -> CheckFunction:
    """Check a psycopg_pool `ConnectionPool` or `AsyncConnectionPool`: one SELECT 1."""

    async def check_async(async_connection: Any) -> None:
        async with async_connection as connection:
            await connection.execute("SELECT 1")

    def check() -> Any:
        pooled_connection = _resolve(pool, "connection").connection()
        if hasattr(pooled_connection, "__aenter__"):
            return check_async(pooled_connection)
        with pooled_connection as connection:
            connection.execute("SELECT 1")
        return None

    return check


def redis(client: Any) -> CheckFunction:
    """Check a redis-py client, sync, asyncio or cluster: one PING."""

    def check() -> Any:
        return _resolve(client, "ping").ping()

    return check


def rabbitmq(connection: Any) -> CheckFunction:
    """Check an aio-pika connection, robust or not: opens and closes a channel, one round trip each."""

    async def check() -> None:
        current_connection = _resolve(connection, "channel")
        # A robust connection has this event; without the test, channel() would wait for the reconnection.
        connected = getattr(current_connection, "connected", None)
        if current_connection.is_closed or (connected is not None and not connected.is_set()):
            raise UnhealthyError("not connected")
        async with current_connection.channel():
            pass

    return check


def service_bus(receiver: Any) -> CheckFunction:
    """Check an Azure Service Bus receiver, sync or async: peeks at one message; none is received or locked.

    Uses the existing link of the receiver; needs the Listen right.
    """

    def check() -> Any:
        return _resolve(receiver, "peek_messages").peek_messages(max_message_count=1)

    return check


def url(address: str, client: Any = None) -> CheckFunction:
    """Check an HTTP address: a GET request must return a status below 400.

    Args:
        address: an `http://` or `https://` URL.
        client: an httpx, requests or aiohttp client. Without one, the check keeps one connection of its own open and
            does not follow redirects.

    Raises:
        ConfigurationError: it is not an HTTP URL.
    """
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(
            f"url({address!r})", "it is not an http:// or https:// URL", "Pass a complete URL with scheme and host."
        )
    if client is None:
        path = parts._replace(scheme="", netloc="").geturl()
        return _persistent_connection_check(parts.scheme, parts.netloc.rpartition("@")[2], path)

    async def check_async(request: Any) -> None:
        if hasattr(request, "__aenter__"):  # aiohttp: a context manager that returns the connection to the pool
            async with request as response:
                await response.read()  # aiohttp closes a connection whose response was not read to the end
                _require_success(response.status)
        else:
            _require_success((await request).status_code)

    def check() -> Any:
        response = _resolve(client, "get").get(address)
        if hasattr(response, "__await__"):
            return check_async(response)
        _require_success(response.status_code)
        return None

    return check


def _persistent_connection_check(scheme: str, netloc: str, path: str) -> CheckFunction:
    connection_type = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
    connection = connection_type(netloc, timeout=30)

    def check() -> None:
        is_reused = connection.sock is not None
        try:
            status = _get(connection, path or "/")
        except (http.client.HTTPException, OSError):
            if not is_reused:
                raise
            status = _get(connection, path or "/")  # the server had closed the idle connection
        _require_success(status)

    weakref.finalize(check, connection.close)
    return check


def _get(connection: http.client.HTTPConnection, path: str) -> int:
    try:
        connection.request("GET", path, headers={"User-Agent": "connectsoft-obs-check"})
        response = connection.getresponse()
        response.read(_MAX_RESPONSE_BYTES)
        if not response.isclosed():
            connection.close()  # the rest of a longer response is not read
    except BaseException:
        connection.close()
        raise
    return response.status


def _require_success(status: int) -> None:
    if status >= 400:
        raise UnhealthyError(f"returned status {status}")


def _resolve(client: Any | Callable[[], Any], method: str) -> Any:
    """The client itself if it has the method, otherwise what the function returns."""
    if not hasattr(client, method) and callable(client):
        client = client()
    if not hasattr(client, method):
        raise UnhealthyError("not created yet" if client is None else f"{type(client).__name__} has no {method}()")
    return client
