"""An arq worker with the integration installed."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from arq import cron
from arq.connections import RedisSettings
from arq.worker import Retry, func

import connectsoft_obs as obs
from connectsoft_obs.integrations import arq


async def add(ctx: dict[str, Any], a: int, b: int) -> int:
    obs.bind(order_id=a)
    return a + b


async def fail(ctx: dict[str, Any]) -> None:
    message = "it broke"
    raise ValueError(message)


async def flaky(ctx: dict[str, Any], until: int) -> None:
    if ctx["job_try"] <= until:
        raise Retry(defer=0.05)


async def slow(ctx: dict[str, Any]) -> None:
    await asyncio.sleep(30)


async def sleep(ctx: dict[str, Any], seconds: float) -> None:
    await asyncio.sleep(seconds)


async def parent(ctx: dict[str, Any]) -> None:
    await ctx["redis"].enqueue_job("add", 3, 4)


async def tick(ctx: dict[str, Any]) -> None:
    return


async def nightly(ctx: dict[str, Any]) -> None:
    return


class WorkerSettings:
    functions = [add, fail, flaky, func(slow, timeout=0.3), parent, sleep]
    cron_jobs = [cron(tick, second=set(range(60)), run_at_startup=True), cron(nightly, hour=2, minute=0)]
    redis_settings = RedisSettings.from_dsn(os.environ.get("BROKER", "redis://127.0.0.1:6379"))
    queue_name = os.environ.get("QUEUE", "arq:queue")
    poll_delay = 0.05
    job_completion_wait = 5


arq.install(WorkerSettings, service="reports")
