"""Records runs of jobs, and creates the series of declared jobs with value 0 at start-up."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from opentelemetry.trace import SpanKind

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
    Outcome,
    Trigger,
)
from connectsoft_obs.work.message_recorder import ReceivedMessage
from connectsoft_obs.work.recorder import RunRecorder
from connectsoft_obs.work.registry import registry_of
from connectsoft_obs.work.schedule import schedule_of
from connectsoft_obs.work.schedule_metrics import expected

if TYPE_CHECKING:
    from connectsoft_obs.work.run import Run


class JobRecorder(RunRecorder):
    """Runs of one job, started by one kind of trigger.

    Args:
        telemetry: who records.
        job: its name.
        trigger: what starts it.
        source: messaging system and queue that its runs come from, for the workers of a task queue.
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
            inside=SpanKind.INTERNAL,
            logger="connectsoft_obs.job",
            event=EVENT_JOB_EXCEPTION,
        )
        metrics = telemetry.metrics
        self._prefix = (job, trigger.value)
        self._active = metrics.family(JOB_ACTIVE).number(*self._prefix)
        self._retries = metrics.family(JOB_RETRIES).number(*self._prefix)
        self._job = job
        self._last_run: NumberSeries | None = None  # absent until there is one, so that an alert can tell
        self._last_success: NumberSeries | None = None
        self._received = None if source is None else ReceivedMessage(telemetry, *source)
        self._expected = None if self._schedule is None else expected(telemetry)
        self.ending(Outcome.SUCCESS, None, False)  # its count exists at zero, so the first run is visible to rate()

    def labels(self, outcome: Outcome, error: str) -> tuple[str, ...]:
        """Label values of the duration."""
        return (*self._prefix, outcome.value, error)

    def on_start(self, run: Run) -> None:
        """One more is running."""
        self._active.cells[0] += 1.0  # as `add`, without the call
        if run.arrival.attempt > 1:
            self._retries.add(1)
        if self._received is not None:
            self._received.count(run)
        if self._schedule is not None and self._expected is not None:
            self._expected.on_start(self._schedule)

    def on_leave(self, run: Run) -> None:
        """One less is running."""
        self._active.cells[0] -= 1.0

    def on_finish(self, run: Run, outcome: Outcome, now: int) -> None:
        """Note when it ended."""
        moment, success = now / 1_000_000_000, outcome is Outcome.SUCCESS
        if self._last_run is None:
            self._last_run = self.telemetry.metrics.family(JOB_LAST_RUN).number(self._job)
        self._last_run.cells[0] = moment
        if success:
            if self._last_success is None:
                self._last_success = self.telemetry.metrics.family(JOB_LAST_SUCCESS).number(self._job)
            self._last_success.cells[0] = moment
        if self._schedule is not None and self._expected is not None:
            self._expected.on_finish(self._schedule, success)


def job_recorder(
    telemetry: Telemetry, job: str, trigger: Trigger, source: tuple[str, str] | None = None
) -> JobRecorder:
    """The record of a job; the same one each time."""
    key = (JobRecorder, job, trigger, source)
    return registry_of(telemetry).record(key, lambda: JobRecorder(telemetry, job, trigger, source))


_MOST = 1000
"""Jobs that are remembered; one that is made anew for each call is no declaration."""

_known: dict[tuple[str, Trigger], None] = {}


def register_job(job: str, trigger: Trigger) -> None:
    """A job is declared: for the Telemetry that serves, and for those that will. Thread-safe."""
    if len(_known) < _MOST:
        _known[job, trigger] = None
        telemetry = current()
        if telemetry is not None and telemetry.serving:
            job_recorder(telemetry, job, trigger)


def _begin(telemetry: Telemetry) -> None:
    for job, trigger in list(_known):
        job_recorder(telemetry, job, trigger)


on_configured(lambda telemetry: telemetry.on_serve(partial(_begin, telemetry)))
