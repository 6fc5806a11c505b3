"""Jobs of an RQ worker, and the worker with the integration installed."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

import connectsoft_obs as obs


def add(a: int, b: int) -> int:
    obs.bind(order_id=a)
    return a + b


def fail() -> None:
    message = "it broke"
    raise ValueError(message)


def flaky(path: str, until: int) -> None:
    with open(path, "a") as file:
        file.write("x")
    with open(path) as file:
        attempts = len(file.read())
    if attempts <= until:
        raise ConnectionError(f"attempt {attempts}")


def slow() -> None:
    time.sleep(30)


def lost(seconds: float = 0) -> None:
    time.sleep(seconds)
    os.kill(os.getpid(), signal.SIGKILL)


def flaky_and_lost(path: str) -> None:
    flaky(path, 1)
    lost()


def exits() -> None:
    os._exit(0)


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def kill_work_horse(*_: Any) -> None:
    """Callback that is called after a job, and kills the process."""
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    from redis import Redis
    from rq import Queue, SimpleWorker, SpawnWorker, Worker

    from connectsoft_obs.integrations import rq

    rq.HEARTBEAT_TIMEOUT = float(os.environ.get("HEARTBEAT_TIMEOUT", rq.HEARTBEAT_TIMEOUT))
    connection = Redis.from_url(os.environ["BROKER"])
    worker_class = {"simple": SimpleWorker, "fork": Worker, "spawn": SpawnWorker}[sys.argv[1]]
    worker = worker_class(
        [Queue(os.environ["QUEUE"], connection=connection)],
        connection=connection,
        worker_ttl=int(os.environ.get("WORKER_TTL", "420")),
        job_monitoring_interval=int(os.environ.get("JOB_MONITORING_INTERVAL", "30")),
    )
    rq.install(worker, service="reports")
    worker.work(logging_level="WARNING")
