"""The vital parts of a process: what must be as it should be, or only a restart helps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.health.executor import describe_exception

Problem = Callable[[], str]
"""Gives "" while something is as it should be, else why it is not. Cheap; waits for nothing; called from any thread."""


class LivenessWatches:
    """Vital parts by name. Those that are asked stay; tasks and threads belong to one life of the service."""

    def __init__(self) -> None:
        self._asked: dict[str, Problem] = {}
        self._tasks: dict[str, Problem] = {}

    def ask(self, name: str, problem: Problem) -> None:
        """Ask this from now on."""
        self._asked[name] = problem

    def task(self, name: str, task: Any) -> None:
        """Watch a task, future, thread or process until this life is over.

        Raises:
            ConfigurationError: it cannot be asked whether it has ended.
        """
        if not callable(getattr(task, "done", None)) and not callable(getattr(task, "is_alive", None)):
            raise ConfigurationError(
                f"vital_task({name!r}, {task!r})",
                "it cannot be asked whether it has ended",
                "Pass an asyncio task, a future, a thread or a process.",
            )
        self._tasks[name] = partial(_end, task)

    def over(self) -> None:
        """The life is over, or this is a forked child: tasks end now, or are the parent's."""
        self._tasks.clear()

    def problems(self, stops: bool) -> list[tuple[str, str]]:
        """Which have a problem now, and which; while the service stops, its tasks end as they should."""
        return problem_texts(self._asked) + ([] if stops else problem_texts(self._tasks))


def problem_texts(problems: Mapping[str, Problem]) -> list[tuple[str, str]]:
    """Which of these have a problem now, and which; one whose question fails has none that we know."""
    found = []
    for name, problem in list(problems.items()):
        try:
            why = problem()
        except Exception:  # noqa: BLE001, S112  theirs; a question that fails must not restart a process
            continue
        if why:
            found.append((name, why))
    return found


def _end(task: Any) -> str:
    """How it ended, or "" while it has not; a thread that was not started has not."""
    if not hasattr(task, "done"):
        return "" if task.ident is None or task.is_alive() else "has ended"
    if not task.done():
        return ""
    if task.cancelled():
        return "was cancelled"
    # Not `exception()`: it would keep asyncio from reporting an exception that nobody retrieved.
    error = getattr(task, "_exception", None)
    return "has ended" if error is None else f"ended with {describe_exception(error)}"
