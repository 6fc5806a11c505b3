"""Warns about SLOs on requests that count no event although the process records requests."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeAlias

from connectsoft_obs.slo.durations import HOUR, humanize
from connectsoft_obs.slo.event_counter import EventCounter
from connectsoft_obs.vocabulary import SLO_NAME

WarnOnce: TypeAlias = Callable[[tuple[str, str], str, dict[str, Any]], None]
"""Logs a warning with fields, once per kind."""

WARNING_DELAY = float(HOUR)
"""Seconds after which every SLO of a process is expected to have counted an event."""


class UncountedSLOs:
    """Warns once about SLOs without an event, `WARNING_DELAY` seconds after its creation. Called at each metric collection.

    If no request has the route or method of an SLO, the SLO counts no events and appears to be met. A process without
    requests is not reported, because it may be idle or serve another purpose.
    """

    def __init__(self, counter: EventCounter, warn_once: WarnOnce) -> None:
        self._counter = counter
        self._warn_once = warn_once
        self._due = time.monotonic() + WARNING_DELAY

    def __call__(self) -> None:
        """Warn if the delay has passed. Thread-safe."""
        if time.monotonic() < self._due:
            return
        self._due = float("inf")
        for name, matchers in self._counter.slos_without_events():
            self._warn_once(
                ("slo", name),
                "an SLO has never counted an event",
                {
                    SLO_NAME: name,
                    "counts": {attribute: list(values) for attribute, values in matchers},
                    "after": humanize(WARNING_DELAY),
                    "instead": "compare the routes and methods of the SLO with the labels on /metrics",
                },
            )
