"""What applications declare: checks, and the tasks that start-up waits for."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

from connectsoft_obs.errors import ConfigurationError

Function: TypeAlias = Callable[[], Awaitable[Any] | Any]
"""Passes by returning, fails by raising; called without arguments; sync or async."""


class Probe(StrEnum):
    """What a prober asks: restart, route traffic, or has it started."""

    LIVENESS = "liveness"
    READINESS = "readiness"
    STARTUP = "startup"


class Scope(StrEnum):
    """Who is affected when a check fails: this instance alone, or every instance at once."""

    INSTANCE = "instance"
    SHARED = "shared"


@dataclass(frozen=True, slots=True)
class Check:
    """One declared check.

    Args:
        name: unique within its probe.
        probe: which probe it belongs to.
        run: called without arguments; sync or async.
        timeout: seconds a run may take; None is the setting `check_timeout`.
        interval: seconds between runs; None is the setting `check_interval`.
        critical: whether its failure makes the probe fail; otherwise it degrades.
        scope: whether it fails for this instance or for all of them at once.
        tags: words for whoever reads reports.
        failure_threshold: consecutive failures that turn it red once it has passed.
        success_threshold: consecutive passes that turn it green again.
        origin: where it was declared; the same after a reload.
    """

    name: str
    probe: Probe
    run: Function
    timeout: float | None = None
    interval: float | None = None
    critical: bool = True
    scope: Scope = Scope.INSTANCE
    tags: tuple[str, ...] = ()
    failure_threshold: int = 2
    success_threshold: int = 1
    origin: str = ""

    def __post_init__(self) -> None:
        given = f"{self.probe}_check({self.name!r})"
        _named(given, self.name)
        _callable(given, self.run)
        for word in ("timeout", "interval"):
            value = getattr(self, word)
            if value is not None and not value > 0:
                raise ConfigurationError(f"{given}: {word}={value!r}", "it takes time", "Give seconds above 0.")
        for word in ("failure_threshold", "success_threshold"):
            value = getattr(self, word)
            if not isinstance(value, int) or value < 1:
                raise ConfigurationError(f"{given}: {word}={value!r}", "it counts runs", "Give 1 or more.")


@dataclass(frozen=True, slots=True)
class Task:
    """One task that start-up waits for.

    Args:
        name: unique.
        run: called once, without arguments; sync or async.
        timeout: seconds it may take.
        origin: where it was declared; the same after a reload.
    """

    name: str
    run: Function
    timeout: float
    origin: str = ""

    def __post_init__(self) -> None:
        given = f"startup_task({self.name!r})"
        _named(given, self.name)
        _callable(given, self.run)
        if not self.timeout > 0:
            raise ConfigurationError(f"{given}: timeout={self.timeout!r}", "it takes time", "Give seconds above 0.")


def origin(run: Callable[..., Any], depth: int) -> str:
    """Where a function was written; for a method or what a factory made, the line `depth` frames up that declares it.

    Two functions that one factory made have the same qualified name, so only the line that asked for them tells them
    apart; a module that is loaded again declares from the same line.
    """
    run = inspect.unwrap(run)
    name = str(getattr(run, "__qualname__", ""))
    if name and "<" not in name and not inspect.ismethod(run):
        return f"{getattr(run, '__module__', '')}.{name}"
    frame = sys._getframe(depth)  # noqa: SLF001  what `warnings` and `logging` use for the same question
    return f"{frame.f_globals.get('__name__', '')}:{frame.f_lineno}"


def _named(given: str, name: Any) -> None:
    if not isinstance(name, str) or not name or not name.isprintable():
        raise ConfigurationError(given, "it needs a printable name", "Name what it looks at, such as postgres.")


def _callable(given: str, run: Any) -> None:
    if not callable(run):
        raise ConfigurationError(given, f"{run!r} cannot be called", "Give a function without parameters.")
