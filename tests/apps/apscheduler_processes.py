"""A scheduler with a pool of processes, as users write it: prints what the job gave back."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Any

from apscheduler.executors.pool import ProcessPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from connectsoft_obs.integrations import apscheduler


def fine() -> int:
    return 1


if __name__ == "__main__":
    ended = threading.Event()

    def told(event: Any) -> None:
        if hasattr(event, "retval"):
            print(event.retval, event.exception, flush=True)
            ended.set()

    scheduler = BackgroundScheduler(timezone="UTC", executors={"default": ProcessPoolExecutor(1)})
    apscheduler.install(scheduler, service="reports")
    scheduler.add_listener(told)
    scheduler.start()
    scheduler.add_job(fine, "date", run_date=datetime.now(UTC), id="elsewhere")
    ended.wait(30)
    scheduler.shutdown()
