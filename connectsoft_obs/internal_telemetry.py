"""Counts dropped telemetry and internal errors, and logs the first of each kind. Never raises."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

from connectsoft_obs.process.threads import set_error_reporter
from connectsoft_obs.redaction import safe_str
from connectsoft_obs.vocabulary import DROPPED, ERRORS, Metric, Signal

AddToCounter = Callable[[Metric, tuple[str, ...], float], None]
LogWarning = Callable[[str, dict[str, Any]], None]

_MAX_PENDING = 1000
_MAX_ERROR_TEXT = 500


class InternalTelemetry:
    """Counters and warnings of one Telemetry about itself.

    Counts made before `attach()` are kept and added then. Safe from any thread; no method raises.
    """

    def __init__(self) -> None:
        self._pending: list[tuple[Metric, tuple[str, ...], float]] | None = []
        self._add_to_counter: AddToCounter | None = None
        self._log_warning: LogWarning | None = None
        self._warned: dict[tuple[str, str], object] = {}

    def attach(self, add_to_counter: AddToCounter, log_warning: LogWarning) -> None:
        """Set the counter function and the log function, and add the counts that are pending."""
        self._add_to_counter, self._log_warning = add_to_counter, log_warning
        pending, self._pending = self._pending or [], None
        for metric, labels, number in pending:
            add_to_counter(metric, labels, number)

    def count_dropped(self, signal: Signal, reason: str, number: float = 1) -> None:
        """Count dropped telemetry items in `connectsoft.obs.dropped`."""
        self._add(DROPPED, (signal.value, reason), number)

    def record_error(self, where: str, error: BaseException) -> None:
        """Count an internal error in `connectsoft.obs.errors`; log the first of each place and exception class."""
        self._add(ERRORS, (where,), 1)
        text = safe_str(error, str)[:_MAX_ERROR_TEXT]
        self.warn_once(
            (where, type(error).__name__),
            "connectsoft_obs failed internally; the application is not affected",
            {"where": where, "error": f"{type(error).__name__}: {text}"},
        )

    def guard(self, where: str) -> Guard:
        """A context manager that records exceptions of its block instead of raising them. For code off the hot path."""
        return Guard(where, self.record_error)

    def warn_once(self, kind: tuple[str, str], message: str, fields: dict[str, Any]) -> None:
        """Log a warning unless one of this kind was logged before."""
        if self._log_warning is None:
            return
        marker = object()
        if self._warned.setdefault(kind, marker) is not marker:  # atomic: of two threads only one logs
            return
        try:
            self._log_warning(message, fields)
        except Exception:  # noqa: BLE001  logging itself may be broken; the counter still shows the error
            self._add(ERRORS, ("internal_telemetry",), 1)

    def _add(self, metric: Metric, labels: tuple[str, ...], number: float) -> None:
        if self._add_to_counter is None:
            if self._pending is not None and len(self._pending) < _MAX_PENDING:
                self._pending.append((metric, labels, number))
            return
        try:
            self._add_to_counter(metric, labels, number)
        except Exception:  # noqa: BLE001, S110  there is nowhere left to report it
            pass


class Guard:
    """Passes exceptions of a `with` block to `record` and suppresses them; lets BaseException through."""

    __slots__ = ("_record", "_where")

    def __init__(self, where: str, record: Callable[[str, BaseException], None]) -> None:
        self._where = where
        self._record = record

    def __enter__(self) -> None:
        """Enter the block."""

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> bool:
        """Record an Exception and suppress it."""
        if not isinstance(exc_val, Exception):
            return False
        self._record(self._where, exc_val)
        return True


def set_current_getter(getter: Callable[[], InternalTelemetry | None]) -> None:
    """Set the function that returns the InternalTelemetry of the process."""
    global _get_current
    _get_current = getter


def record_internal_error(where: str, error: BaseException) -> None:
    """Record an internal error where no Telemetry is at hand; in the InternalTelemetry of the process, if there is one."""
    try:
        internal_telemetry = _get_current()
        if internal_telemetry is not None:
            internal_telemetry.record_error(where, error)
    except Exception:  # noqa: BLE001, S110  the getter itself failed
        pass


def guard(where: str) -> Guard:
    """Like `InternalTelemetry.guard`, for code that has no Telemetry at hand."""
    return Guard(where, record_internal_error)


def _no_telemetry() -> InternalTelemetry | None:
    return None


_get_current: Callable[[], InternalTelemetry | None] = _no_telemetry

set_error_reporter(record_internal_error)
