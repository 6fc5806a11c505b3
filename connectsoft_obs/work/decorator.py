"""The one line for background work: `@obs.job` gives a function what the middleware gives a request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar, overload

from connectsoft_obs.context import clean
from connectsoft_obs.ledger import failed
from connectsoft_obs.telemetry import Telemetry, current
from connectsoft_obs.vocabulary import DIMENSIONS, Trigger
from connectsoft_obs.work.arguments import Arguments
from connectsoft_obs.work.arrival import ALONE, Arrival
from connectsoft_obs.work.blocks import attempted
from connectsoft_obs.work.expected import declare
from connectsoft_obs.work.found import found
from connectsoft_obs.work.jobs import JobRecord, job_record
from connectsoft_obs.work.known import know
from connectsoft_obs.work.names import named
from connectsoft_obs.work.run import Run
from connectsoft_obs.work.schedule import Schedule
from connectsoft_obs.work.serving import adopt_loop
from connectsoft_obs.work.steps import observed
from connectsoft_obs.work.terms import Terms

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
    terms = Terms.checked("job", timeout, rejects)

    def decorate(function: Any) -> Any:
        if isinstance(function, classmethod | staticmethod):
            return type(function)(decorate(function.__func__))
        title = named("job", given, function)
        planned = None if schedule is None else Schedule(title, schedule, timezone, grace)
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
            know(title, begun_by)
        if planned is not None:
            declare(planned)
        return observed(function, made.run, timeout)

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
        terms: Terms,
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
        self._record: JobRecord | None = None
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
            arrival = ALONE if self._arguments is None or record is None else self._asked(record, args, kwargs)
            return Run(record, arrival, self._terms)
        except Exception as failure:  # noqa: BLE001  ours; the function is called without us
            failed("work.open", failure)
            return Run(None, ALONE, self._terms)

    def _asked(self, record: JobRecord, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arrival:
        try:
            assert self._arguments is not None
            return self._arrival(record, self._arguments.of(args, kwargs))
        except Exception as failure:  # noqa: BLE001  ours; the run goes on without what was to be recorded
            record.telemetry.ledger.error("work.arguments", failure)
            return ALONE

    def _bind(self) -> JobRecord | None:
        telemetry = self._given or found()
        if telemetry is None or telemetry.settings.disabled:
            return None
        adopt_loop(telemetry)
        self._record = job_record(telemetry, self._name, self._trigger)
        return self._record

    def _arrival(self, record: JobRecord, values: dict[str, Any]) -> Arrival:
        number = values.get(self._attempt, 0) if self._attempt else 0
        arrival = attempted(record.title, int(number), self._attempts)
        facts = {DIMENSIONS.get(name, name): values[name] for name in self._recorded if name in values}
        return replace(arrival, facts=clean(facts)) if facts else arrival
