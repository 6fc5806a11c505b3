"""Resolves the Telemetry for a run, and keeps the active runs and recorders of each Telemetry."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.process.fork_safety import register_fork_handler
from connectsoft_obs.telemetry import Telemetry, current, resolve

_printed_errors: set[str] = set()


def resolve_or_none() -> Telemetry | None:
    """The current Telemetry, created if there is none; None if the settings are invalid or telemetry is disabled."""
    telemetry = current()
    if telemetry is None:
        try:
            telemetry = resolve()
        except ConfigurationError as error:
            if str(error) not in _printed_errors:
                _printed_errors.add(str(error))
                # `configure()` and `worker()` raise it; here it must not be raised into the application.
                print(f"CRITICAL invalid configuration of connectsoft_obs: {error}", file=sys.stderr)  # noqa: T201
            return None
    return None if telemetry.settings.disabled else telemetry


_MAX_RECORDERS = 4096
"""Limit of cached recorders; further ones are created for each run."""

R = TypeVar("R")


class ActiveRun(Protocol):
    """A run that has started and not ended."""

    start_ns: int
    """Start in nanoseconds of `time.perf_counter_ns`."""

    @property
    def deadline_ns(self) -> int | None:
        """Deadline in nanoseconds of `time.perf_counter_ns`, None without a timeout."""

    def end(self, error: BaseException | None) -> None:
        """End the run."""


class WorkRegistry:
    """Active runs, heartbeats and recorders of one Telemetry. Thread-safe: each change is one set or dict operation."""

    def __init__(self) -> None:
        self.runs: set[ActiveRun] = set()
        self.heartbeats: dict[str, Any] = {}
        self.on_run_end: Callable[[ActiveRun], None] | None = None
        """Called for each run that ends while the process drains."""
        self._recorders: dict[tuple[object, ...], Any] = {}
        register_fork_handler(self)

    def get_recorder(self, key: tuple[object, ...], create: Callable[[], R]) -> R:
        """The recorder with this key; created on first use. The key begins with the class of the recorder."""
        recorder = self._recorders.get(key)
        if recorder is None:
            recorder = new = create()
            if len(self._recorders) < _MAX_RECORDERS:
                recorder = self._recorders.setdefault(key, new)
        result: R = recorder
        return result

    def after_fork_in_child(self) -> None:
        """In a forked child: active runs belong to the parent."""
        self.runs.clear()
        self.heartbeats.clear()


_registries: weakref.WeakKeyDictionary[Telemetry, WorkRegistry] = weakref.WeakKeyDictionary()


def registry_of(telemetry: Telemetry) -> WorkRegistry:
    """The registry of a Telemetry."""
    registry = _registries.get(telemetry)
    return _registries.setdefault(telemetry, WorkRegistry()) if registry is None else registry
