"""A scheduler whose runs overlap, so that one of them is always active."""

from __future__ import annotations

import os
import time

from apscheduler.schedulers.blocking import BlockingScheduler

import connectsoft_obs as obs
from connectsoft_obs.integrations import apscheduler


def take_one_second() -> None:
    os.write(1, b"begin\n")
    time.sleep(1)
    os.write(1, b"end\n")


scheduler = BlockingScheduler(timezone="UTC")
apscheduler.install(scheduler)
for number in range(4):
    scheduler.add_job(take_one_second, "interval", seconds=0.3, id=f"job-{number}", max_instances=4)
with obs.worker(service="reports"):
    scheduler.start()
