"""A worker that runs jobs in a pool of processes; prints the job metrics of its own page."""

from __future__ import annotations

import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from typing import Any

import httpx

import connectsoft_obs as obs

JOBS = 8


@obs.job("part")
def part(number: int) -> int:
    if number == 3:
        raise ValueError(number)
    return number


def part_or_none(number: int) -> int | None:
    try:
        return part(number)
    except ValueError:
        return None


def run_pool(method: str) -> None:
    context: Any = multiprocessing.get_context(method)
    with context.Pool(2) as pool:  # terminates the processes at the end of the block
        pool.map(part_or_none, range(JOBS))


def run_executor(method: str) -> None:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as executor:
        list(executor.map(part_or_none, range(JOBS)))


def run_scheduler(method: str) -> None:
    from apscheduler.executors.pool import ProcessPoolExecutor as SchedulerPool
    from apscheduler.schedulers.background import BackgroundScheduler

    pool = SchedulerPool(2, pool_kwargs={"mp_context": multiprocessing.get_context(method)})
    scheduler = BackgroundScheduler(timezone="UTC", executors={"default": pool})
    scheduler.start()
    for number in range(JOBS):
        scheduler.add_job(
            part_or_none, "date", run_date=datetime.now(UTC), misfire_grace_time=60, args=(number,), max_instances=JOBS
        )
    while scheduler.get_jobs():
        time.sleep(0.05)
    scheduler.shutdown(wait=True)


if __name__ == "__main__":
    kind, method = sys.argv[1:]
    with obs.worker(service="parts", prometheus_port=0) as worker:
        part(0)
        {"pool": run_pool, "executor": run_executor, "scheduler": run_scheduler}[kind](method)
        print(httpx.get(f"http://127.0.0.1:{worker.port}/metrics").text)
