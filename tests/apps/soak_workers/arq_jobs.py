"""An arq worker; a shutdown cancels its jobs, and another worker runs them again."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import Retry

from connectsoft_obs.integrations import arq
from soak_workers.attempts import Attempt, RetryRequested


async def run(ctx: dict[str, Any], number: int, kind: str) -> None:
    try:
        with Attempt(number, kind) as attempt:
            await asyncio.sleep(attempt.seconds)
            attempt.finish()
    except RetryRequested as error:
        raise Retry(defer=0.05) from error


class WorkerSettings:
    functions = [run]
    redis_settings = RedisSettings.from_dsn(os.environ["BROKER"])
    queue_name = os.environ["QUEUE"]
    poll_delay = 0.05
    max_tries = 100
    job_timeout = 5  # another worker runs the job of a killed one after this time and ten seconds


arq.install(WorkerSettings, service="soak")


@asynccontextmanager
async def sender() -> AsyncIterator[Callable[[int, str], Awaitable[None]]]:
    pool = await create_pool(WorkerSettings.redis_settings, default_queue_name=WorkerSettings.queue_name)
    arq.install(pool)

    async def send(number: int, kind: str) -> None:
        await pool.enqueue_job("run", number, kind)

    yield send
    await pool.aclose(close_connection_pool=True)
