"""A worker process with one job."""

from __future__ import annotations

import gc
import time

import connectsoft_obs as obs


@obs.job("tick")
def tick() -> None:
    gc.collect()


with obs.worker(service="ticker") as worker:
    tick()
    while not worker.draining:
        time.sleep(0.02)
