"""A Celery app whose tasks are acknowledged after they end."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from celery import Celery

from connectsoft_obs.integrations import celery
from soak_workers.attempts import Attempt, RetryRequested

app = Celery("soak", broker=os.environ["BROKER"])
app.conf.update(
    task_default_queue=os.environ["QUEUE"],
    task_ignore_result=True,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
)
celery.install(app, service="soak")


@app.task(name="run", bind=True, max_retries=100)
def run(self: Any, number: int, kind: str) -> None:
    try:
        with Attempt(number, kind) as attempt:
            time.sleep(attempt.seconds)
            attempt.finish()
    except RetryRequested as error:
        raise self.retry(exc=error, countdown=0.05) from error


@asynccontextmanager
async def sender() -> AsyncIterator[Callable[[int, str], Awaitable[None]]]:
    async def send(number: int, kind: str) -> None:
        run.delay(number, kind)

    yield send
