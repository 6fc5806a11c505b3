"""The `@job` decorator, the `operation()` context manager and `skip()`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar, overload

from opentelemetry.context import Context

from connectsoft_obs.context import current_operation, sanitize
from connectsoft_obs.internal_telemetry import record_internal_error
from connectsoft_obs.telemetry import Telemetry, current
from connectsoft_obs.vocabulary import DIMENSIONS, Trigger
from connectsoft_obs.work import retry_links
from connectsoft_obs.work.inbound import NO_INBOUND, InboundContext
from connectsoft_obs.work.job_recorder import JobRecorder, job_recorder, register_job
from connectsoft_obs.work.options import NO_TERMS, Arguments, RunOptions, resolve_name
from connectsoft_obs.work.registry import resolve_or_none
from connectsoft_obs.work.run import Run
from connectsoft_obs.work.schedule import JobSchedule
from connectsoft_obs.work.schedule_metrics import declare
from connectsoft_obs.work.worker_process import use_running_loop
from connectsoft_obs.work.wrappers import wrap


def operation(
    name: str,
    *,
    trigger: Trigger | str = Trigger.OTHER,
    parent: Context | None = None,
    timeout: float | None = None,
    attempt: int = 0,
    attempts: int = 0,
    rejects: type[BaseException] | tuple[type[BaseException], ...] = (),
    telemetry: Telemetry | None = None,
) -> Run:
    """Observe a block of work as one run: a span, a duration, an in-flight count and a line.

    `with obs.operation("import-file"): ...`, in sync and async code alike. What the block raises is raised.

    Args:
        name: static name; it becomes a metric label.
        trigger: what started it.
        parent: what it continues, from `extract()`; what runs now by default.
        timeout: seconds after which it counts as timed out; a block is observed, not interrupted.
        attempt: which attempt this is, from 1, in a loop that tries again; it links to the one before.
        attempts: how many there are at most; a failure before the last one is a retry and not a failure.
        rejects: exceptions that mean the input is at fault: the outcome is `rejected`.
        telemetry: the Telemetry to use instead of the process's own.
    """
    terms = NO_TERMS if timeout is None and rejects == () else RunOptions.checked("operation", timeout, rejects)
    begun_by, record, arrival = Trigger(trigger), None, NO_INBOUND
    try:
        given = telemetry or resolve_or_none()
        record = None if given is None else job_recorder(given, name, begun_by)
        if parent is not None or attempt:
            arrival = inbound_of_attempt(f"run {name}", attempt, attempts, parent)
    except Exception as failure:  # noqa: BLE001  ours; the block runs without us
        record_internal_error("work.start", failure)
    return Run(record, arrival, terms)


def inbound_of_attempt(title: str, attempt: int, most: int, parent: Context | None = None) -> InboundContext:
    """The arrival of an attempt, linked to the attempt before it in the same task or thread."""
    previous = retry_links.previous_attempt(title) if attempt > 1 else None
    links = () if previous is None else (previous,)
    return InboundContext(base=parent, explicit=parent is not None, links=links, attempt=attempt, most=most)


def skip(reason: str) -> None:
    """Say that the run that is current had nothing to do, or nothing that it could: its outcome is `rejected`.

    It does not raise, so `return obs.skip("no orders")` is how a function ends with it; an exception after it decides
    the outcome itself. Outside a job, consumer or `operation` block it does nothing.

    Args:
        reason: for the span and the line; never a metric label.
    """
    run = current_operation()
    if isinstance(run, Run):
        run.reason = reason


F = TypeVar("F", bound=Callable[..., Any])


@overload
def job(function: F, /) -> F: ...


@overload
def job(
    name: str | None = None,
    /,
    *,
    trigger: Trigger | str | None = None,
    timeout: float | None = None,
    schedule: str | timedelta | None = None,
    grace: float = 300.0,
    timezone: str = "UTC",
    attempt: str | None = None,
    attempts: int = 0,
    rejects: type[BaseException] | tuple[type[BaseException], ...] = (),
    record: Sequence[str] = (),
    telemetry: Telemetry | None = None,
) -> Callable[[F], F]: ...


def job(  # noqa: PLR0913  each is a fact about the job, by name only
    name: Any = None,
    /,
    *,
    trigger: Trigger | str | None = None,
    timeout: float | None = None,
    schedule: str | timedelta | None = None,
    grace: float = 300.0,
    timezone: str = "UTC",
    attempt: str | None = None,
    attempts: int = 0,
    rejects: type[BaseException] | tuple[type[BaseException], ...] = (),
    record: Sequence[str] = (),
    telemetry: Telemetry | None = None,
) -> Any:
    """Observe each call of a function as one run of a job: a span, a duration, an in-flight count and a line.

    For def, async def, generators and async generators, methods, classmethods, staticmethods and partials; bare
    (`@obs.job`) or with options. The function keeps its signature and its kind, and what it returns or raises is
    returned or raised. Runs nest. Safe from any thread and event loop, also under trio.

    Args:
        name: static name of the job, a metric label; the function's own name by default.
        trigger: what starts it (timer, queue, manual, startup, other); timer for a job with a schedule.
        timeout: seconds a run may take. An async function is cancelled then and TimeoutError raised; a sync one is
            observed: what it returns is returned, and the outcome is `timeout`.
        schedule: when it should run: five fields of cron, or a timedelta between runs. It schedules nothing; it
            declares, so that a run that did not happen can be seen.
        grace: seconds after its time until a scheduled run counts as missed.
        timezone: IANA name of the zone that `schedule` is meant in.
        attempt: name of the argument that says which attempt this is, from 1.
        attempts: how many attempts there are at most; a failure before the last one is a retry and not a failure.
        rejects: exceptions that mean the input is at fault: the outcome is `rejected`.
        record: names of arguments to put on the span and on all lines of the run; none is recorded otherwise.
        telemetry: the Telemetry to use instead of the process's own.

    Raises:
        ConfigurationError: a name, schedule, timezone, limit or argument that cannot work.
    """
    terms = RunOptions.checked("job", timeout, rejects)

    def decorate(function: Any) -> Any:
        if isinstance(function, classmethod | staticmethod):
            return type(function)(decorate(function.__func__))
        title = resolve_name("job", given, function)
        planned = None if schedule is None else JobSchedule(title, schedule, timezone, grace)
        begun_by = Trigger(trigger or (Trigger.OTHER if planned is None else Trigger.TIMER))
        made = Job(
            title,
            function,
            trigger=begun_by,
            terms=terms,
            attempt=attempt,
            attempts=attempts,
            record=record,
            telemetry=telemetry,
        )
        if telemetry is None:
            register_job(title, begun_by)
        if planned is not None:
            declare(planned)
        return wrap(function, made.run, timeout)

    if name is None or isinstance(name, str):
        given: str | None = name
        return decorate
    given = None
    return decorate(name)


class Job:
    """One decorated function: opens the run of each call. Thread-safe."""

    def __init__(
        self,
        name: str,
        function: Any,
        *,
        trigger: Trigger,
        terms: RunOptions,
        attempt: str | None,
        attempts: int,
        record: Sequence[str],
        telemetry: Telemetry | None,
    ) -> None:
        self._name = name
        self._trigger = trigger
        self._terms = terms
        self._attempts = attempts
        self._given = telemetry
        self._record: JobRecorder | None = None
        wanted = [*record, *([attempt] if attempt else [])]
        self._arguments = Arguments("job", function, wanted) if wanted else None
        self._attempt = attempt
        self._recorded = frozenset(record)

    def run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Run:
        """The run of one call. Never raises."""
        try:
            telemetry = self._given or current()
            record = self._record
            if record is None or record.telemetry is not telemetry:
                record = self._bind()
            arrival = NO_INBOUND if self._arguments is None or record is None else self._asked(record, args, kwargs)
            return Run(record, arrival, self._terms)
        except Exception as failure:  # noqa: BLE001  ours; the function is called without us
            record_internal_error("work.start", failure)
            return Run(None, NO_INBOUND, self._terms)

    def _asked(self, record: JobRecorder, args: tuple[Any, ...], kwargs: dict[str, Any]) -> InboundContext:
        try:
            assert self._arguments is not None
            return self._arrival(record, self._arguments.collect(args, kwargs))
        except Exception as failure:  # noqa: BLE001  ours; the run goes on without what was to be recorded
            record.telemetry.internal_telemetry.record_error("work.arguments", failure)
            return NO_INBOUND

    def _bind(self) -> JobRecorder | None:
        telemetry = self._given or resolve_or_none()
        if telemetry is None or telemetry.settings.disabled:
            return None
        use_running_loop(telemetry)
        self._record = job_recorder(telemetry, self._name, self._trigger)
        return self._record

    def _arrival(self, record: JobRecorder, values: dict[str, Any]) -> InboundContext:
        number = values.get(self._attempt, 0) if self._attempt else 0
        arrival = inbound_of_attempt(record.title, int(number), self._attempts)
        bound_attributes = {DIMENSIONS.get(name, name): values[name] for name in self._recorded if name in values}
        return replace(arrival, bound_attributes=sanitize(bound_attributes)) if bound_attributes else arrival
