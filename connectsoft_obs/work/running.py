"""What runs in this process for one Telemetry, and the records of what ran: the state that all work shares."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from connectsoft_obs.forks import renew
from connectsoft_obs.telemetry import Telemetry

if TYPE_CHECKING:
    from connectsoft_obs.work.heartbeats import Heartbeat
    from connectsoft_obs.work.run import Run

_KEPT = 4096
"""Records that are kept; what was never seen before is bound anew each time beyond that."""

R = TypeVar("R")


class Running:
    """The work of one Telemetry in this process. Thread-safe: each change is one operation on a set or dictionary."""

    def __init__(self, telemetry: Telemetry) -> None:
        self.runs: set[Run] = set()
        self.loops: dict[str, Heartbeat] = {}
        self.after: Callable[[Run], None] | None = None
        """Told of each run that is over, while the process drains."""
        self._records: dict[tuple[object, ...], Any] = {}
        renew(self)

    def record(self, key: tuple[object, ...], make: Callable[[], R]) -> R:
        """The record with this key, made when first asked for; the key begins with the class of the record."""
        known = self._records.get(key)
        if known is None:
            known = made = make()
            if len(self._records) < _KEPT:
                known = self._records.setdefault(key, made)
        found: R = known
        return found

    def forked(self) -> None:
        """In a forked child: what ran in the parent runs there."""
        self.runs.clear()
        self.loops.clear()


_running: weakref.WeakKeyDictionary[Telemetry, Running] = weakref.WeakKeyDictionary()


def running(telemetry: Telemetry) -> Running:
    """The work of a Telemetry."""
    known = _running.get(telemetry)
    return _running.setdefault(telemetry, Running(telemetry)) if known is None else known
