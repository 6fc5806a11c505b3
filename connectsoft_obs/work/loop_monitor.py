"""Liveness of the main loop of a worker framework.

It depends neither on the broker nor on what the framework publishes. Liveness fails if the loop executes nothing for too
long, except while its thread waits for a reply from the broker: a restart does not repair a broker. A long wait fails
readiness instead.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from connectsoft_obs.process.client_waits import waits_for_client
from connectsoft_obs.process.fork_safety import register_fork_handler
from connectsoft_obs.telemetry import Telemetry
from connectsoft_obs.vocabulary import JOB_HEARTBEAT
from connectsoft_obs.work.registry import registry_of

CHECK_INTERVAL = 1.0
"""Seconds between two checks in the health thread."""


class LoopMonitor:
    """Watches the main loop of a framework, from its creation until `stop()`. Create it in the loop's thread.

    Counts only time in which the health thread itself ran: a suspended process is not a blocked loop. Thread-safe.

    Args:
        telemetry: the Telemetry whose probes report the loop; its health checks must have been started.
        name: static name of the loop, a metric label.
        limit: seconds without progress after which liveness fails.
        wait_limit: seconds of waiting for the broker after which readiness fails.
        call_soon: schedules a call in the loop, from any thread; None if the loop reports its progress by `beat()`.
        is_disconnected: whether the framework is reconnecting to the broker.
        runs_jobs: whether the loop itself executes jobs, which can take any time.
    """

    def __init__(
        self,
        telemetry: Telemetry,
        name: str,
        *,
        limit: float,
        wait_limit: float,
        call_soon: Callable[[Callable[[], None]], object] | None = None,
        is_disconnected: Callable[[], bool] = lambda: False,
        runs_jobs: bool = False,
    ) -> None:
        self._name, self._limit, self._wait_limit = name, limit, wait_limit
        self._health = telemetry.health
        self._runs = registry_of(telemetry).runs if runs_jobs else set()
        self._call_soon, self._is_disconnected = call_soon, is_disconnected
        self._timestamp = telemetry.metrics.family(JOB_HEARTBEAT).number_series(name)
        self._beats = 0
        self._checked_beats = -1
        self._is_call_pending = False
        self._checked_at = time.monotonic()
        self._stalled_for = self._waited_for = 0.0
        self._is_stopped = False
        self.beat()
        telemetry.health.add_liveness_watch(f"loop:{name}", self.liveness_problem)
        telemetry.health.add_readiness_watch("broker", self.readiness_problem)
        telemetry.health.run_later(CHECK_INTERVAL, self._check)
        register_fork_handler(self)

    def beat(self) -> None:
        """Report progress of the loop; called in its thread."""
        self._thread_id = threading.get_ident()
        self._is_call_pending = False
        self._beats += 1
        self._timestamp.set(time.time())

    def liveness_problem(self) -> str:
        """Why the loop is not alive; "" if it is, and while the process drains."""
        if self._stalled_for <= self._limit or self._is_stopped or self._health.draining:
            return ""
        return f"the loop of {self._name} has not responded for {self._stalled_for:.0f} s"

    def readiness_problem(self) -> str:
        """Why the loop cannot receive work; "" if it can."""
        if self._waited_for <= self._wait_limit or self._is_stopped:
            return ""
        return f"{self._name} has waited for the broker for {self._waited_for:.0f} s"

    def stop(self) -> None:
        """Stop watching: the loop ends, and the process can continue without it."""
        self._is_stopped = True

    def after_fork_in_child(self) -> None:
        """In a forked child: the loop belongs to the parent."""
        self._is_stopped = True

    def _check(self) -> None:
        if self._is_stopped:
            return
        self._health.run_later(CHECK_INTERVAL, self._check)
        now = time.monotonic()
        elapsed, self._checked_at = min(now - self._checked_at, 2 * CHECK_INTERVAL), now
        is_waiting = self._is_disconnected() or waits_for_client(self._thread_id)
        if self._beats != self._checked_beats and not self._is_disconnected():
            self._stalled_for = self._waited_for = 0.0
        elif is_waiting or self._runs:
            self._stalled_for = 0.0
            self._waited_for = self._waited_for + elapsed if is_waiting else 0.0
        else:
            self._stalled_for += elapsed
        self._checked_beats = self._beats
        if self._call_soon is not None and not self._is_call_pending:
            self._is_call_pending = True
            self._call_soon(self.beat)
