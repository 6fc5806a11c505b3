"""The checks and tasks that code has declared so far, in layers, so that a test's own do not outlive it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias, TypeVar

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.health.checks import Check, Probe, Task
from connectsoft_obs.health.report import Transition

Listener: TypeAlias = Callable[[Transition], object]
D = TypeVar("D", Check, Task)


class CheckRegistry:
    """What is declared; several Telemetries can read one. Declaring is for start-up; reading is thread-safe.

    Args:
        outer: what this one adds to; a name declared here hides the same name there.
    """

    def __init__(self, outer: CheckRegistry | None = None) -> None:
        self._outer = outer
        self._checks: dict[tuple[Probe, str], Check] = {}
        self._tasks: dict[str, Task] = {}
        self._listeners: dict[str, Listener] = {}
        self._changes = 0

    def add(self, check: Check) -> None:
        """Declare a check; the same function again (after a reload) replaces itself.

        Raises:
            ConfigurationError: another function has the name.
        """
        key = (check.probe, check.name)
        _free(f"{check.probe}_check({check.name!r})", check, self._checks.get(key))
        self._checks[key] = check
        self._changes += 1

    def add_task(self, task: Task) -> None:
        """Declare a task of start-up; the same function again (after a reload) replaces itself.

        Raises:
            ConfigurationError: another function has the name.
        """
        _free(f"startup_task({task.name!r})", task, self._tasks.get(task.name))
        self._tasks[task.name] = task
        self._changes += 1

    def listen(self, listener: Listener, origin: str) -> None:
        """Have a function called with each `Transition`; the same function again (after a reload) replaces itself."""
        self._listeners[origin] = listener

    def remove(self, probe: Probe, name: str) -> None:
        """Forget a check that was declared here, if it is there."""
        if self._checks.pop((probe, name), None) is not None:
            self._changes += 1

    @property
    def changes(self) -> int:
        """A number that grows with each declaration."""
        return self._changes + (self._outer.changes if self._outer else 0)

    def checks(self) -> list[Check]:
        """Every check, in the order of declaration."""
        return list(self._all_checks().values())

    def tasks(self) -> list[Task]:
        """Every task, in the order of declaration."""
        return list(self._all_tasks().values())

    def listeners(self) -> list[Listener]:
        """Every listener."""
        return [*(self._outer.listeners() if self._outer else ()), *self._listeners.values()]

    def _all_checks(self) -> dict[tuple[Probe, str], Check]:
        return {**(self._outer._all_checks() if self._outer else {}), **self._checks}  # noqa: SLF001  its own kind

    def _all_tasks(self) -> dict[str, Task]:
        return {**(self._outer._all_tasks() if self._outer else {}), **self._tasks}  # noqa: SLF001  its own kind


def _free(given: str, new: D, known: D | None) -> None:
    if known is not None and known.origin != new.origin:
        raise ConfigurationError(given, f"{known.origin} already has that name", "Give one of the two another name.")


_layers: list[CheckRegistry] = [CheckRegistry()]


def declared() -> CheckRegistry:
    """Where declarations go now: to the process, or to the innermost capture of a test."""
    return _layers[-1]


@contextmanager
def nested_registry() -> Iterator[CheckRegistry]:
    """What is declared inside the block is forgotten after it; what was declared before stays visible."""
    made = CheckRegistry(_layers[-1])
    _layers.append(made)
    try:
        yield made
    finally:
        _layers.remove(made)
