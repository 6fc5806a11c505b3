"""Metrics of the garbage collector: `cpython.gc.*` of the OpenTelemetry semantic conventions.

CPython has these totals only for the calling process. Here they are counted with the other metrics, so that they can be
aggregated over all workers. Each collection costs less than 0.5 us.
"""

from __future__ import annotations

import gc
from contextlib import suppress
from typing import Any

from connectsoft_obs.signals.metrics.registry import MetricRegistry
from connectsoft_obs.vocabulary import GC_COLLECTED, GC_COLLECTIONS, GC_UNCOLLECTABLE


class GcMetrics:
    """Counts collections between `start()` and `stop()`, which may be called repeatedly."""

    def __init__(self, metrics: MetricRegistry) -> None:
        self._series_by_generation = [
            tuple(
                metrics.family(metric).number_series(str(generation))
                for metric in (GC_COLLECTIONS, GC_COLLECTED, GC_UNCOLLECTABLE)
            )
            for generation in range(3)
        ]
        self._has_added_earlier = False

    def start(self) -> None:
        """Start counting; the first call also adds the collections before it."""
        if self in gc.callbacks:
            return
        if not self._has_added_earlier:
            self._has_added_earlier = True
            for stats, generation_series in zip(gc.get_stats(), self._series_by_generation, strict=False):
                for series, key in zip(generation_series, ("collections", "collected", "uncollectable"), strict=True):
                    series.add(stats.get(key, 0))
        gc.callbacks.append(self)

    def stop(self) -> None:
        """Stop counting."""
        with suppress(ValueError):
            gc.callbacks.remove(self)

    def __call__(self, phase: str, info: dict[str, Any]) -> None:
        """Called by the garbage collector before and after each collection."""
        if phase == "stop":
            collections, collected, uncollectable = self._series_by_generation[min(info["generation"], 2)]
            collections.cells[0] += 1.0
            collected.cells[0] += info["collected"]
            if info["uncollectable"]:
                uncollectable.cells[0] += info["uncollectable"]
