"""Decorators that declare checks, startup tasks and listeners. They return the function unchanged."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypedDict, TypeVar, Unpack

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.health.checks import Check, CheckFunction, Probe, Scope, StartupTask, declaration_origin
from connectsoft_obs.health.registry import CheckRegistry, Listener, current_registry

F = TypeVar("F", bound=CheckFunction)
L = TypeVar("L", bound=Listener)


class _CheckOptions(TypedDict, total=False):
    """Options of a `Check` that both check decorators pass on."""

    timeout: float | None
    interval: float | None
    critical: bool
    scope: Scope
    tags: tuple[str, ...]
    failure_threshold: int
    success_threshold: int


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
    """Declare a sync or async function as a readiness check; it passes by returning and fails by raising.

    It runs in the background, never during a probe request and never concurrently with itself. Readiness fails until
    every check has run once. A failing critical check takes this instance out of rotation; any other failing check
    degrades readiness. An async function runs on the application's event loop, any other function in a thread.

    Args:
        name: name of the dependency; unique among readiness checks.
        timeout: maximum duration of a run in seconds; the setting `check_timeout` (2) by default.
        interval: seconds between runs; the setting `check_interval` (5) by default.
        critical: whether a failure makes readiness fail.
        scope: `instance`, or `shared` for a dependency of all instances. A warning at startup describes the risk of a
            critical shared check.
        tags: tags shown in reports.
        failure_threshold: consecutive failures after which a healthy check becomes unhealthy.
        success_threshold: consecutive passes after which an unhealthy check becomes healthy.
        into: registry of the check; that of the process, or of the current test capture, by default.

    Raises:
        ConfigurationError: another function has the name, or a value is invalid.
    """
    return _check_decorator(
        name,
        Probe.READINESS,
        into,
        timeout=timeout,
        interval=interval,
        critical=critical,
        scope=_parse_scope(name, scope),
        tags=tuple(tags),
        failure_threshold=failure_threshold,
        success_threshold=success_threshold,
    )


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
    """Declare a function that fails if only a restart can help: a dead thread, a corrupt cache; never a dependency.

    It runs like a readiness check. Liveness passes until the first run.

    Args:
        name: name of the checked part of the process; unique among liveness checks.
        timeout: maximum duration of a run in seconds; the setting `check_timeout` (2) by default.
        interval: seconds between runs; the setting `check_interval` (5) by default.
        tags: tags shown in reports.
        failure_threshold: consecutive failures after which a healthy check becomes unhealthy.
        success_threshold: consecutive passes after which an unhealthy check becomes healthy.
        into: registry of the check; that of the process, or of the current test capture, by default.

    Raises:
        ConfigurationError: another function has the name, or a value is invalid.
    """
    return _check_decorator(
        name,
        Probe.LIVENESS,
        into,
        timeout=timeout,
        interval=interval,
        tags=tuple(tags),
        failure_threshold=failure_threshold,
        success_threshold=success_threshold,
    )


def startup_task(name: str, *, timeout: float = 300.0, into: CheckRegistry | None = None) -> Callable[[F], F]:
    """Declare a sync or async function that runs once when the service has started, before it is ready.

    Tasks run in the order of declaration, in the background, after the lifespan startup of the application, so that
    probes are answered with 503 instead of a refused connection. `/health/startup` and `/health/ready` fail until all
    tasks have completed; liveness is not affected. If a task raises or exceeds its timeout, startup has failed: both
    probes keep failing with the reason, and the startup probe of the platform decides what happens.

    Args:
        name: name of the task; unique among startup tasks.
        timeout: maximum duration in seconds.
        into: registry of the task; that of the process, or of the current test capture, by default.

    Raises:
        ConfigurationError: another function has the name, or a value is invalid.
    """

    def declare(run: F) -> F:
        (into or current_registry()).add_task(StartupTask(name, run, timeout, declaration_origin(run, 2)))
        return run

    return declare


def on_health_change(listener: L) -> L:
    """Call a function with each `Transition` of the health of this process, one at a time, in a background thread.

    Exceptions that it raises are counted and suppressed.
    """
    current_registry().add_listener(listener, declaration_origin(listener, 2))
    return listener


def _check_decorator(
    name: str, probe: Probe, registry: CheckRegistry | None, **options: Unpack[_CheckOptions]
) -> Callable[[F], F]:
    def declare(run: F) -> F:
        check = Check(name=name, probe=probe, run=run, origin=declaration_origin(run, 2), **options)
        (registry or current_registry()).add(check)
        return run

    return declare


def _parse_scope(name: str, scope: Scope | str) -> Scope:
    try:
        return Scope(scope)
    except ValueError:
        raise ConfigurationError(
            f"readiness_check({name!r}): scope={scope!r}", "it is not a scope", "Use 'instance' or 'shared'."
        ) from None
