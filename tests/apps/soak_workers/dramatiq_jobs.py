"""A Dramatiq actor with Redis; the messages of a killed worker process are delivered again after five seconds."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from connectsoft_obs.integrations import dramatiq as integration
from soak_workers.attempts import Attempt

broker = RedisBroker(  # type: ignore[no-untyped-call]
    url=os.environ["BROKER"], heartbeat_timeout=5_000, maintenance_chance=100_000
)
dramatiq.set_broker(broker)
integration.install(broker, service="soak")


@dramatiq.actor(queue_name=os.environ["QUEUE"], min_backoff=50, max_backoff=100)
def run(number: int, kind: str) -> None:
    with Attempt(number, kind) as attempt:
        time.sleep(attempt.seconds)
        attempt.finish()


@asynccontextmanager
async def sender() -> AsyncIterator[Callable[[int, str], Awaitable[None]]]:
    async def send(number: int, kind: str) -> None:
        run.send_with_options(args=(number, kind), max_retries=100 if kind == "retry" else 0)

    yield send
