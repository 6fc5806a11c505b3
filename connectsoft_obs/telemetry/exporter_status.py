"""Status of one exporter: its state, its log lines about failures, and its text in /health."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from connectsoft_obs.export import ApplicationInsightsDestination, Destination, ExportResult
from connectsoft_obs.process.fork_safety import register_fork_handler
from connectsoft_obs.redaction import DEFAULT_POLICY, REDACTED
from connectsoft_obs.signals.logs.levels import ERROR, INFO, WARNING
from connectsoft_obs.vocabulary import ExporterState, Signal

LogFunction = Callable[[int, str, dict[str, Any]], None]

REPEAT_INTERVAL = 3600.0
"""Seconds until the line about a refusal or about rejected items is repeated."""
RETURN_INTERVAL = 60.0
"""Seconds until a refusal that returns after a recovery is logged again."""

_MAX_DETAIL = 300


class ExporterStatus:
    """Status of one exporter, from the results of its requests; written by the thread of the exporter.

    Args:
        destination: destination of the exporter.
        log: logs a line.
        on_state_change: called with the signal after a change of the state.
    """

    def __init__(
        self,
        destination: Destination | ApplicationInsightsDestination,
        log: LogFunction,
        on_state_change: Callable[[Signal], None],
    ) -> None:
        self.destination = destination
        self.state: ExporterState = ExporterState.CLOSED
        self._log = log
        self._on_state_change = on_state_change
        self._reason = self._action = ""
        self._is_reported = False
        self._logged_at: dict[str, float] = {}
        register_fork_handler(self)

    def record_result(self, result: ExportResult) -> None:
        """Update the state after a request, and log what an operator must know."""
        if result.refused:
            self._set_state(ExporterState.REFUSED, result.reason)
            self._log_refusal(result)
        elif result.retry:
            if self._set_state(ExporterState.OPEN, result.reason):
                self._is_reported = True
                self._log(WARNING, "export failed; retrying (telemetry is buffered)", self._fields(result.reason))
        else:
            previous_reason = self._reason
            if self._set_state(ExporterState.CLOSED, "") and self._is_reported:
                self._is_reported = False
                self._log(INFO, "export recovered", self._fields(previous_reason))
            if result.rejected or result.detail:
                self._log_rejected(result)

    def problem(self) -> str:
        """Why exports fail, for /health; "" if they do not."""
        if self.state is ExporterState.CLOSED:
            return ""
        if self.state is ExporterState.OPEN:
            return f"exports fail: {self._reason}"
        return f"exports are refused: {self._reason}. {self._action}"

    def after_fork_in_child(self) -> None:
        """In a forked child: it has not exported anything yet."""
        self.state, self._reason, self._is_reported, self._logged_at = ExporterState.CLOSED, "", False, {}

    def _set_state(self, state: ExporterState, reason: str) -> bool:
        """Set the state; True if it has changed."""
        is_changed = state is not self.state
        self.state, self._reason = state, reason
        if is_changed:
            self._on_state_change(self.destination.signal)
        return is_changed

    def _log_refusal(self, result: ExportResult) -> None:
        self._action = self.destination.action(result.reason)
        if not self._is_due(result.reason, REPEAT_INTERVAL if self._is_reported else RETURN_INTERVAL):
            return
        self._is_reported = True
        consequence = "telemetry is buffered" if result.retry else "telemetry is dropped"
        fields = {**self._fields(result.reason), "action": self._action, **self._detail(result)}
        self._log(ERROR, f"export refused; {consequence}", fields)

    def _log_rejected(self, result: ExportResult) -> None:
        """Log a partial success, whose message the OTLP specification requires to be shown."""
        if self._is_due("rejected", REPEAT_INTERVAL):
            message = (
                "export accepted, but items were rejected" if result.rejected else "export accepted with a warning"
            )
            self._log(
                WARNING, message, {**self._fields("rejected"), "rejected": result.rejected, **self._detail(result)}
            )

    def _is_due(self, kind: str, interval: float) -> bool:
        """Whether no line of this kind was logged within the interval; if so, it counts as logged now."""
        now = time.monotonic()
        if now - self._logged_at.get(kind, -interval) < interval:
            return False
        self._logged_at[kind] = now
        return True

    def _fields(self, reason: str) -> dict[str, Any]:
        return {"signal": self.destination.signal.value, "endpoint": self.destination.address, "reason": reason}

    def _detail(self, result: ExportResult) -> dict[str, str]:
        """The text of the collector without secrets; collectors repeat a token that they refuse."""
        detail = result.detail
        for value in self.destination.credentials:
            detail = detail.replace(value, REDACTED)
        detail = DEFAULT_POLICY.redact_text(detail)[:_MAX_DETAIL]
        return {"detail": detail} if detail else {}
