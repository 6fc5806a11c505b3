"""Configuration for other services, cached in front of a store: `uvicorn app:app`. The store is a Redis hash."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import RedisError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import connectsoft_obs as obs
from connectsoft_obs.health import dependency_checks

CACHE_SECONDS = float(os.environ.get("CONFIG_CACHE_SECONDS", "5"))

# After a restart of Redis, pooled connections fail when they are used next, and from_url() does not retry by default.
store = Redis.from_url(
    os.environ.get("BROKER", "redis://127.0.0.1:6379/0"),
    decode_responses=True,
    socket_timeout=1,
    socket_connect_timeout=1,
    retry=Retry(ExponentialBackoff(cap=0.1, base=0.02), 2),
)
cache: dict[str, tuple[float, str]] = {}
log = obs.get_logger("config")
reads = obs.counter("config.reads", unit="{read}", labels=("config.source",), help="Number of values read.")

# Critical: a new instance has an empty cache and must not get traffic without the store. All instances share the store
# and leave rotation together if it fails; scope="shared" logs a warning about this at start-up.
obs.readiness_check("store", scope="shared", interval=1.0)(dependency_checks.redis(store))


async def read(request: Request) -> Response:
    """Return a value from the cache or the store; a stale value if the store is unavailable."""
    key = request.path_params["key"]
    cached = cache.get(key)
    if cached is not None and time.monotonic() - cached[0] < CACHE_SECONDS:
        return value_response(cached[1], "cache")
    try:
        value = await store.hget("config", key)
    except (RedisError, OSError) as error:
        if cached is None:
            raise
        log.warning("store unavailable, stale value served", key=key, error=type(error).__name__)
        return value_response(cached[1], "stale")
    if value is None:
        return JSONResponse({"error": "key does not exist"}, status_code=404)
    cache[key] = (time.monotonic(), value)
    return value_response(value, "store")


async def write(request: Request) -> Response:
    """Store a value."""
    key, value = request.path_params["key"], (await request.json())["value"]
    await store.hset("config", key, value)
    cache[key] = (time.monotonic(), value)
    return Response(status_code=204)


def value_response(value: str, source: str) -> Response:
    """Build the response with a value and its source."""
    reads.add(1, {"config.source": source})
    return JSONResponse({"value": value}, headers={"X-Config-Source": source})


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    """Close the connections at shutdown."""
    yield
    await store.aclose()


routes = [Route("/config/{key}", read, methods=["GET"]), Route("/config/{key}", write, methods=["PUT"])]
app = Starlette(routes=routes, lifespan=lifespan)
app.add_middleware(
    obs.ObservabilityMiddleware, service="config-service", slo_file=str(Path(__file__).with_name("slo.toml"))
)
