"""A worker without jobs. It owns the management port, whose page has the totals of all workers, and is not killed."""

from __future__ import annotations

import time

import connectsoft_obs as obs

if __name__ == "__main__":
    with obs.worker(service="soak") as worker:
        while not worker.draining:
            time.sleep(0.05)
