"""Liveness watches: tasks and conditions whose failure requires a restart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.health.executor import describe_exception
from connectsoft_obs.internal_telemetry import record_internal_error
from connectsoft_obs.process.cpython_internals import stored_exception

Problem = Callable[[], str]
"""Returns why a condition is violated, or "" if it holds. Must be cheap, must not block, is called from any thread."""


class LivenessWatches:
    """Watched conditions and tasks by name. Conditions are permanent; tasks are removed when the service stops."""

    def __init__(self) -> None:
        self._conditions: dict[str, Problem] = {}
        self._tasks: dict[str, Problem] = {}

    def add(self, name: str, problem: Problem) -> None:
        """Watch a condition."""
        self._conditions[name] = problem

    def add_task(self, name: str, task: Any) -> None:
        """Watch a task, future, thread or process until the service stops.

        Raises:
            ConfigurationError: the object has neither `done()` nor `is_alive()`.
        """
        if not callable(getattr(task, "done", None)) and not callable(getattr(task, "is_alive", None)):
            raise ConfigurationError(
                f"liveness_task({name!r}, {task!r})",
                "expected an asyncio task, a future, a thread or a process",
                "Pass an object with a method done() or is_alive().",
            )
        self._tasks[name] = partial(_task_end, task)

    def take_over(self, previous: LivenessWatches) -> None:
        """Add the conditions and tasks of `previous`. Those with the same name are not replaced."""
        self._conditions = {**previous._conditions, **self._conditions}
        self._tasks = {**previous._tasks, **self._tasks}

    def clear_tasks(self) -> None:
        """Remove all tasks, after the service has stopped or in a forked child."""
        self._tasks.clear()

    def problems(self, draining: bool) -> list[tuple[str, str]]:
        """Names and reasons of the current problems. While the service drains, its tasks are expected to end."""
        return problem_texts(self._conditions) + ([] if draining else problem_texts(self._tasks))


def problem_texts(problems: Mapping[str, Problem]) -> list[tuple[str, str]]:
    """Names and reasons of the current problems; a function that raises reports no problem, and its error is counted."""
    texts = []
    for name, problem in list(problems.items()):
        try:
            reason = problem()
        except Exception as error:  # noqa: BLE001  an error in the condition itself must not cause a restart
            record_internal_error("health.watch", error)
            continue
        if reason:
            texts.append((name, reason))
    return texts


def _task_end(task: Any) -> str:
    """How a task has ended, or "" if it has not; a thread that was not started has not ended."""
    if not hasattr(task, "done"):
        return "" if task.ident is None or task.is_alive() else "has ended"
    if not task.done():
        return ""
    if task.cancelled():
        return "was cancelled"
    error = stored_exception(task)
    return "has ended" if error is None else f"ended with {describe_exception(error)}"
