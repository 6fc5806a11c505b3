"""Jobs of an RQ worker, and the worker with the integration installed."""

from __future__ import annotations

import os
import signal
import sys
import time

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


def lost() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    from redis import Redis
    from rq import Queue, SimpleWorker, Worker

    from connectsoft_obs.integrations import rq

    connection = Redis.from_url(os.environ["BROKER"])
    worker_class = {"simple": SimpleWorker, "fork": Worker}[sys.argv[1]]
    worker = worker_class([Queue(os.environ["QUEUE"], connection=connection)], connection=connection)
    rq.install(worker, service="reports")
    worker.work(logging_level="WARNING")
