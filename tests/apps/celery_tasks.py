"""A Celery app with the integration installed; broker, result backend and queue are environment variables."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from celery import Celery, signals
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded

import connectsoft_obs as obs
from connectsoft_obs.integrations import celery, celery_liveness

for name in ("LOOP_TIMEOUT", "BROKER_WAIT_LIMIT"):
    setattr(celery_liveness, name, float(os.environ.get(name, getattr(celery_liveness, name))))

app = Celery("reports", broker=os.environ.get("BROKER", "memory://"), backend=os.environ.get("BACKEND"))
app.conf.update(
    task_default_queue=os.environ.get("QUEUE", "celery"),
    task_ignore_result=True,
    broker_transport_options={
        "visibility_timeout": 2,
        "polling_interval": 0.05,
        **dict.fromkeys(
            ("data_folder_in", "data_folder_out", "control_folder"), os.environ.get("BROKER_DIRECTORY", ".")
        ),
    },
    broker_connection_retry_on_startup=True,
    worker_prefetch_multiplier=1,
    worker_soft_shutdown_timeout=float(os.environ.get("SOFT_SHUTDOWN_TIMEOUT", "0")),
    beat_schedule={"tick": {"task": "tick", "schedule": 0.3}},
)
celery.install(app, service="reports")
log = obs.get_logger("reports")

if "BLOCK_MAIN_LOOP" in os.environ:

    @signals.task_received.connect
    def block_main_loop(**_: Any) -> None:
        """Block the main loop of a worker, as a deadlock in code of the application."""
        time.sleep(60)


@app.task(name="add")
def add(a: int, b: int) -> int:
    obs.bind(order_id=a)
    log.info("adding")
    return a + b


@app.task(name="fail")
def fail() -> None:
    message = "it broke"
    raise ValueError(message)


@app.task(name="flaky", bind=True, max_retries=5)
def flaky(self: Any, until: int) -> None:
    if self.request.retries < until:
        raise self.retry(exc=ConnectionError("not yet"), countdown=0.05)


@app.task(
    name="hopeless", autoretry_for=(OSError,), retry_kwargs={"max_retries": 2, "countdown": 0.05}, retry_backoff=False
)
def hopeless() -> None:
    message = "never"
    raise OSError(message)


class SlowToRetry(app.Task):  # type: ignore[misc, name-defined]
    """A task whose next attempt begins before this one has ended."""

    def on_retry(self, *_: Any) -> None:
        time.sleep(1)


@app.task(name="overlapping", base=SlowToRetry, bind=True)
def overlapping(self: Any) -> None:
    if not self.request.retries:
        raise self.retry(exc=ConnectionError("not yet"), countdown=0)


@app.task(name="poison")
def poison() -> None:
    raise Reject("not json", requeue=False)


@app.task(name="ignored")
def ignored() -> None:
    raise Ignore("nothing to do")


@app.task(name="skipped")
def skipped() -> None:
    obs.skip("nothing to do")


@app.task(name="soft", soft_time_limit=0.3)
def soft() -> None:
    time.sleep(30)


@app.task(name="soft-caught", soft_time_limit=0.3)
def soft_caught() -> str:
    try:
        time.sleep(30)
    except SoftTimeLimitExceeded:
        return "partial"
    return "complete"


@app.task(name="hard", time_limit=1)
def hard() -> None:
    time.sleep(30)


@app.task(name="exits")
def exits() -> None:
    sys.exit(3)


@app.task(name="parent")
def parent() -> None:
    add.delay(1, 2)


@app.task(name="pid", acks_late=True, reject_on_worker_lost=True)
def pid(path: str, seconds: float) -> None:
    """Append the process id to a file, then sleep; only the first run sleeps for the full time."""
    is_first_run = not Path(path).exists()
    with Path(path).open("a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(seconds if is_first_run else 0)


@app.task(name="sleep")
def sleep(seconds: float) -> None:
    time.sleep(seconds)


@app.task(name="sleep-acks-late", acks_late=True)
def sleep_acks_late(seconds: float) -> None:
    time.sleep(seconds)


@app.task(name="lost")
def lost() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="tick")
def tick() -> None:
    return
