"""Adapter that lets health record metrics without importing the metrics signal."""

from __future__ import annotations

from connectsoft_obs.signals.metrics import MetricRegistry
from connectsoft_obs.vocabulary import Metric


class HealthMetricsAdapter:
    """Records metrics by definition and label values. Thread-safe."""

    def __init__(self, metrics: MetricRegistry) -> None:
        self._metrics = metrics

    def add(self, metric: Metric, labels: tuple[str, ...], amount: float) -> None:
        """Add to a counter."""
        self._metrics.add(metric, labels, amount)

    def set(self, metric: Metric, labels: tuple[str, ...], value: float) -> None:
        """Set a gauge, or a state by its position."""
        self._metrics.family(metric).number_series(*labels).set(value)

    def observe(self, metric: Metric, labels: tuple[str, ...], value: float) -> None:
        """Observe a value in a histogram."""
        self._metrics.family(metric).histogram_series(*labels).observe(value)
