"""The decorators that declare checks, tasks of start-up and listeners. The function stays as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.health.checks import Check, Function, Probe, Scope, Task, origin
from connectsoft_obs.health.registry import CheckRegistry, Listener, declared

F = TypeVar("F", bound=Function)
L = TypeVar("L", bound=Listener)


def readiness_check(
    name: str,
    *,
    timeout: float | None = None,
    interval: float | None = None,
    critical: bool = True,
    scope: Scope | str = Scope.INSTANCE,
    tags: Iterable[str] = (),
    failure_threshold: int = 2,
    success_threshold: int = 1,
    into: CheckRegistry | None = None,
) -> Callable[[F], F]:
    """Declare a function, sync or async, that passes by returning and fails by raising.

    It runs in the background and never for a probe; never twice at once; first before readiness can turn green.
    A failing critical check takes this instance out of rotation; another one is reported and degrades. An async
    function runs on the application's event loop, another one in a thread.

    Args:
        name: what it looks at; unique.
        timeout: seconds a run may take; the setting `check_timeout` (2) by default.
        interval: seconds between runs; the setting `check_interval` (5) by default.
        critical: whether its failure makes readiness fail.
        scope: `instance`, or `shared` for what all instances use at once: a start-up warning then tells what a
            critical check of it can do.
        tags: words for whoever reads reports.
        failure_threshold: consecutive failures that turn it red once it has passed.
        success_threshold: consecutive passes that turn it green again.
        into: where it is declared; the process, or a test's capture, by default.

    Raises:
        ConfigurationError: another function has the name, or a value cannot work.
    """

    def declare(run: F) -> F:
        check = Check(
            name,
            Probe.READINESS,
            run,
            timeout,
            interval,
            critical,
            _scope(name, scope),
            tuple(tags),
            failure_threshold,
            success_threshold,
            origin(run, 2),
        )
        (into or declared()).add(check)
        return run

    return declare


def liveness_check(
    name: str,
    *,
    timeout: float | None = None,
    interval: float | None = None,
    tags: Iterable[str] = (),
    failure_threshold: int = 2,
    success_threshold: int = 1,
    into: CheckRegistry | None = None,
) -> Callable[[F], F]:
    """Declare a function that fails when only a restart can help: a dead thread, a corrupt cache; never a dependency.

    Runs like a readiness check. Until its first run liveness is green.

    Args:
        name: what it looks at; unique.
        timeout: seconds a run may take; the setting `check_timeout` (2) by default.
        interval: seconds between runs; the setting `check_interval` (5) by default.
        tags: words for whoever reads reports.
        failure_threshold: consecutive failures that turn it red.
        success_threshold: consecutive passes that turn it green again.
        into: where it is declared; the process, or a test's capture, by default.

    Raises:
        ConfigurationError: another function has the name, or a value cannot work.
    """

    def declare(run: F) -> F:
        check = Check(
            name,
            Probe.LIVENESS,
            run,
            timeout,
            interval,
            True,
            Scope.INSTANCE,
            tuple(tags),
            failure_threshold,
            success_threshold,
            origin(run, 2),
        )
        (into or declared()).add(check)
        return run

    return declare


def startup_task(name: str, *, timeout: float = 300.0, into: CheckRegistry | None = None) -> Callable[[F], F]:
    """Declare a function, sync or async, that runs once when the service has started, before it is ready.

    Tasks run in the order of their declaration, in the background, after the application's own lifespan start-up, so
    that probers see 503 meanwhile instead of a closed port. `/health/startup` and `/health/ready` are red until all
    have run; liveness is not affected. One that raises or takes too long ends the start-up: both stay red, with the
    reason, and the platform's startup probe decides.

    Args:
        name: what it does; unique.
        timeout: seconds it may take.
        into: where it is declared; the process, or a test's capture, by default.

    Raises:
        ConfigurationError: another function has the name, or a value cannot work.
    """

    def declare(run: F) -> F:
        (into or declared()).add_task(Task(name, run, timeout, origin(run, 2)))
        return run

    return declare


def on_health_change(listener: L) -> L:
    """Have a function called with each `Transition` of this process's health, one after the other, in a thread.

    What it raises is counted and ignored.
    """
    declared().listen(listener, origin(listener, 2))
    return listener


def _scope(name: str, scope: Scope | str) -> Scope:
    try:
        return Scope(scope)
    except ValueError:
        raise ConfigurationError(
            f"readiness_check({name!r}): scope={scope!r}", "it is neither instance nor shared", "Use one of the two."
        ) from None
