"""A taskiq broker with a Redis list: tasks that a worker has fetched are lost when it is killed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from taskiq import SimpleRetryMiddleware
from taskiq_redis import ListQueueBroker

from connectsoft_obs.integrations import taskiq
from soak_workers.attempts import Attempt

broker = ListQueueBroker(os.environ["BROKER"], queue_name=os.environ["QUEUE"], socket_timeout=None).with_middlewares(
    SimpleRetryMiddleware(default_retry_count=100)
)
taskiq.install(broker, service="soak")


@broker.task("run")
async def run(number: int, kind: str) -> None:
    with Attempt(number, kind) as attempt:
        await asyncio.sleep(attempt.seconds)
        attempt.finish()


@asynccontextmanager
async def sender() -> AsyncIterator[Callable[[int, str], Awaitable[None]]]:
    await broker.startup()

    async def send(number: int, kind: str) -> None:
        await run.kicker().with_labels(retry_on_error=kind == "retry").kiq(number, kind)

    yield send
    await broker.shutdown()
