"""The health of one process: its phase, its checks, its vital parts, and the answer to each probe."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from connectsoft_obs.health import shutdown_budget
from connectsoft_obs.health.async_event import AsyncEvent
from connectsoft_obs.health.checks import Probe
from connectsoft_obs.health.lifecycle import CheckLifecycle
from connectsoft_obs.health.liveness_watches import LivenessWatches, Problem, problem_texts
from connectsoft_obs.health.loop_watchdog import LoopWatchdog
from connectsoft_obs.health.registry import CheckRegistry
from connectsoft_obs.health.report import LIFECYCLE, Entry, Phase, Report, reported
from connectsoft_obs.health.sigterm import SigtermDelay, delay_sigterm
from connectsoft_obs.health.transitions import WARNING, MetricSink, Say, TransitionNotifier
from connectsoft_obs.identity import ResourceIdentity
from connectsoft_obs.internal_telemetry import InternalTelemetry
from connectsoft_obs.process.fork_safety import register_fork_handler
from connectsoft_obs.settings import Settings
from connectsoft_obs.vocabulary import LOOP_LAG, HealthState


class Health:
    """Holds what probes are told. Probes only read it; the checks run in the background.

    Every method may be called from any thread. `start()` and `stop()` come in pairs, any number of times.

    Args:
        settings: intervals, timeouts and delays.
        identity: the platform, for its grace period.
        declared: the checks and tasks.
        ledger: told of errors of ours.
        say: writes lines.
        numbers: keeps metrics.
        environ: what the platform says to this process.
    """

    draining: bool
    """Whether no new work should be begun; read for each response."""

    stopping: AsyncEvent
    """The same, to be awaited."""

    drain_delay: float
    """Seconds to go on serving after SIGTERM."""

    def __init__(
        self,
        settings: Settings,
        identity: ResourceIdentity,
        declared: CheckRegistry,
        internal_telemetry: InternalTelemetry,
        say: Say,
        numbers: MetricSink,
        environ: Mapping[str, str],
    ) -> None:
        self.declared = declared
        self.phase: Phase = Phase.STARTING
        self._settings = settings
        self._identity = identity
        self._say = say
        self._environ = environ
        self._liveness_watches = LivenessWatches()
        self._advice: dict[str, Problem] = {}
        self._broken = self._unready = self._cause = ""
        self._sigterm: SigtermDelay | None = None
        self._stall = LoopWatchdog(
            settings.liveness_stall,
            lambda seconds: numbers.observe(LOOP_LAG, (), seconds),
            self._stalled,
            self._recovered,
        )
        self._transitions = TransitionNotifier(say, numbers, declared.listeners, internal_telemetry.record_error)
        self._life = CheckLifecycle(settings, declared, internal_telemetry, say, numbers, self, environ)
        self.add_liveness_watch("event-loop", self._stall.problem)
        self.after_fork_in_child()
        register_fork_handler(self)

    # --- What applications and workers say ---------------------------------------------------------------------------
    def add_liveness_watch(self, name: str, problem: Problem) -> None:
        """Add a vital part of the process: liveness is red, and the process restarted, while `problem` gives a reason."""
        self._liveness_watches.ask(name, problem)

    def watch_task(self, name: str, task: Any) -> None:
        """Add a vital task or thread of this life: liveness is red when it has ended and the service does not stop."""
        self._liveness_watches.task(name, task)

    def add_advisory(self, name: str, problem: Problem) -> None:
        """Add what only people want to know: `/health` is Degraded while `problem` gives a reason, no probe changes."""
        self._advice[name] = problem

    def fail_liveness(self, reason: str) -> None:
        """This process cannot recover by itself: liveness fails from here on."""
        self._broken = reason or "marked broken"
        self.evaluate()

    def mark_unready(self, reason: str) -> None:
        """No traffic for now: readiness fails until `mark_ready()`."""
        self._unready = reason or "marked unready"
        self.evaluate()

    def mark_ready(self) -> None:
        """Traffic again, as far as the checks agree."""
        self._unready = ""
        self.evaluate("marked ready")

    def drain(self, cause: str = "about to stop") -> None:
        """The process is about to stop: readiness fails, liveness stays. May be called in a signal handler."""
        if self.draining:
            return
        self._cause, self.draining, self.phase = cause, True, Phase.DRAINING  # the phase last: others read it first
        if self._life.running:
            self._life.later(0.0, self._drained)
        else:
            self.stopping.set()

    # --- Probes ------------------------------------------------------------------------------------------------------
    def report(self, probe: Probe) -> Report:
        """What a probe is told now."""
        if probe is Probe.STARTUP:
            entries = self._life.startup_entries()
            if self._life.startup is None or not self._life.startup.complete:
                entries.append(_wrong(LIFECYCLE, "starting"))
            return reported(probe, entries, self.phase)
        entries = self._life.entries(probe)
        if probe is Probe.LIVENESS:
            entries += [_wrong(name, why) for name, why in self._liveness_watches.problems(self.draining)]
            if self._broken:
                entries.append(_wrong(LIFECYCLE, f"broken: {self._broken}"))
        elif why := self._not_ready():
            entries.append(_wrong(LIFECYCLE, why))
        return reported(probe, entries, self.phase)

    def version(self) -> tuple[object, ...]:
        """Equal to another one as long as no report of a probe can have changed in between.

        What time alone changes (results grow stale, a grace ends) may be told half a second late.
        """
        return (
            self._life.news,
            self.declared.changes,
            self.phase,
            self._cause,
            self._unready,
            self._broken,
            int(time.monotonic() * 2),
            self._liveness_watches.problems(self.draining),
        )

    def full_report(self) -> Report:
        """Readiness with everything else there is to know; as bad as the worst of it."""
        found: dict[str, Entry] = {}
        for probe in (Probe.READINESS, Probe.LIVENESS, Probe.STARTUP):
            for entry in self.report(probe).entries:
                if entry.name not in found:
                    found[entry.name] = entry
                elif entry.name != LIFECYCLE:
                    found[f"{entry.name}-{probe}"] = entry._replace(name=f"{entry.name}-{probe}")
        for name, why in problem_texts(self._advice):
            found.setdefault(name, Entry(name, HealthState.DEGRADED, 0.0, why, (), critical=False))
        return reported(Probe.READINESS, list(found.values()), self.phase)

    def _not_ready(self) -> str:
        """Why no traffic should come although no check may be red; "" where there is no reason."""
        if self.phase is not Phase.READY:
            return f"{self.phase}: {self._cause}" if self._cause else str(self.phase)
        if self._unready:
            return f"unready: {self._unready}"
        return self._life.not_ready_reason()

    # --- Life --------------------------------------------------------------------------------------------------------
    def start(self) -> None:
        """The application has started: run tasks and checks from here on, for async ones on the caller's event loop.

        Calling it again changes nothing, except that a new event loop takes the place of one that has ended.
        """
        if self._life.use_running_loop():
            self._stall.watch(asyncio.get_running_loop())
        if self._life.running:
            return
        with self._beginning:
            if not self._life.running:
                self._begin()

    def install_sigterm_delay(self) -> bool:
        """Drain before the server's own handler of SIGTERM is called; False where this process has none to put off."""
        if self._sigterm is not None:
            self._sigterm.reassert()
        elif not self.draining:
            self._sigterm = delay_sigterm(self)
        return self._sigterm is not None

    def close(self, cause: str) -> None:
        """The service is being closed, and what its checks look at: no more traffic, no more checks."""
        self.drain(cause)
        self._life.end_checks()
        self.evaluate()
        self.stopping.set()

    def stop(self, cause: str = "stopped") -> None:
        """The life is over: end threads and checks; marks are forgotten."""
        if not self._life.running:
            return
        self._cause, self.draining, self.phase = cause, True, Phase.STOPPED
        self.evaluate(cause)
        self.stopping.set()
        self._stall.end()
        self._life.end()
        self._transitions.end()
        if self._sigterm is not None:
            self._sigterm.remove(self)
            self._sigterm = None
        self._broken = self._unready = ""
        self._liveness_watches.over()

    def evaluate(self, cause: str = "") -> None:
        """Tell what has changed, if anything has."""
        self._transitions.update(self.report, lambda: (self.phase, self._cause), cause)

    def started(self, cause: str) -> None:
        """Every task of start-up has run."""
        if self.phase is Phase.STARTING:
            self.phase = Phase.READY
            if self.draining:  # since we asked
                self.phase = Phase.DRAINING
            self.evaluate(cause)
            self._life.systemd.ready("ready")

    def run_later(self, seconds: float, call: Callable[[], object]) -> None:
        """Call it in the health thread after so many seconds."""
        self._life.later(seconds, call)

    @property
    def running(self) -> bool:
        """Whether it has started and not stopped."""
        return self._life.running

    def drain_seconds(self) -> float:
        """Seconds to go on serving after SIGTERM: none for a process that was never ready, or stops already."""
        return self.drain_delay if self.phase is Phase.READY else 0.0

    def after_fork_in_child(self) -> None:
        """At first, and in a forked child: a process that has not started."""
        self._beginning = threading.RLock()
        self.drain_delay = shutdown_budget.drain_delay(self._settings, self._identity)
        self.phase, self.draining, self.stopping = Phase.STARTING, False, AsyncEvent()
        self._sigterm = None
        self._liveness_watches.over()
        self._stall.after_fork_in_child()
        self._transitions.after_fork_in_child()
        self._life.after_fork_in_child()

    def _begin(self) -> None:
        self.phase, self._cause, self.draining, self.stopping = Phase.STARTING, "", False, AsyncEvent()
        if why := shutdown_budget.exceeds_grace_period(self._settings, self._identity, self._environ):
            self._say(WARNING, f"the drain can be cut short: {why}")
        self._life.begin(self._stall.look)
        if self._life.startup is not None and self._life.startup.complete:
            self.phase = Phase.READY
            self._life.systemd.ready("ready")
        self._transitions.begin([self.report(probe) for probe in Probe], self.phase)

    def _drained(self) -> None:
        self.evaluate()
        self.stopping.set()
        self._life.systemd.stopping(self._not_ready())

    def _stalled(self, seconds: float, stack: str, line: str) -> None:
        facts = {"seconds": round(seconds, 1), "line": line, "stack": stack}
        self._say(WARNING, f"the event loop is blocked at {line}", facts)

    def _recovered(self, seconds: float) -> None:
        self._say(WARNING, "the event loop turns again", {"seconds": round(seconds, 1)})


def _wrong(name: str, why: str) -> Entry:
    return Entry(name, HealthState.UNHEALTHY, 0.0, why, (LIFECYCLE,))
