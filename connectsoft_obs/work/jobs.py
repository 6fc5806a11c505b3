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
from connectsoft_obs.work.options import DEFAULT_OPTIONS, Arguments, RunOptions, resolve_name
from connectsoft_obs.work.registry import resolve_or_none
from connectsoft_obs.work.run import Run
from connectsoft_obs.work.schedule import JobSchedule
from connectsoft_obs.work.schedule_metrics import declare_schedule
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
    """Observe a block of code as one run of a job: a span, a duration, an active count and a log line.

    `with obs.operation("import-file"): ...`, for sync and async code. Exceptions propagate.

    Args:
        name: static name; it becomes a metric label.
        trigger: what started it.
        parent: parent context, from `extract()`; the current context by default.
        timeout: seconds after which the run counts as timed out; the block is not interrupted.
        attempt: number of the attempt, from 1, in a retry loop; links to the previous attempt.
        attempts: maximum number of attempts; a failure before the last one counts as a retry.
        rejects: exceptions that mean that the input is invalid: the outcome is `rejected`.
        telemetry: a Telemetry other than that of the process.
    """
    options = DEFAULT_OPTIONS if timeout is None and rejects == () else RunOptions.create("operation", timeout, rejects)
    job_trigger, recorder, inbound = Trigger(trigger), None, NO_INBOUND
    try:
        telemetry = telemetry or resolve_or_none()
        recorder = None if telemetry is None else job_recorder(telemetry, name, job_trigger)
        if parent is not None or attempt:
            inbound = inbound_of_attempt(f"run {name}", attempt, attempts, parent)
    except Exception as failure:  # noqa: BLE001  must not affect the block
        record_internal_error("work.start", failure)
    return Run(recorder, inbound, options)


def inbound_of_attempt(
    span_name: str, attempt: int, max_attempts: int, parent: Context | None = None
) -> InboundContext:
    """Inbound context of an attempt, with a link to the previous attempt in the same task or thread."""
    previous = retry_links.previous_attempt(span_name) if attempt > 1 else None
    links = () if previous is None else (previous,)
    return InboundContext(
        context=parent, is_explicit=parent is not None, links=links, attempt=attempt, max_attempts=max_attempts
    )


def skip(reason: str) -> None:
    """Set the outcome of the current run to `rejected`: there was nothing to do, or the input cannot be processed.

    Does not raise and does not end the function: use `return obs.skip("no orders")`. An exception that is raised after
    it determines the outcome instead. Outside a job, consumer or `operation` block it has no effect.

    Args:
        reason: recorded on the span and the log line; never a metric label.
    """
    run = current_operation()
    if isinstance(run, Run):
        run.skip_reason = reason


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


def job(  # noqa: PLR0913  keyword arguments only
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
    """Observe each call of a function as one run of a job: a span, a duration, an active count and a log line.

    For def, async def, generators, async generators, methods, classmethods, staticmethods and partials; with or without
    options (`@obs.job`). Signature, kind, return values and exceptions of the function stay the same. Runs can be nested.
    Safe for threads and event loops, also with trio.

    Args:
        name: static name of the job, a metric label; the name of the function by default.
        trigger: what starts the job (timer, queue, manual, startup, other); timer for a job with a schedule.
        timeout: time limit in seconds. An async function is cancelled and TimeoutError raised; a sync function is not
            interrupted, but the outcome is `timeout`.
        schedule: cron expression with five fields, or a timedelta between runs. This does not schedule the job. It
            declares when it is due, so that missed runs can be detected.
        grace: seconds after the due time until a scheduled run counts as missed.
        timezone: IANA time zone of `schedule`.
        attempt: name of the argument with the number of the attempt, from 1.
        attempts: maximum number of attempts; a failure before the last one counts as a retry.
        rejects: exceptions that mean that the input is invalid: the outcome is `rejected`.
        record: names of arguments that are recorded on the span and log lines of the run; none by default.
        telemetry: a Telemetry other than that of the process.

    Raises:
        ConfigurationError: a name, schedule, time zone, timeout or argument is invalid.
    """
    options = RunOptions.create("job", timeout, rejects)

    def decorate(function: Any) -> Any:
        if isinstance(function, classmethod | staticmethod):
            return type(function)(decorate(function.__func__))
        job_name = resolve_name("job", static_name, function)
        job_schedule = None if schedule is None else JobSchedule(job_name, schedule, timezone, grace)
        job_trigger = Trigger(trigger or (Trigger.OTHER if job_schedule is None else Trigger.TIMER))
        decorated = Job(
            job_name,
            function,
            trigger=job_trigger,
            options=options,
            attempt=attempt,
            attempts=attempts,
            record=record,
            telemetry=telemetry,
        )
        if telemetry is None:
            register_job(job_name, job_trigger)
        if job_schedule is not None:
            declare_schedule(job_schedule)
        return wrap(function, decorated.run, timeout)

    if name is None or isinstance(name, str):
        static_name: str | None = name
        return decorate
    static_name = None
    return decorate(name)


class Job:
    """A decorated function: creates the run of each call. Thread-safe."""

    def __init__(
        self,
        name: str,
        function: Any,
        *,
        trigger: Trigger,
        options: RunOptions,
        attempt: str | None,
        attempts: int,
        record: Sequence[str],
        telemetry: Telemetry | None,
    ) -> None:
        self._name = name
        self._trigger = trigger
        self._options = options
        self._max_attempts = attempts
        self._telemetry = telemetry
        self._recorder: JobRecorder | None = None
        arguments = [*record, *([attempt] if attempt else [])]
        self._arguments = Arguments("job", function, arguments) if arguments else None
        self._attempt_argument = attempt
        self._recorded_arguments = frozenset(record)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without objects of this process, for pickle, cloudpickle and `copy.deepcopy`."""
        return {**self.__dict__, "_recorder": None}

    def run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Run:
        """Create the run of one call. Never raises."""
        try:
            telemetry = self._telemetry or current()
            recorder = self._recorder
            if recorder is None or recorder.telemetry is not telemetry:
                recorder = self._bind()
            inbound = (
                NO_INBOUND
                if self._arguments is None or recorder is None
                else self._collect_inbound(recorder, args, kwargs)
            )
            return Run(recorder, inbound, self._options)
        except Exception as failure:  # noqa: BLE001  must not affect the call
            record_internal_error("work.start", failure)
            return Run(None, NO_INBOUND, self._options)

    def _collect_inbound(self, recorder: JobRecorder, args: tuple[Any, ...], kwargs: dict[str, Any]) -> InboundContext:
        try:
            assert self._arguments is not None
            return self._inbound_of_arguments(recorder, self._arguments.collect(args, kwargs))
        except Exception as failure:  # noqa: BLE001  the run continues without recorded arguments
            recorder.telemetry.internal_telemetry.record_error("work.arguments", failure)
            return NO_INBOUND

    def _bind(self) -> JobRecorder | None:
        telemetry = self._telemetry or resolve_or_none()
        if telemetry is None or telemetry.settings.disabled:
            return None
        use_running_loop(telemetry)
        self._recorder = job_recorder(telemetry, self._name, self._trigger)
        return self._recorder

    def _inbound_of_arguments(self, recorder: JobRecorder, values: dict[str, Any]) -> InboundContext:
        number = values.get(self._attempt_argument, 0) if self._attempt_argument else 0
        inbound = inbound_of_attempt(recorder.span_name, int(number), self._max_attempts)
        bound_attributes = {
            DIMENSIONS.get(name, name): values[name] for name in self._recorded_arguments if name in values
        }
        return replace(inbound, bound_attributes=sanitize(bound_attributes)) if bound_attributes else inbound
