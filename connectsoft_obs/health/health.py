"""Health of one process: its phase, its checks and liveness watches, and the report of each probe."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from logging import WARNING
from typing import Any

from connectsoft_obs.health.async_event import AsyncEvent
from connectsoft_obs.health.check_lifecycle import CheckLifecycle
from connectsoft_obs.health.checks import Probe
from connectsoft_obs.health.liveness_watches import LivenessWatches, Problem, problem_texts
from connectsoft_obs.health.loop_watchdog import LoopWatchdog
from connectsoft_obs.health.registry import CheckRegistry
from connectsoft_obs.health.report import LIFECYCLE, Entry, Phase, Report, build_report
from connectsoft_obs.health.shutdown_budget import drain_delay, exceeds_grace_period
from connectsoft_obs.health.sigterm import SigtermDelay, delay_sigterm
from connectsoft_obs.health.transitions import LogFunction, MetricSink, TransitionNotifier
from connectsoft_obs.identity import ResourceIdentity
from connectsoft_obs.internal_telemetry import InternalTelemetry
from connectsoft_obs.process.fork_safety import register_fork_handler
from connectsoft_obs.settings import Settings
from connectsoft_obs.vocabulary import LOOP_LAG, HealthState

_NO_REASON = "no reason given"


class Health:
    """Holds the state that probes report. Probes only read it; checks run in the background.

    All methods are thread-safe. `start()` and `stop()` can be called repeatedly, in turn.

    Args:
        settings: intervals, timeouts and delays.
        identity: identifies the platform, which determines the grace period.
        registry: the declared checks, startup tasks and listeners.
        internal_telemetry: records internal errors.
        log: writes log lines.
        metrics: stores metrics.
        environ: environment variables of the process.
    """

    draining: bool
    """Whether the process stops and should accept no new work; read for each response."""

    stopping: AsyncEvent
    """Set when the drain begins."""

    drain_delay: float
    """Seconds to keep serving after SIGTERM."""

    def __init__(
        self,
        settings: Settings,
        identity: ResourceIdentity,
        registry: CheckRegistry,
        internal_telemetry: InternalTelemetry,
        log: LogFunction,
        metrics: MetricSink,
        environ: Mapping[str, str],
    ) -> None:
        self.registry = registry
        self.phase: Phase = Phase.STARTING
        self._settings = settings
        self._identity = identity
        self._log = log
        self._environ = environ
        self._liveness_watches = LivenessWatches()
        self._readiness_watches: dict[str, Problem] = {}
        self._advisories: dict[str, Problem] = {}
        self._liveness_failure = self._unready_reason = self._phase_cause = ""
        self._sigterm_delay: SigtermDelay | None = None
        self._loop_watchdog = LoopWatchdog(
            settings.liveness_stall,
            lambda seconds: metrics.observe(LOOP_LAG, (), seconds),
            lambda seconds, stack, line: log(
                WARNING, "event loop blocked", {"seconds": round(seconds, 1), "line": line, "stack": stack}
            ),
            lambda seconds: log(WARNING, "event loop responsive again", {"seconds": round(seconds, 1)}),
        )
        self._transitions = TransitionNotifier(
            log, metrics, registry.listeners, internal_telemetry.guard("health.listener")
        )
        self._lifecycle = CheckLifecycle(settings, registry, internal_telemetry, log, metrics, self, environ)
        self.add_liveness_watch("event-loop", self._loop_watchdog.problem)
        self.after_fork_in_child()
        register_fork_handler(self)

    # --- Reported by the application and by workers ------------------------------------------------------------------
    def add_liveness_watch(self, name: str, problem: Problem) -> None:
        """Fail liveness, which restarts the process, while `problem` returns a reason."""
        self._liveness_watches.add(name, problem)

    def add_readiness_watch(self, name: str, problem: Problem) -> None:
        """Fail readiness while `problem` returns a reason."""
        self._readiness_watches[name] = problem

    def watch_task(self, name: str, task: Any) -> None:
        """Fail liveness when a task or thread has ended and the service is not stopping; until the service stops."""
        self._liveness_watches.add_task(name, task)

    def add_advisory(self, name: str, problem: Problem) -> None:
        """Report `/health` as degraded while `problem` returns a reason. Advisories affect no probe."""
        self._advisories[name] = problem

    def fail_liveness(self, reason: str) -> None:
        """Fail liveness until the process is restarted."""
        self._liveness_failure = reason or _NO_REASON
        self.evaluate()

    def mark_unready(self, reason: str) -> None:
        """Fail readiness until `mark_ready()`."""
        self._unready_reason = reason or _NO_REASON
        self.evaluate()

    def mark_ready(self) -> None:
        """End `mark_unready()`; readiness passes again if the checks pass."""
        self._unready_reason = ""
        self.evaluate("marked ready")

    def drain(self, cause: str = "about to stop") -> None:
        """Fail readiness because the process is about to stop; liveness is unchanged. Safe in a signal handler."""
        if self.draining:
            return
        # The phase is set last, because other threads read it first.
        self._phase_cause, self.draining, self.phase = cause, True, Phase.DRAINING
        if self._lifecycle.running:
            self._lifecycle.run_later(0.0, self._on_drain)
        else:
            self.stopping.set()

    def take_over(self, previous: Health) -> None:
        """Copy the failures, watches and drain event that the application has set on an earlier Health at import."""
        self._liveness_failure, self._unready_reason = previous._liveness_failure, previous._unready_reason
        self._liveness_watches.take_over(previous._liveness_watches)
        self.stopping = previous.stopping

    # --- Probes ------------------------------------------------------------------------------------------------------
    def report(self, probe: Probe) -> Report:
        """The current report of a probe."""
        if probe is Probe.STARTUP:
            entries = self._lifecycle.startup_entries()
            if self._lifecycle.startup is None or not self._lifecycle.startup.complete:
                entries.append(_unhealthy_entry(LIFECYCLE, "starting"))
            return build_report(probe, entries, self.phase)
        entries = self._lifecycle.entries(probe)
        if probe is Probe.LIVENESS:
            entries += [_unhealthy_entry(*problem) for problem in self._liveness_watches.problems(self.draining)]
            if self._liveness_failure:
                entries.append(_unhealthy_entry(LIFECYCLE, f"liveness failed: {self._liveness_failure}"))
        else:
            problems = problem_texts(self._readiness_watches)
            entries += [_unhealthy_entry(name, reason) for name, reason in problems]
            if reason := self._not_ready_reason():
                entries.append(_unhealthy_entry(LIFECYCLE, reason))
        return build_report(probe, entries, self.phase)

    def version(self) -> tuple[object, ...]:
        """A value that changes whenever the report of a probe may have changed.

        Changes that depend on time alone (stale results, the end of a grace period) may be half a second late.
        """
        return (
            self._lifecycle.report_version,
            self.registry.version,
            self.phase,
            self._phase_cause,
            self._unready_reason,
            self._liveness_failure,
            int(time.monotonic() * 2),
            self._liveness_watches.problems(self.draining),
            problem_texts(self._readiness_watches),
        )

    def full_report(self) -> Report:
        """The readiness report with the entries of all probes and advisories, and the worst of their states."""
        entries: dict[str, Entry] = {}
        for probe in (Probe.READINESS, Probe.LIVENESS, Probe.STARTUP):
            for entry in self.report(probe).entries:
                if entry.name not in entries:
                    entries[entry.name] = entry
                elif entry.name != LIFECYCLE:
                    entries[f"{entry.name}-{probe}"] = entry._replace(name=f"{entry.name}-{probe}")
        for name, reason in problem_texts(self._advisories):
            entries.setdefault(name, Entry(name, HealthState.DEGRADED, 0.0, reason, (), critical=False))
        return build_report(Probe.READINESS, list(entries.values()), self.phase)

    def _not_ready_reason(self) -> str:
        """Why readiness fails, apart from failed checks; "" if there is no reason."""
        if self.phase is not Phase.READY:
            return f"{self.phase}: {self._phase_cause}" if self._phase_cause else str(self.phase)
        if self._unready_reason:
            return f"unready: {self._unready_reason}"
        return self._lifecycle.not_ready_reason()

    # --- Lifecycle ---------------------------------------------------------------------------------------------------
    def start(self) -> None:
        """Start checks and startup tasks after the application has started; async ones run on the caller's event loop.

        Idempotent, except that a new event loop replaces one that has ended.
        """
        if self._lifecycle.use_running_loop():
            self._loop_watchdog.watch(asyncio.get_running_loop())
        if self._lifecycle.running:
            return
        with self._start_lock:
            if not self._lifecycle.running:
                self._start()

    def install_sigterm_delay(self) -> bool:
        """Drain before the server's SIGTERM handler is called. Returns False if this process has no such handler."""
        if self._sigterm_delay is not None:
            self._sigterm_delay.reassert()
        elif not self.draining:
            self._sigterm_delay = delay_sigterm(self)
        return self._sigterm_delay is not None

    def close(self, cause: str) -> None:
        """Drain and stop the checks, because the application closes the connections that they use."""
        self.drain(cause)
        self._lifecycle.stop_checks()
        self.evaluate()
        self.stopping.set()

    def stop(self, cause: str = "stopped") -> None:
        """Stop checks and threads, and reset everything that the application has marked."""
        if not self._lifecycle.running:
            return
        self._phase_cause, self.draining, self.phase = cause, True, Phase.STOPPED
        self.evaluate(cause)
        self.stopping.set()
        self._loop_watchdog.stop()
        self._lifecycle.stop()
        self._transitions.stop()
        if self._sigterm_delay is not None:
            self._sigterm_delay.remove(self)
            self._sigterm_delay = None
        self._liveness_failure = self._unready_reason = ""
        self._liveness_watches.clear_tasks()

    def evaluate(self, cause: str = "") -> None:
        """Publish the transitions since the last call."""
        self._transitions.update(self.report, lambda: (self.phase, self._phase_cause), cause)

    def on_startup_complete(self, cause: str) -> None:
        """All startup tasks have passed."""
        if self.phase is Phase.STARTING:
            self.phase = Phase.READY
            if self.draining:  # a signal handler may have changed the phase in the meantime
                self.phase = Phase.DRAINING
            self.evaluate(cause)
            self._lifecycle.systemd.notify_ready("ready")

    def run_later(self, seconds: float, call: Callable[[], object]) -> None:
        """Run a call in the health thread after a delay in seconds."""
        self._lifecycle.run_later(seconds, call)

    @property
    def running(self) -> bool:
        """Whether it has been started and not stopped."""
        return self._lifecycle.running

    def drain_seconds(self) -> float:
        """Seconds to keep serving after SIGTERM: 0 if the process was never ready or is stopping already."""
        return self.drain_delay if self.phase is Phase.READY else 0.0

    def after_fork_in_child(self) -> None:
        """Initialise as not started, also in a forked child."""
        self._start_lock = threading.RLock()
        self.drain_delay = drain_delay(self._settings, self._identity)
        self.phase, self.draining, self.stopping = Phase.STARTING, False, AsyncEvent()
        self._sigterm_delay = None
        self._liveness_watches.clear_tasks()
        self._loop_watchdog.after_fork_in_child()
        self._transitions.after_fork_in_child()
        self._lifecycle.after_fork_in_child()

    def _start(self) -> None:
        self.phase, self._phase_cause, self.draining = Phase.STARTING, "", False
        self.stopping = AsyncEvent() if self.stopping else self.stopping  # it may be awaited already
        self.drain_delay = drain_delay(self._settings, self._identity)  # a worker of a reloader is not known earlier
        if problem := exceeds_grace_period(self._settings, self._identity, self._environ):
            self._log(WARNING, f"drain may be interrupted: {problem}")
        self._lifecycle.start(self._loop_watchdog.check)
        if self._lifecycle.startup is not None and self._lifecycle.startup.complete:
            self.phase = Phase.READY
            self._lifecycle.systemd.notify_ready("ready")
        self._transitions.start([self.report(probe) for probe in Probe], self.phase)

    def _on_drain(self) -> None:
        self.evaluate()
        self.stopping.set()
        self._lifecycle.systemd.notify_stopping(self._not_ready_reason())


def _unhealthy_entry(name: str, reason: str) -> Entry:
    return Entry(name, HealthState.UNHEALTHY, 0.0, reason, (LIFECYCLE,))
