"""Resolves the Telemetry for a run, and keeps the active runs and recorders of each Telemetry."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.process.fork_safety import register_fork_handler
from connectsoft_obs.telemetry import Telemetry, current, resolve

if TYPE_CHECKING:
    from connectsoft_obs.work.heartbeats import Heartbeat
    from connectsoft_obs.work.run import Run


_said: set[str] = set()


def resolve_or_none() -> Telemetry | None:
    """The Telemetry in force, made from the environment if there is none yet; None where that fails, or is disabled."""
    telemetry = current()
    if telemetry is None:
        try:
            telemetry = resolve()
        except ConfigurationError as error:
            if str(error) not in _said:
                _said.add(str(error))
                # Whoever calls `configure()` or `worker()` is told by an exception; here is nobody to raise it to.
                print(f"CRITICAL connectsoft_obs: {error}", file=sys.stderr)  # noqa: T201
            return None
    return None if telemetry.settings.disabled else telemetry


_KEPT = 4096
"""Records that are kept; what was never seen before is bound anew each time beyond that."""

R = TypeVar("R")


class WorkRegistry:
    """The work of one Telemetry in this process. Thread-safe: each change is one operation on a set or dictionary."""

    def __init__(self, telemetry: Telemetry) -> None:
        self.runs: set[Run] = set()
        self.loops: dict[str, Heartbeat] = {}
        self.after: Callable[[Run], None] | None = None
        """Told of each run that is over, while the process drains."""
        self._records: dict[tuple[object, ...], Any] = {}
        register_fork_handler(self)

    def record(self, key: tuple[object, ...], make: Callable[[], R]) -> R:
        """The record with this key, made when first asked for; the key begins with the class of the record."""
        known = self._records.get(key)
        if known is None:
            known = made = make()
            if len(self._records) < _KEPT:
                known = self._records.setdefault(key, made)
        found: R = known
        return found

    def after_fork_in_child(self) -> None:
        """In a forked child: what ran in the parent runs there."""
        self.runs.clear()
        self.loops.clear()


_running: weakref.WeakKeyDictionary[Telemetry, WorkRegistry] = weakref.WeakKeyDictionary()


def registry_of(telemetry: Telemetry) -> WorkRegistry:
    """The work of a Telemetry."""
    known = _running.get(telemetry)
    return _running.setdefault(telemetry, WorkRegistry(telemetry)) if known is None else known
