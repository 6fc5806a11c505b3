"""Records runs of jobs, and creates the series of declared jobs with value 0 at start-up."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from math import inf
from typing import TYPE_CHECKING

from opentelemetry.context import Context
from opentelemetry.trace import SpanKind

from connectsoft_obs.signals.logs.levels import ERROR
from connectsoft_obs.signals.metrics import NumberSeries
from connectsoft_obs.telemetry import Telemetry, current, on_configured
from connectsoft_obs.vocabulary import (
    EVENT_JOB_EXCEPTION,
    JOB_ACTIVE,
    JOB_DURATION,
    JOB_LAST_RUN,
    JOB_LAST_SUCCESS,
    JOB_NAME,
    JOB_RETRIES,
    JOB_SCHEDULE,
    JOB_TRIGGER,
    MESSAGING_DESTINATION,
    MESSAGING_SYSTEM,
    SLO_NAME,
    ErrorType,
    Outcome,
    Trigger,
)
from connectsoft_obs.work.message_recorder import ReceivedMessage
from connectsoft_obs.work.recorder import RunRecorder
from connectsoft_obs.work.registry import registry_of
from connectsoft_obs.work.schedule import schedule_of
from connectsoft_obs.work.schedule_metrics import schedule_metrics_of

if TYPE_CHECKING:
    from connectsoft_obs.slo.declared_slos import DeclaredSLOs
    from connectsoft_obs.work.inbound import InboundContext


class JobRecorder(RunRecorder):
    """Records the runs of one job with one trigger.

    Args:
        telemetry: the Telemetry that records.
        job: name of the job.
        trigger: what starts the job.
        source: messaging system and queue of its runs, for workers of a task queue.
    """

    def __init__(self, telemetry: Telemetry, job: str, trigger: Trigger, source: tuple[str, str] | None = None) -> None:
        attributes = {JOB_NAME: job, JOB_TRIGGER: trigger.value}
        self._schedule = schedule_of(job)
        if self._schedule is not None:
            attributes[JOB_SCHEDULE] = str(self._schedule)
        if source is not None:
            attributes |= {MESSAGING_SYSTEM: source[0], MESSAGING_DESTINATION: source[1]}
        super().__init__(
            telemetry,
            job,
            f"run {job}",
            metric=JOB_DURATION,
            attributes=attributes,
            nested_span_kind=SpanKind.INTERNAL,
            logger="connectsoft_obs.job",
            exception_event=EVENT_JOB_EXCEPTION,
        )
        metrics = telemetry.metrics
        self._label_prefix = (job, trigger.value)
        self._active = metrics.family(JOB_ACTIVE).number_series(*self._label_prefix)
        self._retries = metrics.family(JOB_RETRIES).number_series(*self._label_prefix)
        self._job = job
        self._last_run: NumberSeries | None = None  # created with the first run, so that alerts can detect its absence
        self._last_success: NumberSeries | None = None
        self._received_message = None if source is None else ReceivedMessage(telemetry, *source)
        self._schedule_metrics = None if self._schedule is None else schedule_metrics_of(telemetry)
        self.bound_outcome(
            Outcome.SUCCESS, None, False
        )  # creates the series with 0, so that `increase()` sees the first run

    def labels(self, outcome: Outcome, error: str) -> tuple[str, ...]:
        """Label values of the duration."""
        return (*self._label_prefix, outcome.value, error)

    def on_start(self, inbound: InboundContext) -> None:
        """Increment the number of active runs."""
        self._active.cells[0] += 1.0  # same as `add`, without the call
        if inbound.attempt > 1 and inbound.count:
            self._retries.add(1)
        if self._received_message is not None:
            self._received_message.count(inbound)
        if self._schedule is not None and self._schedule_metrics is not None:
            # A task queue delivers a killed task again, or its worker records it.
            on_killed = self._record_killed_run if self._received_message is None else None
            self._schedule_metrics.on_start(self._schedule, on_killed)

    def on_end(self) -> None:
        """Decrement the number of active runs."""
        self._active.cells[0] -= 1.0
        if self._schedule is not None and self._schedule_metrics is not None:
            self._schedule_metrics.on_end(self._schedule)

    def on_outcome(self, inbound: InboundContext, outcome: Outcome, now: int) -> None:
        """Record the outcome of a run."""
        timestamp, success = now / 1_000_000_000, outcome is Outcome.SUCCESS
        if self._last_run is None:
            self._last_run = self.telemetry.metrics.family(JOB_LAST_RUN).number_series(self._job)
        self._last_run.cells[0] = timestamp
        if success:
            if self._last_success is None:
                self._last_success = self.telemetry.metrics.family(JOB_LAST_SUCCESS).number_series(self._job)
            self._last_success.cells[0] = timestamp
        if self._schedule is not None and self._schedule_metrics is not None:
            self._schedule_metrics.on_finish(self._schedule, success)

    def _record_killed_run(self, began: float) -> None:
        """Record a run whose process was killed, for example for lack of memory. Its duration is unknown: 0."""
        telemetry, bound = self.telemetry, self.bound_outcome(Outcome.FAILURE, ErrorType.KILLED.value, False)
        assert bound.duration is not None
        bound.duration.observe(0.0)
        if bound.count_slo_event is not None:
            bound.count_slo_event(inf)
        last_run = telemetry.metrics.family(JOB_LAST_RUN).number_series(self._job)
        last_run.cells[0] = max(last_run.cells[0], began)
        started = datetime.fromtimestamp(began, UTC).isoformat(timespec="seconds")
        fields = {**bound.fields, "started": started}
        telemetry.logs.emit_with_context(Context(), ERROR, bound.message, fields, self.logger)


def job_recorder(
    telemetry: Telemetry, job: str, trigger: Trigger, source: tuple[str, str] | None = None
) -> JobRecorder:
    """The recorder of a job; cached."""
    key = (JobRecorder, job, trigger, source)
    return registry_of(telemetry).get_recorder(key, lambda: JobRecorder(telemetry, job, trigger, source))


_MAX_JOBS = 1000
"""Limit of declared jobs; a decorator that is applied for each call is not a declaration."""

_declared_jobs: dict[tuple[str, Trigger], None] = {}


def register_job(job: str, trigger: Trigger) -> None:
    """Create the series of a declared job, now or when a Telemetry begins to serve. Thread-safe."""
    if len(_declared_jobs) < _MAX_JOBS:
        _declared_jobs[job, trigger] = None
        telemetry = current()
        if telemetry is not None and telemetry.serving:
            job_recorder(telemetry, job, trigger)


def declared_jobs() -> set[str]:
    """Names of the jobs that this process has declared until now."""
    return {job for job, _ in list(_declared_jobs)}


def _on_serve(telemetry: Telemetry) -> None:
    for job, trigger in list(_declared_jobs):
        job_recorder(telemetry, job, trigger)
    if telemetry.slos is not None:
        _warn_misspelled_jobs(telemetry, telemetry.slos)


def _warn_misspelled_jobs(telemetry: Telemetry, declared: DeclaredSLOs) -> None:
    from connectsoft_obs.slo.declared_slos import misspelled_jobs  # not imported by services without SLOs

    for job in misspelled_jobs(declared.slos, declared_jobs()):
        telemetry.internal_telemetry.warn_once(
            (job.slo, job.name),
            "an SLO names a job that this process does not declare, so no run is counted for it here",
            {SLO_NAME: job.slo, JOB_NAME: job.name, "instead": job.advice},
        )


on_configured(lambda telemetry: telemetry.on_serve(partial(_on_serve, telemetry)))
