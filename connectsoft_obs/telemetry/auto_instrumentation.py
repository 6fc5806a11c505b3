"""Outgoing calls: switches on the OpenTelemetry instrumentations of client libraries that are installed.

Each `opentelemetry-instrumentation-*` package registers an entry point; those of clients (HTTP, databases, caches,
message brokers, threads) are switched on once a process, on the stable HTTP convention. Those of servers are not: the
request is ours. Our own exports use none of these libraries under a traced context.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "opentelemetry_instrumentor"
CLIENTS = frozenset(
    {
        "aio-pika", "aiohttp-client", "aiokafka", "aiopg", "asyncpg", "boto", "boto3sqs", "botocore", "cassandra",
        "confluent_kafka", "elasticsearch", "grpc_aio_client", "grpc_client", "httpx", "kafka", "mysql",
        "mysqlclient", "pika", "psycopg", "psycopg2", "pymemcache", "pymongo", "pymssql", "pymysql", "redis", "requests",
        "sqlalchemy", "sqlite3", "threading", "tortoiseorm", "urllib", "urllib3",
    }
)  # fmt: skip
_STABLE = "OTEL_SEMCONV_STABILITY_OPT_IN"

_done: set[str] = set()
"""What this process has switched on; libraries are patched once, whatever happens to a Telemetry."""


def instrument_clients(wanted: tuple[str, ...]) -> tuple[list[str], dict[str, str]]:
    """Switch on the wanted instrumentations; never raises.

    Args:
        wanted: `auto` for every client library, `none`, or names of entry points.

    Returns:
        Names that are on now, and for those that failed why.
    """
    on: list[str] = []
    failed: dict[str, str] = {}
    if "none" in wanted:
        return on, failed
    from importlib.metadata import entry_points

    found = {point.name: point for point in entry_points(group=GROUP)}
    names = sorted(found.keys() & CLIENTS) if "auto" in wanted else list(wanted)
    with _stable_convention():
        for name in names:
            if name not in found:
                failed[name] = "no installed package provides it"
                continue
            try:
                problem = _switch(found[name])
            except ModuleNotFoundError as absent:
                if "auto" in wanted:
                    continue  # the instrumentation is installed and the library is not
                problem = str(absent)
            if problem:
                failed[name] = problem
            else:
                on.append(name)
    return on, failed


def _switch(point: EntryPoint) -> str:
    if point.name in _done:
        return ""
    try:
        instrumentor = point.load()()
        if not instrumentor.is_instrumented_by_opentelemetry:
            if conflict := _conflict(instrumentor):
                return conflict
            instrumentor.instrument()
    except ModuleNotFoundError:
        raise
    except Exception as error:  # noqa: BLE001  somebody else's package; the service starts without it
        return f"{type(error).__name__}: {error}"
    _done.add(point.name)
    return ""


def _conflict(instrumentor: object) -> str:
    """Why an instrumentation cannot work, in its own words; it would only log it otherwise."""
    check = getattr(instrumentor, "_check_dependency_conflicts", None)
    conflict = check() if callable(check) else None
    return str(conflict) if conflict else ""


@contextmanager
def _stable_convention() -> Iterator[None]:
    """Instrumentations read once which convention to follow, and follow the old one unless told; restored after."""
    before = os.environ.get(_STABLE)
    if before is None:
        os.environ[_STABLE] = "http,database"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(_STABLE, None)
