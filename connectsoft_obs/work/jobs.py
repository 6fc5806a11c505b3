"""What runs of one job have in common: the metrics under `connectsoft.job`, and a span called `run {job}`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.trace import SpanKind

from connectsoft_obs.signals.metrics import Number
from connectsoft_obs.telemetry import Telemetry
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
from connectsoft_obs.work.expected import expected
from connectsoft_obs.work.messages import Received
from connectsoft_obs.work.record import Record
from connectsoft_obs.work.running import running
from connectsoft_obs.work.schedule import schedule_of

if TYPE_CHECKING:
    from connectsoft_obs.work.run import Run


class JobRecord(Record):
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
        self._last_run: Number | None = None  # absent until there is one, so that an alert can tell
        self._last_success: Number | None = None
        self._received = None if source is None else Received(telemetry, *source)
        self._expected = None if self._schedule is None else expected(telemetry)
        self.ending(Outcome.SUCCESS, None, False)  # its count exists at zero, so the first run is visible to rate()

    def labels(self, outcome: Outcome, error: str) -> tuple[str, ...]:
        """Label values of the duration."""
        return (*self._prefix, outcome.value, error)

    def began(self, run: Run) -> None:
        """One more is running."""
        self._active.cells[0] += 1.0  # as `add`, without the call
        if run.arrival.attempt > 1:
            self._retries.add(1)
        if self._received is not None:
            self._received.count(run)
        if self._schedule is not None and self._expected is not None:
            self._expected.began(self._schedule)

    def left(self, run: Run) -> None:
        """One less is running."""
        self._active.cells[0] -= 1.0

    def settled(self, run: Run, outcome: Outcome, now: int) -> None:
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
            self._expected.settled(self._schedule, success)


def job_record(telemetry: Telemetry, job: str, trigger: Trigger, source: tuple[str, str] | None = None) -> JobRecord:
    """The record of a job; the same one each time."""
    key = (JobRecord, job, trigger, source)
    return running(telemetry).record(key, lambda: JobRecord(telemetry, job, trigger, source))
