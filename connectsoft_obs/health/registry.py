"""Registry of the declared checks, startup tasks and listeners; nested registries isolate the declarations of a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias, TypeVar

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.health.checks import Check, DeclarationOrigin, Probe, StartupTask
from connectsoft_obs.health.report import Transition

Listener: TypeAlias = Callable[[Transition], object]
D = TypeVar("D", Check, StartupTask)


class CheckRegistry:
    """Declared checks, startup tasks and listeners. Several Telemetry instances can read one registry.

    Reading is thread-safe. Declare from one thread, while the application starts.

    Args:
        outer: the registry that this one extends; a name declared here hides the same name there.
    """

    def __init__(self, outer: CheckRegistry | None = None) -> None:
        self._outer = outer
        self._checks: dict[tuple[Probe, str], Check] = {}
        self._tasks: dict[str, StartupTask] = {}
        self._listeners: dict[DeclarationOrigin, Listener] = {}
        self._version = 0

    def add(self, check: Check) -> None:
        """Declare a check.

        The same function, declared again, replaces its earlier declaration: after a reload, or because `python app.py`
        imports its file as `__main__` and as `app`.

        Raises:
            ConfigurationError: another function has the name.
        """
        key = (check.probe, check.name)
        _require_same_origin(f"{check.probe}_check({check.name!r})", check, self._checks.get(key))
        self._checks[key] = check
        self._version += 1

    def add_task(self, task: StartupTask) -> None:
        """Declare a startup task.

        The same function, declared again, replaces its earlier declaration: after a reload, or because `python app.py`
        imports its file as `__main__` and as `app`.

        Raises:
            ConfigurationError: another function has the name.
        """
        _require_same_origin(f"startup_task({task.name!r})", task, self._tasks.get(task.name))
        self._tasks[task.name] = task
        self._version += 1

    def add_listener(self, listener: Listener, origin: DeclarationOrigin) -> None:
        """Call a function with each `Transition`. The same function, added again after a reload, replaces itself."""
        self._listeners[origin] = listener

    def remove(self, probe: Probe, name: str) -> None:
        """Remove a check that was declared in this registry, if it exists."""
        if self._checks.pop((probe, name), None) is not None:
            self._version += 1

    @property
    def version(self) -> int:
        """A number that increases with each declaration."""
        return self._version + (self._outer.version if self._outer else 0)

    def checks(self) -> list[Check]:
        """All checks in the order of declaration."""
        return list(self._all_checks().values())

    def tasks(self) -> list[StartupTask]:
        """All startup tasks in the order of declaration."""
        return list(self._all_tasks().values())

    def listeners(self) -> list[Listener]:
        """All listeners."""
        return [*(self._outer.listeners() if self._outer else ()), *self._listeners.values()]

    def _all_checks(self) -> dict[tuple[Probe, str], Check]:
        return {**(self._outer._all_checks() if self._outer else {}), **self._checks}  # noqa: SLF001  same class

    def _all_tasks(self) -> dict[str, StartupTask]:
        return {**(self._outer._all_tasks() if self._outer else {}), **self._tasks}  # noqa: SLF001  same class


def _require_same_origin(declaration: str, new: D, existing: D | None) -> None:
    if existing is not None and existing.origin != new.origin:
        raise ConfigurationError(
            declaration, f"{existing.origin} already has that name", "Choose another name for one of the two."
        )


_registries: list[CheckRegistry] = [CheckRegistry()]


def current_registry() -> CheckRegistry:
    """The registry that receives declarations: of the innermost `nested_registry()` block, or of the process."""
    return _registries[-1]


@contextmanager
def nested_registry() -> Iterator[CheckRegistry]:
    """Discard declarations of the block when it ends. Earlier declarations stay visible inside."""
    registry = CheckRegistry(_registries[-1])
    _registries.append(registry)
    try:
        yield registry
    finally:
        _registries.remove(registry)
