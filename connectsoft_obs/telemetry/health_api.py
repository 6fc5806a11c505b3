"""Public functions to report health and to observe shutdown."""

from __future__ import annotations

from typing import TypeVar

from connectsoft_obs.health import AsyncEvent
from connectsoft_obs.telemetry.global_state import resolve

T = TypeVar("T")


def fail_liveness(reason: str) -> None:
    """Fail liveness permanently, so that the platform restarts this process.

    Thread-safe. The reason is logged and shown in the health response to clients that may see details.
    """
    resolve().health.fail_liveness(reason)


def mark_unready(reason: str) -> None:
    """Fail readiness until `mark_ready()`, so that the process receives no traffic. Thread-safe."""
    resolve().health.mark_unready(reason)


def mark_ready() -> None:
    """Undo `mark_unready()`. Readiness still depends on start-up, checks and drain. Thread-safe."""
    resolve().health.mark_ready()


def draining() -> AsyncEvent:
    """An event that is set when the process begins to drain: `if obs.draining(): break`.

    It can also be awaited, with asyncio and trio: `await obs.draining()` returns when the drain begins. Thread-safe.
    """
    return resolve().health.stopping


def liveness_task(name: str, task: T) -> T:
    """Fail liveness when this asyncio task, future, thread or process ends before shutdown; returns it.

    Call it where the task is created, in the lifespan or later. A second call with the same name replaces the first.
    Thread-safe.

    Args:
        name: name of the task in logs and health responses.
        task: an object with `done()` or `is_alive()`.

    Raises:
        ConfigurationError: the object has neither method.
    """
    resolve().health.watch_task(name, task)
    return task
