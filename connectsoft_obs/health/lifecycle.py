"""One life of the checks: from the start of the service to its stop, in threads of their own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.health.check_runner import CheckRunner
from connectsoft_obs.health.check_state import CheckState
from connectsoft_obs.health.checks import Check, Probe, Scope, Task
from connectsoft_obs.health.event_loop import LoopRunner
from connectsoft_obs.health.executor import CheckExecutor
from connectsoft_obs.health.heartbeat_file import INTERVAL, HeartbeatFile
from connectsoft_obs.health.loop_watchdog import LOOP_TICK_INTERVAL
from connectsoft_obs.health.registry import CheckRegistry
from connectsoft_obs.health.report import SEVERITY, Entry, Report
from connectsoft_obs.health.startup import StartupTasks
from connectsoft_obs.health.systemd import Systemd
from connectsoft_obs.health.thread_pool import DaemonThreadPool
from connectsoft_obs.health.timer_thread import TimerThread
from connectsoft_obs.health.transitions import INFO, WARNING, MetricSink, Say
from connectsoft_obs.internal_telemetry import InternalTelemetry
from connectsoft_obs.settings import Settings
from connectsoft_obs.vocabulary import CHECK_DURATION, CHECK_NAME, CHECK_STATUS, HEALTH_KIND, HEALTH_STATE, HealthState

POLL_INTERVAL = 1.0
"""Seconds between two looks at what time alone changes: results that grow stale, a grace that ends, new declarations."""

ERROR = 40
Key = tuple[Probe, str]


class LifecycleOwner(Protocol):
    """Whose life it is."""

    def report(self, probe: Probe) -> Report:
        """What a probe is told now."""

    def evaluate(self, cause: str = "") -> None:
        """Tell what has changed, if anything has."""

    def started(self, cause: str) -> None:
        """Every task of start-up has run."""


class CheckLifecycle:
    """The threads, checks and tasks behind one `Health`. `begin` and `end` come in pairs, any number of times."""

    def __init__(
        self,
        settings: Settings,
        declared: CheckRegistry,
        internal_telemetry: InternalTelemetry,
        say: Say,
        numbers: MetricSink,
        owner: LifecycleOwner,
        environ: Mapping[str, str],
    ) -> None:
        self._settings = settings
        self._declared = declared
        self._internal_telemetry = internal_telemetry
        self._say = say
        self._numbers = numbers
        self._owner = owner
        self._schedule = TimerThread(internal_telemetry.record_error)
        self._threads = DaemonThreadPool()
        self._loops = LoopRunner()
        self._runs = CheckExecutor(self._threads, self._loops)
        self._heartbeat = HeartbeatFile(settings.heartbeat_file) if settings.heartbeat_file else None
        self.systemd: Systemd = Systemd(environ)
        self.after_fork_in_child()

    def after_fork_in_child(self) -> None:
        """At first, and in a forked child: nothing runs. `news` grows whenever a report may say something else."""
        self.startup: StartupTasks | None = None
        self._checkings: dict[Key, CheckRunner] = {}
        self._states: dict[Key, HealthState] = {}
        self._changes = -1
        self._began = 0.0
        self.news: int = 0
        self._taking = threading.RLock()
        self._schedule.after_fork_in_child()
        self._threads.after_fork_in_child()
        self._loops.after_fork_in_child()

    @property
    def running(self) -> bool:
        """Whether it has begun and not ended."""
        return self._schedule.running

    def use_running_loop(self) -> bool:
        """Use the caller's event loop for async checks; True when it is a new one."""
        return self._loops.adopt()

    def later(self, seconds: float, call: Callable[[], object]) -> None:
        """Call it in the health thread."""
        self._schedule.after(seconds, call)

    def begin(self, look: Callable[[], None]) -> None:
        """Run tasks and checks; `look` is called every TICK seconds."""
        self._began = time.monotonic()
        self._checkings.clear()
        self._states.clear()
        self._changes = -1
        self._schedule.start()
        if not self._schedule.running:
            return  # the next probe tries again
        self.startup = StartupTasks(
            self._declared.tasks(), self._runs, self._schedule, self._task_ended, self._tasks_done
        )
        self._sync()
        if not self.startup.complete:
            self._schedule.soon(self.startup.begin)
        self._schedule.every(LOOP_TICK_INTERVAL, look)
        self._schedule.every(POLL_INTERVAL, self._look)
        if self._heartbeat is not None:
            self._schedule.every(INTERVAL, self._beat)
        if (pause := self.systemd.watchdog) is not None:
            self._schedule.every(pause, self._alive)

    def end_checks(self) -> None:
        """Run no more checks."""
        for checking in self._checkings.values():
            checking.end()

    def end(self) -> None:
        """End threads and checks; results stay readable."""
        self.end_checks()
        self._schedule.stop()
        self._threads.stop()
        self._threads = DaemonThreadPool()
        self._loops.stop()
        self._runs = CheckExecutor(self._threads, self._loops)
        if self._heartbeat is not None:
            self._heartbeat.end()

    def entries(self, probe: Probe) -> list[Entry]:
        """The checks of a probe in its report."""
        self._sync()
        return [checking.state.entry() for (kind, _), checking in list(self._checkings.items()) if kind is probe]

    def startup_entries(self) -> list[Entry]:
        """The tasks of start-up in its report."""
        return [] if self.startup is None else self.startup.entries()

    def not_ready_reason(self) -> str:
        """What readiness still waits for although start-up is complete."""
        first = [
            name
            for (kind, name), one in list(self._checkings.items())
            if kind is Probe.READINESS and one.state.result is None
        ]
        if first:
            return f"waits for the first run of {', '.join(first)}"
        left = self._settings.startup_grace_period - (time.monotonic() - self._began)
        return f"startup_grace_period lasts {left:.0f} s more" if left > 0 else ""

    def _sync(self) -> None:
        """Take up what was declared since the last time, and drop what was taken back."""
        if self._changes == self._declared.changes or not self.running:
            return
        with self._taking:
            self._take()

    def _take(self) -> None:
        self._changes = self._declared.changes
        disabled = self._settings.disabled_checks
        wanted = {(check.probe, check.name): check for check in self._declared.checks() if check.name not in disabled}
        for key in [key for key in self._checkings if key not in wanted]:
            self._checkings.pop(key).end()
        for key, check in wanted.items():
            known = self._checkings.get(key)
            if known is None or known.state.check is not check:
                if known is not None:
                    known.end()
                made = self._checkings[key] = self._checking(check)
                made.begin()
        self.news += 1  # after the change, so that nobody keeps an answer from before it as one from after

    def _checking(self, check: Check) -> CheckRunner:
        interval = check.interval or self._settings.check_interval
        timeout = check.timeout or self._settings.check_timeout
        if check.critical and check.scope is Scope.SHARED and check.probe is Probe.READINESS:
            self._say(
                WARNING,
                f"health check {check.name} is critical and shared: when it fails, every instance leaves rotation at "
                "once and the service is down; critical=False reports it and keeps serving",
                {CHECK_NAME: check.name},
            )
        # Three intervals: two runs may be lost before what is known says nothing any more.
        state = CheckState(check, 3 * interval + timeout)
        return CheckRunner(state, interval, timeout, self._runs, self._schedule, self)

    # --- In the health thread ----------------------------------------------------------------------------------------
    def _look(self) -> None:
        self._sync()
        self._owner.evaluate()

    def on_result(self, state: CheckState, error: BaseException | None) -> None:
        """A check has a result."""
        self.news += 1
        check, now = state.check, state.state
        key = (check.probe, check.name)
        before = self._states.get(key)
        self._states[key] = now
        self._numbers.set(CHECK_STATUS, (check.name, check.probe.value), SEVERITY.index(now))
        if before is not now and not (before is None and now is HealthState.HEALTHY):
            facts = {
                CHECK_NAME: check.name,
                HEALTH_KIND: check.probe.value,
                HEALTH_STATE: now.value,
                "previous": "unknown" if before is None else before.value,
                "reason": state.reason,
            }
            healthy = now is HealthState.HEALTHY
            self._say(INFO if healthy else WARNING, f"health check {check.name} is {now}", facts, error)
        self._owner.evaluate()

    def observed(self, state: CheckState, seconds: float, passed: bool) -> None:
        """A check has run."""
        outcome = HealthState.HEALTHY if passed else HealthState.UNHEALTHY
        labels = (state.check.name, state.check.probe.value, outcome.value)
        self._numbers.observe(CHECK_DURATION, labels, seconds)

    def on_slow(self, state: CheckState) -> None:
        """A check begins to take long."""
        duration = 0.0 if state.result is None else state.result.duration
        facts = {CHECK_NAME: state.check.name, "seconds": round(duration, 3)}
        self._say(WARNING, f"health check {state.check.name} is slow", facts)

    def _task_ended(self, task: Task, seconds: float, reason: str, error: BaseException | None) -> None:
        self.news += 1
        facts = {"task": task.name, "seconds": round(seconds, 3)}
        if reason:
            self._say(ERROR, f"start-up task {task.name} failed", {**facts, "reason": reason}, error)
        else:
            self._say(INFO, f"start-up task {task.name} is done", facts)

    def _tasks_done(self) -> None:
        self._owner.started(f"start-up is complete after {time.monotonic() - self._began:.1f} s")

    def _alive(self) -> None:
        if self._owner.report(Probe.LIVENESS).passes:
            self.systemd.alive()

    def _beat(self) -> None:
        if self._heartbeat is not None and self._owner.report(Probe.LIVENESS).passes:
            try:
                self._heartbeat.beat()
            except OSError as error:
                self._internal_telemetry.record_error("health.heartbeat", error)


def validate_disabled_checks(settings: Settings, declared: CheckRegistry) -> ConfigurationError | None:
    """What cannot work about the checks once all are declared."""
    known = {check.name for check in declared.checks()}
    for name in settings.disabled_checks:
        if name not in known:
            return ConfigurationError(
                f"CONNECTSOFT_OBS_DISABLED_CHECKS={','.join(settings.disabled_checks)!r}",
                f"there is no health check {name!r}",
                f"The checks are: {', '.join(sorted(known)) or 'none'}.",
            )
    return None
