"""Each change of health, told once: one line with its cause, one count, one call of whoever listens."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from queue import SimpleQueue
from typing import Any, Protocol

from connectsoft_obs.health.checks import Probe
from connectsoft_obs.health.registry import Listener
from connectsoft_obs.health.report import LIFECYCLE, SEVERITY, Phase, Report, Transition
from connectsoft_obs.process import threads
from connectsoft_obs.vocabulary import HEALTH_KIND, HEALTH_STATE, HEALTH_STATUS, HEALTH_TRANSITIONS, HealthState, Metric

INFO, WARNING = 20, 30
_EXPECTED = (Phase.STARTING, Phase.DRAINING, Phase.STOPPED)


class Say(Protocol):
    """Writes a line."""

    def __call__(
        self, level: int, message: str, facts: Mapping[str, Any] | None = None, error: BaseException | None = None
    ) -> None:
        """Write it."""


class MetricSink(Protocol):
    """Keeps metrics; label values in the order of a metric's definition."""

    def add(self, metric: Metric, labels: tuple[str, ...], amount: float) -> None:
        """Add to a counter."""

    def set(self, metric: Metric, labels: tuple[str, ...], value: float) -> None:
        """Set a gauge, or the position of a state."""

    def observe(self, metric: Metric, labels: tuple[str, ...], value: float) -> None:
        """Count a value of a histogram."""


class TransitionNotifier:
    """Compares what probes are answered now with what they were answered before. Thread-safe.

    Args:
        say: writes lines.
        numbers: keeps metrics.
        listeners: who is called, asked each time.
        failed: told of what a listener raised.
    """

    def __init__(
        self,
        say: Say,
        numbers: MetricSink,
        listeners: Callable[[], Sequence[Listener]],
        failed: Callable[[str, BaseException], None],
    ) -> None:
        self._say = say
        self._numbers = numbers
        self._listeners = listeners
        self._failed = failed
        self.after_fork_in_child()

    def after_fork_in_child(self) -> None:
        """At first, and in a forked child: no life, no thread, no lock that is held."""
        self._states: dict[Probe, HealthState] = {}
        self._causes: dict[Probe, str] = {}
        self._phase = Phase.STARTING
        self._lock = threading.RLock()
        self._told: SimpleQueue[tuple[Transition, Sequence[Listener]] | None] | None = None

    def begin(self, reports: Sequence[Report], phase: Phase) -> None:
        """What a new life begins with; nothing has changed yet."""
        with self._lock:
            self._phase = phase
            for report in reports:
                self._states[report.probe] = report.state
                self._causes[report.probe] = report.cause
                self._show(report)

    def update(
        self, report: Callable[[Probe], Report], moment: Callable[[], tuple[Phase, str]], cause: str = ""
    ) -> None:
        """Tell what has changed since the last time; `cause` is why, where the reports do not say.

        Both are asked under the lock: a phase that was read before it could be older than what another thread has told
        meanwhile, and one change would be told as two.
        """
        with self._lock:
            if not self._states:
                return  # no life has begun
            reports, phase, of_phase = self._together(report, moment)
            cause = cause or of_phase
            changed = []
            for probe, before in list(self._states.items()):
                now = reports[probe]
                if now.state is not before:
                    self._states[probe] = now.state
                    self._show(now)
                    why = now.cause or cause or f"over: {self._causes.get(probe, '')}"
                    changed.append(Transition(probe, before, now.state, why, phase))
                self._causes[probe] = now.cause
            if phase is not self._phase:
                if not changed:
                    changed.append(Transition(None, self._phase, phase, cause, phase))
                self._phase = phase
            for transition in changed:
                self._tell(transition)

    def _together(
        self, report: Callable[[Probe], Report], moment: Callable[[], tuple[Phase, str]]
    ) -> tuple[dict[Probe, Report], Phase, str]:
        """Reports and the phase that they belong to; a signal handler changes it without asking for the lock."""
        while True:
            before = moment()
            reports = {probe: report(probe) for probe in self._states}
            if moment() == before:
                return reports, *before

    def end(self) -> None:
        """The life is over; listeners hear what they have not heard yet."""
        with self._lock:
            self._states.clear()
            if self._told is not None:
                self._told.put(None)
                self._told = None

    def _show(self, report: Report) -> None:
        self._numbers.set(HEALTH_STATUS, (report.probe.value,), SEVERITY.index(report.state))

    def _tell(self, transition: Transition) -> None:
        probe, after = transition.probe, transition.after
        facts = {"previous": transition.before.value, "cause": transition.cause, "phase": transition.phase.value}
        self._numbers.add(HEALTH_TRANSITIONS, (LIFECYCLE if probe is None else probe.value, after.value), 1)
        if probe is None:
            self._say(INFO, f"service is {after}", facts)
        else:
            expected = after is HealthState.HEALTHY or (probe is not Probe.LIVENESS and transition.phase in _EXPECTED)
            facts = {HEALTH_KIND: probe.value, HEALTH_STATE: after.value, **facts}
            self._say(INFO if expected else WARNING, f"{probe} is {after}", facts)
        if listeners := self._listeners():
            told = self._told or SimpleQueue()
            if self._told is None and threads.start_thread("obs-health-notify", self._call, told) is not None:
                self._told = told
            told.put((transition, listeners))

    def _call(self, told: SimpleQueue[tuple[Transition, Sequence[Listener]] | None]) -> None:
        """A thread of its own: what listeners do can take as long as it likes."""
        while (item := told.get()) is not None:
            transition, listeners = item
            for listener in listeners:
                try:
                    listener(transition)
                except Exception as error:  # noqa: BLE001  theirs; the others are still to be told
                    self._failed("health.listener", error)
