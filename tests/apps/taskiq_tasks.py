"""taskiq tasks with the integration installed."""

from __future__ import annotations

import asyncio
import os
import time

from taskiq import SimpleRetryMiddleware
from taskiq_redis import ListQueueBroker

import connectsoft_obs as obs
from connectsoft_obs.integrations import taskiq

broker = ListQueueBroker(
    os.environ.get("BROKER", "redis://127.0.0.1:6379"),
    queue_name=os.environ.get("QUEUE", "taskiq"),
    socket_timeout=None,  # redis 8 waits for 5 s for a task, then the worker process ends
).with_middlewares(SimpleRetryMiddleware(default_retry_count=4))
taskiq.install(broker, service="reports")


@broker.task("add")
async def add(a: int, b: int) -> int:
    obs.bind(order_id=a)
    return a + b


@broker.task("add-sync")
def add_sync(a: int, b: int) -> int:
    obs.bind(order_id=a)
    time.sleep(0.01)
    return a + b


@broker.task("fail")
async def fail() -> None:
    message = "it broke"
    raise ValueError(message)


attempts: list[int] = []


@broker.task("flaky", retry_on_error=True)
async def flaky(until: int) -> None:
    attempts.append(1)
    if len(attempts) <= until:
        message = "not yet"
        raise ConnectionError(message)


@broker.task("slow", timeout=0.3)
async def slow() -> None:
    await asyncio.sleep(30)


@broker.task("sleep")
async def sleep(seconds: float) -> None:
    await asyncio.sleep(seconds)


@broker.task("parent")
async def parent() -> None:
    await add.kiq(3, 4)


@broker.task("nightly", schedule=[{"cron": "0 2 * * *", "cron_offset": "Europe/Berlin"}])
async def nightly() -> None:
    return


@broker.task("twice", schedule=[{"cron": "0 2 * * *"}, {"cron": "0 3 * * *"}])
async def twice() -> None:
    return
