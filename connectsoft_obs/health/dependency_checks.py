"""Ready-made checks of what services depend on, through the pools and clients that the application has already.

    obs.readiness_check("orders-db")(dependencies.sqlalchemy(engine))

Each takes the object, or a function without parameters that gives it when it is made later. None opens a connection
of its own for a run: it borrows one from the pool, and a pool that is empty for longer than the check's timeout fails
the check. Sync and async clients alike; nothing is imported.
"""

from __future__ import annotations

import http.client
import weakref
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.health.checks import Function


class UnhealthyError(Exception):
    """What a ready-made check found."""


def sqlalchemy(engine: Any) -> Function:
    """A SQLAlchemy `Engine` or `AsyncEngine`: one SELECT 1 on a pooled connection."""

    async def ask_async(found: Any) -> None:
        async with found.connect() as connection:
            await connection.exec_driver_sql("SELECT 1")

    def ask() -> Any:
        found = _given(engine, "connect")
        if hasattr(found, "sync_engine"):
            return ask_async(found)
        with found.connect() as connection:
            connection.exec_driver_sql("SELECT 1")
        return None

    return ask


def asyncpg(pool: Any) -> Function:
    """An asyncpg `Pool` (or `Connection`): one SELECT 1."""

    async def ask() -> None:
        await _given(pool, "fetchval").fetchval("SELECT 1")

    return ask


def psycopg(pool: Any) -> Function:
    """A psycopg_pool `ConnectionPool` or `AsyncConnectionPool`: one SELECT 1."""

    async def ask_async(borrowed: Any) -> None:
        async with borrowed as connection:
            await connection.execute("SELECT 1")

    def ask() -> Any:
        borrowed = _given(pool, "connection").connection()
        if hasattr(borrowed, "__aenter__"):
            return ask_async(borrowed)
        with borrowed as connection:
            connection.execute("SELECT 1")
        return None

    return ask


def redis(client: Any) -> Function:
    """A redis-py client, sync, asyncio or cluster: one PING."""

    def ask() -> Any:
        return _given(client, "ping").ping()

    return ask


def rabbitmq(connection: Any) -> Function:
    """An aio-pika connection, robust or not: a channel is opened and closed on it, one round trip each."""

    async def ask() -> None:
        found = _given(connection, "channel")
        connected = getattr(found, "connected", None)  # of a robust one, which waits for itself otherwise
        if found.is_closed or (connected is not None and not connected.is_set()):
            raise UnhealthyError("not connected")
        async with found.channel():
            pass

    return ask


def service_bus(receiver: Any) -> Function:
    """An Azure Service Bus receiver, sync or async: one message is peeked at, none is received or locked.

    Needs the Listen right, on the link that the receiver has already.
    """

    def ask() -> Any:
        return _given(receiver, "peek_messages").peek_messages(max_message_count=1)

    return ask


def url(address: str, client: Any = None) -> Function:
    """An HTTP address that must answer below 400.

    Args:
        address: what to GET, `http://` or `https://`.
        client: an httpx, requests or aiohttp client of yours; without one a connection of its own is kept open, and a
            redirect is not followed.

    Raises:
        ConfigurationError: not such an address.
    """
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(f"url({address!r})", "it is not an http:// or https:// address", "Give a whole one.")
    if client is None:
        return _kept_open(parts.scheme, parts.netloc.rpartition("@")[2], parts._replace(scheme="", netloc="").geturl())

    async def ask_async(asking: Any) -> None:
        if hasattr(asking, "__aenter__"):  # aiohttp's request is a context manager that gives the connection back
            async with asking as response:
                await response.read()  # a connection with something left to read is not kept
                _below_400(response.status)
        else:
            _below_400((await asking).status_code)

    def ask() -> Any:
        answer = _given(client, "get").get(address)
        if hasattr(answer, "__await__"):
            return ask_async(answer)
        _below_400(answer.status_code)
        return None

    return ask


def _kept_open(scheme: str, netloc: str, path: str) -> Function:
    make = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
    connection = make(netloc, timeout=30)

    def ask() -> None:
        reused = connection.sock is not None
        try:
            status = _get(connection, path or "/")
        except (http.client.HTTPException, OSError):
            if not reused:
                raise
            status = _get(connection, path or "/")  # the other side had closed it meanwhile
        _below_400(status)

    weakref.finalize(ask, connection.close)
    return ask


def _get(connection: http.client.HTTPConnection, path: str) -> int:
    try:
        connection.request("GET", path, headers={"User-Agent": "connectsoft-obs-check"})
        response = connection.getresponse()
        response.read(65536)
        if not response.isclosed():
            connection.close()  # more than anybody needs to read
    except BaseException:
        connection.close()
        raise
    return response.status


def _below_400(status: int) -> None:
    if status >= 400:
        raise UnhealthyError(f"answered {status}")


def _given(thing: Any | Callable[[], Any], method: str) -> Any:
    """The object that has the method: this one, or what this function gives."""
    if not hasattr(thing, method) and callable(thing):
        thing = thing()
    if not hasattr(thing, method):
        raise UnhealthyError("not there yet" if thing is None else f"{type(thing).__name__} has no {method}()")
    return thing
