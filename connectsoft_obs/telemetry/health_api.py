"""What an application says about its own health, and hears about its end."""

from __future__ import annotations

from typing import TypeVar

from connectsoft_obs.health import AsyncEvent
from connectsoft_obs.telemetry.global_state import resolve

T = TypeVar("T")


def fail_liveness(reason: str) -> None:
    """This process cannot recover by itself: liveness fails from here on, and the platform restarts it.

    From any thread or task. The reason is in the log, and in the answers to those who may see details.
    """
    resolve().health.fail_liveness(reason)


def mark_unready(reason: str) -> None:
    """No traffic for now: readiness fails until `mark_ready()`. From any thread or task."""
    resolve().health.mark_unready(reason)


def mark_ready() -> None:
    """Traffic again, as far as start-up, checks and drain agree. From any thread or task."""
    resolve().health.mark_ready()


def draining() -> AsyncEvent:
    """Whether the process is about to stop and should begin nothing new: `if obs.draining(): break`.

    It can be awaited as well, on asyncio and trio: `await obs.draining()` returns when the drain begins. From any
    thread or task; it belongs to the life of the service that runs now.
    """
    return resolve().health.stopping


def liveness_task(name: str, task: T) -> T:
    """Say that the process is of no use without this asyncio task, future, thread or process; gives it back.

    Liveness fails when it has ended, however it did, and the service is not about to stop. Call it where the task is
    made, in the lifespan or later: it belongs to the life of the service that starts or runs now. The same name again
    takes its place. From any thread or task.

    Args:
        name: what it does.
        task: anything with `done()` or `is_alive()`.

    Raises:
        ConfigurationError: it has neither.
    """
    resolve().health.watch_task(name, task)
    return task
