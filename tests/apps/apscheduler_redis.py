"""An asyncio scheduler with a job store in Redis, in a worker; the store is called in the thread of the event loop."""

from __future__ import annotations

import asyncio
import os

from apscheduler.jobstores.redis import RedisJobStore
from apscheduler.schedulers.asyncio import AsyncIOScheduler

import connectsoft_obs as obs
from connectsoft_obs.integrations import apscheduler


def tick() -> None:
    return


async def main() -> None:
    store = RedisJobStore(host="127.0.0.1", port=int(os.environ["BROKER_PORT"]))
    scheduler = AsyncIOScheduler(timezone="UTC", jobstores={"default": store})
    apscheduler.install(scheduler)
    scheduler.add_job(tick, "interval", seconds=0.2, id="tick", replace_existing=True)
    async with obs.worker(service="reports"):
        scheduler.start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
