"""Publishes each transition once: one log line with its cause, one metric increment, one call of each listener."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from logging import INFO, WARNING
from queue import SimpleQueue
from typing import Any, Protocol

from connectsoft_obs.health.checks import Probe
from connectsoft_obs.health.registry import Listener
from connectsoft_obs.health.report import LIFECYCLE, STATES_BY_SEVERITY, Phase, Report, Transition
from connectsoft_obs.internal_telemetry import Guard
from connectsoft_obs.process.threads import start_thread
from connectsoft_obs.vocabulary import HEALTH_KIND, HEALTH_STATE, HEALTH_STATUS, HEALTH_TRANSITIONS, HealthState, Metric

_PHASES_EXPECTED_TO_FAIL = (Phase.STARTING, Phase.DRAINING, Phase.STOPPED)
"""Phases in which a failing readiness or startup probe is no reason for a warning."""

ListenerQueue = SimpleQueue[tuple[Transition, Sequence[Listener]] | None]


class LogFunction(Protocol):
    """Writes a log line."""

    def __call__(
        self, level: int, message: str, fields: Mapping[str, Any] | None = None, error: BaseException | None = None, /
    ) -> None:
        """Write a log line with fields, and with the stack trace of an exception."""


class MetricSink(Protocol):
    """Stores metrics. Label values are in the order of the metric's definition."""

    def add(self, metric: Metric, labels: tuple[str, ...], amount: float) -> None:
        """Add to a counter."""

    def set(self, metric: Metric, labels: tuple[str, ...], value: float) -> None:
        """Set a gauge, or the index of a state."""

    def observe(self, metric: Metric, labels: tuple[str, ...], value: float) -> None:
        """Record a value in a histogram."""


class TransitionNotifier:
    """Compares the reports of probes with the previous ones, and publishes the differences. Thread-safe.

    Args:
        log: writes log lines.
        metrics: stores metrics.
        listeners: returns the listeners; called for each transition.
        listener_guard: records exceptions of listeners.
    """

    def __init__(
        self,
        log: LogFunction,
        metrics: MetricSink,
        listeners: Callable[[], Sequence[Listener]],
        listener_guard: Guard,
    ) -> None:
        self._log = log
        self._metrics = metrics
        self._listeners = listeners
        self._listener_guard = listener_guard
        self.after_fork_in_child()

    def after_fork_in_child(self) -> None:
        """Initialise without states and thread, also in a forked child."""
        self._states: dict[Probe, HealthState] = {}
        self._causes: dict[Probe, str] = {}
        self._phase = Phase.STARTING
        self._lock = threading.RLock()
        self._queue: ListenerQueue | None = None

    def start(self, reports: Sequence[Report], phase: Phase) -> None:
        """Set the initial states, when the service starts. They are not transitions."""
        with self._lock:
            self._phase = phase
            for report in reports:
                self._states[report.probe] = report.state
                self._causes[report.probe] = report.cause
                self._set_status(report)

    def update(
        self, report: Callable[[Probe], Report], read_phase: Callable[[], tuple[Phase, str]], cause: str = ""
    ) -> None:
        """Publish the transitions since the last call; `cause` is their cause if the reports contain none.

        Reports and phase are read under the lock. A phase that was read before could be older than one that another
        thread has published meanwhile, and one change would be published twice.
        """
        with self._lock:
            if not self._states:
                return  # the service has not started
            reports, phase, phase_cause = self._consistent_reports(report, read_phase)
            cause = cause or phase_cause
            transitions = []
            for probe, previous_state in list(self._states.items()):
                current = reports[probe]
                if current.state is not previous_state:
                    self._states[probe] = current.state
                    self._set_status(current)
                    transition_cause = current.cause or cause or f"resolved: {self._causes.get(probe, '')}"
                    transitions.append(Transition(probe, previous_state, current.state, transition_cause, phase))
                self._causes[probe] = current.cause
            if phase is not self._phase:
                if not transitions:
                    transitions.append(Transition(None, self._phase, phase, cause, phase))
                self._phase = phase
            for transition in transitions:
                self._publish(transition)

    def _consistent_reports(
        self, report: Callable[[Probe], Report], read_phase: Callable[[], tuple[Phase, str]]
    ) -> tuple[dict[Probe, Report], Phase, str]:
        """Reports and the phase they belong to; a signal handler may change the phase at any time, without the lock."""
        while True:
            phase = read_phase()
            reports = {probe: report(probe) for probe in self._states}
            if read_phase() == phase:
                return reports, *phase

    def stop(self) -> None:
        """Forget the states when the service has stopped; listeners still receive pending transitions."""
        with self._lock:
            self._states.clear()
            if self._queue is not None:
                self._queue.put(None)
                self._queue = None

    def _set_status(self, report: Report) -> None:
        self._metrics.set(HEALTH_STATUS, (report.probe.value,), STATES_BY_SEVERITY.index(report.state))

    def _publish(self, transition: Transition) -> None:
        probe, after = transition.probe, transition.after
        fields = {"previous": transition.before.value, "cause": transition.cause, "phase": transition.phase.value}
        self._metrics.add(HEALTH_TRANSITIONS, (LIFECYCLE if probe is None else probe.value, after.value), 1)
        if probe is None:
            self._log(INFO, f"service is {after}", fields)
        else:
            is_expected = after is HealthState.HEALTHY or (
                probe is not Probe.LIVENESS and transition.phase in _PHASES_EXPECTED_TO_FAIL
            )
            fields = {HEALTH_KIND: probe.value, HEALTH_STATE: after.value, **fields}
            self._log(INFO if is_expected else WARNING, f"{probe} is {after}", fields)
        if listeners := self._listeners():
            queue = self._queue or SimpleQueue()
            if self._queue is None and start_thread("obs-health-notify", self._call_listeners, queue) is not None:
                self._queue = queue
            queue.put((transition, listeners))

    def _call_listeners(self, queue: ListenerQueue) -> None:
        """Run in a thread of its own, because listeners may block."""
        while (item := queue.get()) is not None:
            transition, listeners = item
            for listener in listeners:
                with self._listener_guard:
                    listener(transition)
