"""The jobs that a process declares: their series exist at zero when it begins to serve, so the first run is a rise.

A rate over a series that begins at one is nothing, and an alert on it would miss the first failure.
"""

from __future__ import annotations

from functools import partial

from connectsoft_obs.telemetry import Telemetry, current, on_made
from connectsoft_obs.vocabulary import Trigger
from connectsoft_obs.work.jobs import job_record

_MOST = 1000
"""Jobs that are remembered; one that is made anew for each call is no declaration."""

_known: dict[tuple[str, Trigger], None] = {}


def know(job: str, trigger: Trigger) -> None:
    """A job is declared: for the Telemetry that serves, and for those that will. Thread-safe."""
    if len(_known) < _MOST:
        _known[job, trigger] = None
        telemetry = current()
        if telemetry is not None and telemetry.serving:
            job_record(telemetry, job, trigger)


def _begin(telemetry: Telemetry) -> None:
    for job, trigger in list(_known):
        job_record(telemetry, job, trigger)


on_made(lambda telemetry: telemetry.at_beginning(partial(_begin, telemetry)))
