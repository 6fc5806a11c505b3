"""What the garbage collector of this interpreter did, counted where all workers' numbers are.

CPython keeps these totals itself, but only for the process that asks. Here each collection adds to the cells, at less
than half a microsecond; `cpython.gc.*` of the semantic conventions.
"""

from __future__ import annotations

import gc
from contextlib import suppress
from typing import Any

from connectsoft_obs.signals.metrics.registry import MetricRegistry
from connectsoft_obs.vocabulary import GC_COLLECTED, GC_COLLECTIONS, GC_UNCOLLECTABLE


class GcMetrics:
    """Counts collections from `start()` to `stop()`, both of which may be called again."""

    def __init__(self, metrics: MetricRegistry) -> None:
        self._generations = [
            tuple(
                metrics.family(metric).number(str(generation))
                for metric in (GC_COLLECTIONS, GC_COLLECTED, GC_UNCOLLECTABLE)
            )
            for generation in range(3)
        ]
        self._before = False

    def start(self) -> None:
        """Count from here on; and once what was collected before."""
        if self in gc.callbacks:
            return
        if not self._before:
            self._before = True
            for stats, numbers in zip(gc.get_stats(), self._generations, strict=False):
                for number, key in zip(numbers, ("collections", "collected", "uncollectable"), strict=True):
                    number.add(stats.get(key, 0))
        gc.callbacks.append(self)

    def stop(self) -> None:
        """Count no more."""
        with suppress(ValueError):
            gc.callbacks.remove(self)

    def __call__(self, phase: str, info: dict[str, Any]) -> None:
        """What the collector calls before and after each collection."""
        if phase == "stop":
            collections, collected, uncollectable = self._generations[min(info["generation"], 2)]
            collections.cells[0] += 1.0
            collected.cells[0] += info["collected"]
            if info["uncollectable"]:
                uncollectable.cells[0] += info["uncollectable"]
