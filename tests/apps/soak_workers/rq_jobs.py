"""Jobs of an RQ worker, and the worker."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from redis import Redis
from rq import Queue, Retry, Worker

from connectsoft_obs.integrations import rq
from soak_workers.attempts import Attempt


def run(number: int, kind: str) -> None:
    with Attempt(number, kind) as attempt:
        time.sleep(attempt.seconds)
        attempt.finish()


@asynccontextmanager
async def sender() -> AsyncIterator[Callable[[int, str], Awaitable[None]]]:
    queue = Queue(os.environ["QUEUE"], connection=Redis.from_url(os.environ["BROKER"]))
    rq.install(queue)

    async def send(number: int, kind: str) -> None:
        queue.enqueue("soak_workers.rq_jobs.run", number, kind, retry=Retry(max=5) if kind == "retry" else None)

    yield send


if __name__ == "__main__":
    connection = Redis.from_url(os.environ["BROKER"])
    worker = Worker([Queue(os.environ["QUEUE"], connection=connection)], connection=connection)
    rq.install(worker, service="soak")
    worker.work(logging_level="WARNING")
