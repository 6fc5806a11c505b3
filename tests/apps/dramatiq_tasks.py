"""Dramatiq actors with the integration installed."""

from __future__ import annotations

import os
import time

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import SkipMessage

import connectsoft_obs as obs
from connectsoft_obs.integrations import dramatiq as integration

broker = RedisBroker(  # type: ignore[no-untyped-call]
    url=os.environ["BROKER"],
    namespace=os.environ["QUEUE"],
    heartbeat_timeout=int(os.environ.get("HEARTBEAT_TIMEOUT", "60000")),
    maintenance_chance=1_000_000,  # messages of workers that have ended are delivered again at the next command
)
dramatiq.set_broker(broker)
integration.LOOP_TIMEOUT = float(os.environ.get("LOOP_TIMEOUT", "60"))
integration.BROKER_WAIT_LIMIT = float(os.environ.get("BROKER_WAIT_LIMIT", "10"))
if service := os.environ.get("OTHER_SERVICE"):
    obs.configure(service=service)
integration.install(broker, service="reports")


class SkipMiddleware(dramatiq.Middleware):
    def before_process_message(self, broker: dramatiq.Broker, message: dramatiq.MessageProxy) -> None:
        if message.actor_name == "skipped":
            reason = "not today"
            raise SkipMessage(reason)


broker.add_middleware(SkipMiddleware())


@dramatiq.actor
def add(a: int, b: int) -> None:
    obs.bind(order_id=a)


@dramatiq.actor(max_retries=0)
def fail() -> None:
    message = "it broke"
    raise ValueError(message)


@dramatiq.actor(max_retries=3, min_backoff=10, max_backoff=20)
def flaky(path: str, until: int) -> None:
    with open(path, "a+") as attempts:
        attempts.write("x")
        attempts.seek(0)
        if len(attempts.read()) <= until:
            message = "not yet"
            raise ConnectionError(message)


@dramatiq.actor(time_limit=200, max_retries=0)
def slow() -> None:
    for _ in range(3000):
        time.sleep(0.01)


@dramatiq.actor(notify_shutdown=True, max_retries=0)
def interruptible() -> None:
    for _ in range(3000):
        time.sleep(0.01)


@dramatiq.actor(max_age=1)
def expired() -> None:
    return


@dramatiq.actor
def skipped() -> None:
    return


@dramatiq.actor
def sleep(seconds: float) -> None:
    time.sleep(seconds)


@dramatiq.actor
def sleep_once(path: str, seconds: float) -> None:
    """Sleep in the first delivery, and store the process id in a file."""
    if not os.path.exists(path):
        with open(path, "w") as file:
            file.write(str(os.getpid()))
        time.sleep(seconds)


@dramatiq.actor
def parent() -> None:
    add.send(3, 4)
