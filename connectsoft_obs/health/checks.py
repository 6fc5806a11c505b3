"""Definitions of checks and startup tasks, as applications declare them."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from types import CodeType
from typing import Any, TypeAlias

from connectsoft_obs.errors import ConfigurationError

CheckFunction: TypeAlias = Callable[[], Awaitable[Any] | Any]
"""A sync or async function without parameters. It passes by returning and fails by raising."""


class Probe(StrEnum):
    """The Kubernetes probe types. A failed liveness probe causes a restart, a failed readiness probe stops traffic."""

    LIVENESS = "liveness"
    READINESS = "readiness"
    STARTUP = "startup"


class Scope(StrEnum):
    """Which instances a failure affects: this instance only, or all instances at the same time."""

    INSTANCE = "instance"
    SHARED = "shared"


@dataclass(frozen=True, slots=True)
class Check:
    """One declared check.

    Args:
        name: unique within its probe.
        probe: the probe it belongs to.
        run: called without arguments; sync or async.
        timeout: maximum duration of a run in seconds; None uses the setting `check_timeout`.
        interval: seconds between runs; None uses the setting `check_interval`.
        critical: whether a failure fails the probe; otherwise the probe is degraded.
        scope: whether a failure affects this instance or all instances.
        tags: tags shown in reports.
        failure_threshold: consecutive failures after which a healthy check becomes unhealthy.
        success_threshold: consecutive passes after which an unhealthy check becomes healthy.
        origin: where it was declared; the same after a reload.

    Raises:
        ConfigurationError: a value is invalid.
    """

    name: str
    probe: Probe
    run: CheckFunction
    timeout: float | None = None
    interval: float | None = None
    critical: bool = True
    scope: Scope = Scope.INSTANCE
    tags: tuple[str, ...] = ()
    failure_threshold: int = 2
    success_threshold: int = 1
    origin: DeclarationOrigin | None = None

    def __post_init__(self) -> None:
        declaration = f"{self.probe}_check({self.name!r})"
        _require_name(declaration, self.name)
        _require_callable(declaration, self.run)
        for option in ("timeout", "interval"):
            value = getattr(self, option)
            if value is not None:
                _require_positive(f"{declaration}: {option}", value)
        for option in ("failure_threshold", "success_threshold"):
            value = getattr(self, option)
            if not isinstance(value, int) or value < 1:
                raise ConfigurationError(
                    f"{declaration}: {option}={value!r}", "it must be an integer of at least 1", "Set it to 1 or more."
                )


@dataclass(frozen=True, slots=True)
class StartupTask:
    """One task that must complete before the service is ready.

    Args:
        name: unique among startup tasks.
        run: called once, without arguments; sync or async.
        timeout: maximum duration in seconds.
        origin: where it was declared; the same after a reload.

    Raises:
        ConfigurationError: a value is invalid.
    """

    name: str
    run: CheckFunction
    timeout: float
    origin: DeclarationOrigin | None = None

    def __post_init__(self) -> None:
        declaration = f"startup_task({self.name!r})"
        _require_name(declaration, self.name)
        _require_callable(declaration, self.run)
        _require_positive(f"{declaration}: timeout", self.timeout)


@dataclass(frozen=True, slots=True)
class DeclarationOrigin:
    """Where a check, startup task or listener was declared. Two origins are equal if their source and name are equal.

    Args:
        source: the source file; the module if the code is in no file, as in a notebook.
        name: qualified name of the function, or the line of the declaration.
        label: module and name, for error messages.
    """

    source: str
    name: str
    label: str = field(compare=False)

    def __str__(self) -> str:
        return self.label


def declaration_origin(run: Callable[..., Any], depth: int) -> DeclarationOrigin:
    """Where a function is defined: its source file and qualified name.

    The file and not the module, because `python app.py` that starts a server with `"app:app"` imports one file as
    `__main__` (`__mp_main__` in a spawned process) and as `app`. Lambdas, methods and functions created by a factory are
    identified by the file and line of the declaration, `depth` frames up the stack, because their qualified names are
    not unique. A reloaded module declares from the same line.
    """
    run = inspect.unwrap(run)
    name, code = str(getattr(run, "__qualname__", "")), getattr(run, "__code__", None)
    if name and "<" not in name and not inspect.ismethod(run):
        module = str(getattr(run, "__module__", ""))
        return DeclarationOrigin(_source(code, module), name, f"{module}.{name}")
    frame = sys._getframe(depth)  # noqa: SLF001  as `warnings` and `logging` do
    module, line = str(frame.f_globals.get("__name__", "")), str(frame.f_lineno)
    return DeclarationOrigin(_source(frame.f_code, module), line, f"{module}:{line}")


def _source(code: CodeType | None, module: str) -> str:
    file = getattr(code, "co_filename", "")
    return os.path.realpath(file) if os.path.isfile(file) else module


def _require_name(declaration: str, name: Any) -> None:
    if not isinstance(name, str) or not name or not name.isprintable():
        raise ConfigurationError(
            declaration, "the name must be a printable string", "Use the name of the dependency, for example postgres."
        )


def _require_callable(declaration: str, run: Any) -> None:
    if not callable(run):
        raise ConfigurationError(declaration, f"{run!r} is not callable", "Pass a function without parameters.")


def _require_positive(field: str, seconds: float) -> None:
    if not seconds > 0:
        raise ConfigurationError(
            f"{field}={seconds!r}", "it must be greater than 0 seconds", "Set it to a positive number of seconds."
        )
