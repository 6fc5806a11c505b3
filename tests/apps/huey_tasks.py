"""Tasks of Huey with the integration installed."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from huey import RedisHuey, crontab
from huey.exceptions import CancelExecution, RetryTask

import connectsoft_obs as obs
from connectsoft_obs.integrations import huey as integration
from connectsoft_obs.integrations import huey_consumer

huey_consumer.LOOP_TIMEOUT = float(os.environ.get("LOOP_TIMEOUT", "60"))
huey_consumer.BROKER_WAIT_LIMIT = float(os.environ.get("BROKER_WAIT_LIMIT", "10"))
huey: Any = RedisHuey(os.environ["QUEUE"], url=os.environ["BROKER"])
integration.install(huey, service="reports")


@huey.task()
def add(a: int, b: int) -> int:
    obs.bind(order_id=a)
    return a + b


@huey.task(context=True)
def keywords(task: Any = None, **kwargs: int) -> str:
    return f"{type(task.kwargs).__name__} {kwargs}"


@huey.task()
def fail() -> None:
    message = "it broke"
    raise ValueError(message)


@huey.task(retries=2)
def flaky(path: str, until: int) -> None:
    with open(path, "a+") as attempts:
        attempts.write("x")
        attempts.seek(0)
        if len(attempts.read()) <= until:
            message = "not yet"
            raise ConnectionError(message)


@huey.task()
def retry_once(path: str) -> None:
    if not os.path.exists(path):
        open(path, "w").close()
        raise RetryTask(delay=0.1)


@huey.task()
def cancel() -> None:
    raise CancelExecution


@huey.task()
@huey.lock_task("lock")
def locked() -> None:
    return


@huey.task(timeout=0.2, context=True)
def slow(task: Any = None) -> None:
    for _ in range(3000):
        time.sleep(0.01)
        task.check_timeout()


@huey.task()
def sleep(seconds: float) -> None:
    for _ in range(int(seconds * 100)):
        time.sleep(0.01)


@huey.task()
def kill_process(seconds: float) -> None:
    print("will be killed", flush=True)
    time.sleep(seconds)
    os.kill(os.getpid(), signal.SIGKILL)


@huey.task()
def parent() -> None:
    add(3, 4)


@huey.periodic_task(crontab())
def every_minute() -> None:
    return


@huey.periodic_task(crontab(minute="0", hour="2"))
def nightly() -> None:
    return


@huey.periodic_task(crontab(minute="0", hour="2", day="1", month="1"))
def yearly() -> None:
    return


def is_due(_: Any) -> bool:
    """Evaluated by the scheduler."""
    if "BLOCK_SCHEDULER" in os.environ:
        time.sleep(3600)
    return False


@huey.periodic_task(is_due)
def never() -> None:
    return


@huey.pre_execute()
def skip(task: Any) -> None:
    if task.id == "skip":
        raise CancelExecution
