"""Configuration for other services, with a cache before its store: `uvicorn app:app`. The store is a Redis hash."""

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

FRESH = float(os.environ.get("CONFIG_FRESH", "5"))

# A store that was restarted leaves connections in the pool that fail when they are used next, and from_url() tries
# nothing again by itself.
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

# Critical: a new instance has an empty cache, so without the store it must not get traffic. It is shared by all
# instances, and all leave rotation with it; say so, and a line at the start reminds the operator.
obs.readiness_check("store", scope="shared", interval=1.0)(dependency_checks.redis(store))


async def read(request: Request) -> Response:
    """A value: from the cache while it is fresh, else from the store, else an old one rather than none."""
    key = request.path_params["key"]
    kept = cache.get(key)
    if kept is not None and time.monotonic() - kept[0] < FRESH:
        return answer(kept[1], "cache")
    try:
        value = await store.hget("config", key)
    except (RedisError, OSError) as problem:
        if kept is None:
            raise
        log.warning("the store is away, an old value was served", key=key, problem=type(problem).__name__)
        return answer(kept[1], "stale")
    if value is None:
        return JSONResponse({"error": "there is no such key"}, status_code=404)
    cache[key] = (time.monotonic(), value)
    return answer(value, "store")


async def write(request: Request) -> Response:
    """Keep a value."""
    key, value = request.path_params["key"], (await request.json())["value"]
    await store.hset("config", key, value)
    cache[key] = (time.monotonic(), value)
    return Response(status_code=204)


def answer(value: str, source: str) -> Response:
    """A value, and where it came from."""
    reads.add(1, {"config.source": source})
    return JSONResponse({"value": value}, headers={"X-Config-Source": source})


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    """Let go of the store at the end."""
    yield
    await store.aclose()


routes = [Route("/config/{key}", read, methods=["GET"]), Route("/config/{key}", write, methods=["PUT"])]
app = Starlette(routes=routes, lifespan=lifespan)
app.add_middleware(
    obs.ObservabilityMiddleware, service="config-service", slo_file=str(Path(__file__).with_name("slo.toml"))
)
