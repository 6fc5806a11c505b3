"""The process's metrics as health keeps them."""

from __future__ import annotations

from connectsoft_obs.signals.metrics import MetricRegistry
from connectsoft_obs.vocabulary import Metric


class HealthMetrics:
    """Adds, sets and observes by definition and label values. Thread-safe."""

    def __init__(self, metrics: MetricRegistry) -> None:
        self._metrics = metrics

    def add(self, metric: Metric, labels: tuple[str, ...], amount: float) -> None:
        """Add to a counter."""
        self._metrics.add(metric, labels, amount)

    def set(self, metric: Metric, labels: tuple[str, ...], value: float) -> None:
        """Set a gauge, or the position of a state."""
        self._metrics.family(metric).number(*labels).set(value)

    def observe(self, metric: Metric, labels: tuple[str, ...], value: float) -> None:
        """Count a value of a histogram."""
        self._metrics.family(metric).histogram(*labels).observe(value)
