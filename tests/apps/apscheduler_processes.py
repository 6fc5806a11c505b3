"""A scheduler with a process pool; prints the return value and the exception of its job."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Any

from apscheduler.executors.pool import ProcessPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from connectsoft_obs.integrations import apscheduler


def return_one() -> int:
    return 1


if __name__ == "__main__":
    finished = threading.Event()

    def on_event(event: Any) -> None:
        if hasattr(event, "retval"):
            print(event.retval, event.exception, flush=True)
            finished.set()

    scheduler = BackgroundScheduler(timezone="UTC", executors={"default": ProcessPoolExecutor(1)})
    apscheduler.install(scheduler, service="reports")
    scheduler.add_listener(on_event)
    scheduler.start()
    scheduler.add_job(return_one, "date", run_date=datetime.now(UTC), misfire_grace_time=30, id="in-process-pool")
    finished.wait(30)
    scheduler.shutdown()
