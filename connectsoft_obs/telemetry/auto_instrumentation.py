"""Enables the installed OpenTelemetry instrumentations of client libraries.

Each `opentelemetry-instrumentation-*` package registers an entry point. Those of clients (HTTP, databases, caches, message
brokers, threads) are enabled once per process, with the stable HTTP and database conventions. Those of servers are not:
the middleware instruments requests. Exports of this package use none of these libraries in a traced context.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from connectsoft_obs.context.otel_private import dependency_conflict

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

ENTRY_POINT_GROUP = "opentelemetry_instrumentor"
CLIENT_LIBRARIES = frozenset(
    {
        "aio-pika", "aiohttp-client", "aiokafka", "aiopg", "asyncpg", "boto", "boto3sqs", "botocore", "cassandra",
        "confluent_kafka", "elasticsearch", "grpc_aio_client", "grpc_client", "httpx", "kafka", "mysql",
        "mysqlclient", "pika", "psycopg", "psycopg2", "pymemcache", "pymongo", "pymssql", "pymysql", "redis", "requests",
        "sqlalchemy", "sqlite3", "threading", "tortoiseorm", "urllib", "urllib3",
    }
)  # fmt: skip
_OPT_IN_VARIABLE = "OTEL_SEMCONV_STABILITY_OPT_IN"

_instrumented: set[str] = set()
"""Instrumentations that this process has enabled. Libraries are patched once, independent of any Telemetry."""


def instrument_clients(names: tuple[str, ...]) -> tuple[list[str], dict[str, str]]:
    """Enable instrumentations; never raises.

    Args:
        names: `auto` for every installed client library, `none`, or names of entry points.

    Returns:
        The names that are enabled, and the reason for each that failed.
    """
    active: list[str] = []
    failed: dict[str, str] = {}
    if "none" in names:
        return active, failed
    from importlib.metadata import entry_points

    entry_points_by_name = {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}
    selected = sorted(entry_points_by_name.keys() & CLIENT_LIBRARIES) if "auto" in names else list(names)
    with _stable_convention():
        for name in selected:
            if name not in entry_points_by_name:
                failed[name] = "no installed package provides this instrumentation"
                continue
            try:
                problem = _instrument(entry_points_by_name[name])
            except ModuleNotFoundError as absent:
                if "auto" in names:
                    continue  # the instrumentation is installed, but the library is not
                problem = str(absent)
            if problem:
                failed[name] = problem
            else:
                active.append(name)
    return active, failed


def _instrument(point: EntryPoint) -> str:
    if point.name in _instrumented:
        return ""
    try:
        instrumentor = point.load()()
        if not instrumentor.is_instrumented_by_opentelemetry:
            if conflict := dependency_conflict(instrumentor):
                return conflict
            instrumentor.instrument()
    except ModuleNotFoundError:
        raise
    except Exception as error:  # noqa: BLE001  a package of another project; the service starts without it
        return f"{type(error).__name__}: {error}"
    _instrumented.add(point.name)
    return ""


@contextmanager
def _stable_convention() -> Iterator[None]:
    """Select the stable conventions: instrumentations read the variable once and use the old convention by default."""
    before = os.environ.get(_OPT_IN_VARIABLE)
    if before is None:
        os.environ[_OPT_IN_VARIABLE] = "http,database"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(_OPT_IN_VARIABLE, None)
