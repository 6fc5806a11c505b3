"""A scheduler with a job store in Redis, to which the client adds jobs that are due at once. It has no retries."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from urllib.parse import urlsplit

from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.jobstores.redis import RedisJobStore
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.schedulers.blocking import BlockingScheduler

import connectsoft_obs as obs
from connectsoft_obs.integrations import apscheduler
from soak_workers.attempts import Attempt


def run(number: int, kind: str) -> None:
    with Attempt(number, kind) as attempt:
        time.sleep(attempt.seconds)
        attempt.finish()


def wake_up() -> None:
    """Do nothing: the scheduler looks for jobs of other processes only when a job of its own is due."""


def job_store() -> RedisJobStore:
    return RedisJobStore(port=urlsplit(os.environ["BROKER"]).port)


@asynccontextmanager
async def sender() -> AsyncIterator[Callable[[int, str], Awaitable[None]]]:
    scheduler = BackgroundScheduler(timezone="UTC", jobstores={"default": job_store()})
    scheduler.start(paused=True)

    async def send(number: int, kind: str) -> None:
        scheduler.add_job(
            "soak_workers.apscheduler_jobs:run", "date", (number, kind), run_date=datetime.now(UTC),
            misfire_grace_time=None, name="run",
        )  # fmt: skip

    yield send
    scheduler.shutdown()


if __name__ == "__main__":
    stores = {"default": job_store(), "memory": MemoryJobStore()}
    scheduler = BlockingScheduler(timezone="UTC", jobstores=stores)
    apscheduler.install(scheduler)
    scheduler.add_job(wake_up, "interval", seconds=0.1, id="wake-up", jobstore="memory")
    with obs.worker(service="soak"):
        scheduler.start()
