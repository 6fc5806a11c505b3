"""What could not be kept and what went wrong inside: one counter and one log line a kind, never an exception."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from connectsoft_obs.vocabulary import DROPPED, ERRORS, Metric, Signal

Count = Callable[[Metric, tuple[str, ...], float], None]
Say = Callable[[str, dict[str, Any]], None]


class InternalTelemetry:
    """Counts losses and internal errors, and says each kind once.

    Entries made before `attach()` are kept and handed over then. Safe from any thread; no method raises.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[Metric, tuple[str, ...], float]] | None = []
        self._count: Count | None = None
        self._say: Say | None = None
        self._said: dict[tuple[str, str], object] = {}

    def attach(self, count: Count, say: Say) -> None:
        """Where entries go from now on: a metric to add to, a log to write the first of each kind to."""
        self._count, self._say = count, say
        waiting, self._waiting = self._waiting or [], None
        for metric, labels, number in waiting:
            count(metric, labels, number)

    def count_dropped(self, signal: Signal, reason: str, number: float = 1) -> None:
        """Telemetry that was not kept: `connectsoft.obs.dropped`."""
        self._add(DROPPED, (signal.value, reason), number)

    def record_error(self, where: str, error: BaseException) -> None:
        """A step of ours that raised: `connectsoft.obs.errors`, and one line for each place and class."""
        self._add(ERRORS, (where,), 1)
        facts = {"where": where, "error": f"{type(error).__name__}: {_text(error)}"}
        self.warn_once(
            (where, type(error).__name__), "connectsoft_obs failed internally; the application is not affected", facts
        )

    def warn_once(self, kind: tuple[str, str], message: str, facts: dict[str, Any]) -> None:
        """Write a warning unless this kind was written before."""
        if self._say is None:
            return
        mine = object()
        if self._said.setdefault(kind, mine) is not mine:  # one step, so that of two threads one says it
            return
        try:
            self._say(message, facts)
        except Exception:  # noqa: BLE001  the log itself may be what is broken; the counter has it
            self._add(ERRORS, ("ledger",), 1)

    def _add(self, metric: Metric, labels: tuple[str, ...], number: float) -> None:
        if self._count is None:
            if self._waiting is not None and len(self._waiting) < 1000:
                self._waiting.append((metric, labels, number))
            return
        try:
            self._count(metric, labels, number)
        except Exception:  # noqa: BLE001, S110  nothing is left to report it to
            pass


def set_current_getter(current: Callable[[], InternalTelemetry | None]) -> None:
    """How the ledger of the process is found, for `failed`."""
    global _current
    _current = current


def record_internal_error(where: str, error: BaseException) -> None:
    """Account for a step of ours that raised, in whatever ledger is in force. For where no Telemetry is at hand."""
    try:
        internal_telemetry = _current()
        if internal_telemetry is not None:
            internal_telemetry.record_error(where, error)
    except Exception:  # noqa: BLE001, S110  finding the ledger is what failed
        pass


def _nobody() -> InternalTelemetry | None:
    return None


_current: Callable[[], InternalTelemetry | None] = _nobody


def _text(error: BaseException) -> str:
    try:
        return str(error)[:500]
    except Exception:  # noqa: BLE001  a broken __str__ of somebody's exception
        return "<unprintable>"
