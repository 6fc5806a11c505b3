"""Lifecycle of the health checks, from service start to stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from logging import ERROR, INFO, WARNING
from typing import Protocol

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.health.check_runner import CheckRunner
from connectsoft_obs.health.check_state import CheckState
from connectsoft_obs.health.checks import Check, Probe, Scope, StartupTask
from connectsoft_obs.health.daemon_threads import DaemonThreadPool, TimerThread
from connectsoft_obs.health.executor import CheckExecutor, LoopRunner
from connectsoft_obs.health.heartbeat_file import HEARTBEAT_INTERVAL, HeartbeatFile
from connectsoft_obs.health.loop_watchdog import LOOP_TICK_INTERVAL
from connectsoft_obs.health.registry import CheckRegistry
from connectsoft_obs.health.report import STATES_BY_SEVERITY, Entry, Report
from connectsoft_obs.health.startup_tasks import StartupTaskRunner
from connectsoft_obs.health.systemd import Systemd
from connectsoft_obs.health.transitions import LogFunction, MetricSink
from connectsoft_obs.internal_telemetry import InternalTelemetry
from connectsoft_obs.settings import Settings
from connectsoft_obs.vocabulary import CHECK_DURATION, CHECK_NAME, CHECK_STATUS, HEALTH_KIND, HEALTH_STATE, HealthState

POLL_INTERVAL = 1.0
"""Seconds between evaluations of changes that depend on time alone: stale results, the grace period, declarations."""

CheckKey = tuple[Probe, str]


class LifecycleOwner(Protocol):
    """The object whose checks run, and which evaluates their results."""

    def report(self, probe: Probe) -> Report:
        """The current report of a probe."""

    def evaluate(self, cause: str = "") -> None:
        """Publish transitions."""

    def on_startup_complete(self, cause: str) -> None:
        """All startup tasks have passed."""


class CheckLifecycle:
    """Threads, checks and startup tasks of one `Health`. It can be started and stopped repeatedly."""

    def __init__(
        self,
        settings: Settings,
        registry: CheckRegistry,
        internal_telemetry: InternalTelemetry,
        log: LogFunction,
        metrics: MetricSink,
        owner: LifecycleOwner,
        environ: Mapping[str, str],
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._internal_telemetry = internal_telemetry
        self._log = log
        self._metrics = metrics
        self._owner = owner
        self._timer = TimerThread(internal_telemetry.guard("health.schedule"))
        self._pool = DaemonThreadPool()
        self._loop_runner = LoopRunner()
        self._executor = CheckExecutor(self._pool, self._loop_runner)
        self._heartbeat_file = HeartbeatFile(settings.heartbeat_file) if settings.heartbeat_file else None
        self.systemd: Systemd = Systemd(environ)
        self.after_fork_in_child()

    def after_fork_in_child(self) -> None:
        """Initialise as not started, also in a forked child."""
        self.startup: StartupTaskRunner | None = None
        self.report_version: int = 0
        """Increases whenever a report may have changed."""
        self._runners: dict[CheckKey, CheckRunner] = {}
        self._reported_states: dict[CheckKey, HealthState] = {}
        self._registry_version = -1
        self._started_at = 0.0
        self._sync_lock = threading.RLock()
        self._timer.after_fork_in_child()
        self._pool.after_fork_in_child()
        self._loop_runner.after_fork_in_child()

    @property
    def running(self) -> bool:
        """Whether it has been started and not stopped."""
        return self._timer.running

    def use_running_loop(self) -> bool:
        """Use the caller's event loop for async checks. Returns whether it is new."""
        return self._loop_runner.use_running_loop()

    def run_later(self, seconds: float, call: Callable[[], object]) -> None:
        """Run a call in the health thread after a delay."""
        self._timer.call_later(seconds, call)

    def start(self, check_loop: Callable[[], None]) -> None:
        """Start checks and startup tasks; `check_loop` is called every `LOOP_TICK_INTERVAL` in the health thread."""
        self._started_at = time.monotonic()
        self._runners.clear()
        self._reported_states.clear()
        self._registry_version = -1
        self._timer.start()
        if not self._timer.running:
            return  # the next probe request retries
        self.startup = StartupTaskRunner(
            self._registry.tasks(), self._executor, self._timer, self._on_task_done, self._on_tasks_complete
        )
        self._sync()
        if not self.startup.complete:
            self._log(INFO, "readiness waits for startup tasks", {"task": ", ".join(self.startup.names)})
            self._timer.call_soon(self.startup.run_next)
        self._timer.call_every(LOOP_TICK_INTERVAL, check_loop)
        self._timer.call_every(POLL_INTERVAL, self._poll)
        if self._heartbeat_file is not None:
            self._timer.call_every(HEARTBEAT_INTERVAL, self._write_heartbeat)
        if (interval := self.systemd.watchdog_interval) is not None:
            self._timer.call_every(interval, self._notify_watchdog)

    def stop_checks(self) -> None:
        """Start no more runs of checks."""
        for runner in self._runners.values():
            runner.stop()

    def stop(self) -> None:
        """Stop checks and threads; the last results stay readable."""
        self.stop_checks()
        self._timer.stop()
        self._pool.stop()
        self._pool = DaemonThreadPool()
        self._loop_runner.stop()
        self._executor = CheckExecutor(self._pool, self._loop_runner)
        if self._heartbeat_file is not None:
            self._heartbeat_file.remove()

    def entries(self, probe: Probe) -> list[Entry]:
        """The entries of the checks of a probe."""
        self._sync()
        return [
            runner.state.entry() for (check_probe, _), runner in list(self._runners.items()) if check_probe is probe
        ]

    def startup_entries(self) -> list[Entry]:
        """The entries of the startup tasks."""
        return [] if self.startup is None else self.startup.entries()

    def not_ready_reason(self) -> str:
        """Why readiness fails although startup has completed, apart from failed checks; "" if there is no reason."""
        pending = [
            name
            for (probe, name), runner in list(self._runners.items())
            if probe is Probe.READINESS and runner.state.result is None
        ]
        if pending:
            return f"waiting for the first run of {', '.join(pending)}"
        remaining = self._settings.startup_grace_period - (time.monotonic() - self._started_at)
        return f"startup_grace_period ends in {remaining:.0f} s" if remaining > 0 else ""

    def _sync(self) -> None:
        """Apply declarations and removals since the last call."""
        if self._registry_version == self._registry.version or not self.running:
            return
        with self._sync_lock:
            self._sync_runners()

    def _sync_runners(self) -> None:
        self._registry_version = self._registry.version
        disabled = self._settings.disabled_checks
        declared = {(check.probe, check.name): check for check in self._registry.checks() if check.name not in disabled}
        for key in [key for key in self._runners if key not in declared]:
            self._runners.pop(key).stop()
        for key, check in declared.items():
            runner = self._runners.get(key)
            if runner is None or runner.state.check is not check:
                if runner is not None:
                    runner.stop()
                new_runner = self._runners[key] = self._create_runner(check)
                new_runner.start()
        self.report_version += 1  # after the change, so that no earlier report is cached under the new version

    def _create_runner(self, check: Check) -> CheckRunner:
        interval = check.interval or self._settings.check_interval
        timeout = check.timeout or self._settings.check_timeout
        if check.critical and check.scope is Scope.SHARED and check.probe is Probe.READINESS:
            self._log(
                WARNING,
                f"health check {check.name} is critical and shared: if it fails, all instances leave rotation at the "
                "same time and the service is unavailable; with critical=False it is reported and instances keep serving",
                {CHECK_NAME: check.name},
            )
        # Three intervals: two results may be missing before the last one is stale.
        state = CheckState(check, 3 * interval + timeout)
        return CheckRunner(state, interval, timeout, self._executor, self._timer, self)

    # --- Health thread --------------------------------------------------------------------------------------------
    def _poll(self) -> None:
        self._sync()
        self._owner.evaluate()

    def on_result(self, state: CheckState, error: BaseException | None) -> None:
        """Record the state of a check, and log it if it has changed."""
        self.report_version += 1
        check, current_state = state.check, state.state
        key = (check.probe, check.name)
        previous_state = self._reported_states.get(key)
        self._reported_states[key] = current_state
        self._metrics.set(CHECK_STATUS, (check.name, check.probe.value), STATES_BY_SEVERITY.index(current_state))
        is_healthy = current_state is HealthState.HEALTHY
        if previous_state is not current_state and not (previous_state is None and is_healthy):
            fields = {
                CHECK_NAME: check.name,
                HEALTH_KIND: check.probe.value,
                HEALTH_STATE: current_state.value,
                "previous": "unknown" if previous_state is None else previous_state.value,
                "reason": state.reason,
            }
            self._log(INFO if is_healthy else WARNING, f"health check {check.name} is {current_state}", fields, error)
        self._owner.evaluate()

    def on_run(self, state: CheckState, seconds: float, passed: bool) -> None:
        """Record the duration of a run."""
        outcome = HealthState.HEALTHY if passed else HealthState.UNHEALTHY
        labels = (state.check.name, state.check.probe.value, outcome.value)
        self._metrics.observe(CHECK_DURATION, labels, seconds)

    def on_slow(self, state: CheckState) -> None:
        """Log that a check is slow."""
        duration = 0.0 if state.result is None else state.result.duration
        fields = {CHECK_NAME: state.check.name, "seconds": round(duration, 3)}
        self._log(WARNING, f"health check {state.check.name} is slow", fields)

    def _on_task_done(self, task: StartupTask, seconds: float, reason: str, error: BaseException | None) -> None:
        self.report_version += 1
        fields = {"task": task.name, "seconds": round(seconds, 3)}
        if reason:
            self._log(ERROR, f"startup task {task.name} failed", {**fields, "reason": reason}, error)
        else:
            self._log(INFO, f"startup task {task.name} completed", fields)

    def _on_tasks_complete(self) -> None:
        self._owner.on_startup_complete(f"startup completed after {time.monotonic() - self._started_at:.1f} s")

    def _notify_watchdog(self) -> None:
        if self._owner.report(Probe.LIVENESS).passes:
            self.systemd.notify_watchdog()

    def _write_heartbeat(self) -> None:
        if self._heartbeat_file is not None and self._owner.report(Probe.LIVENESS).passes:
            with self._internal_telemetry.guard("health.heartbeat"):
                self._heartbeat_file.write()


def validate_disabled_checks(settings: Settings, registry: CheckRegistry) -> ConfigurationError | None:
    """An error if the setting `disabled_checks` names an unknown check. Call it after all checks are declared."""
    names = {check.name for check in registry.checks()}
    for name in settings.disabled_checks:
        if name not in names:
            return ConfigurationError(
                f"CONNECTSOFT_OBS_DISABLED_CHECKS={','.join(settings.disabled_checks)!r}",
                f"there is no health check {name!r}",
                f"The checks are: {', '.join(sorted(names)) or 'none'}.",
            )
    return None
