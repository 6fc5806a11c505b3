"""Spans, log lines and metrics that a test captured. A failed lookup lists what was captured instead."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from opentelemetry.sdk.trace import ReadableSpan

from connectsoft_obs.signals.metrics import Exemplar, HistogramData, Snapshot
from connectsoft_obs.telemetry import Telemetry
from connectsoft_obs.vocabulary import prometheus_name

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class MetricValue:
    """The matching series of one metric, aggregated.

    Args:
        value: sum of the values of counters and gauges.
        count: number of measurements of a histogram.
        sum: sum of the measurements of a histogram.
        series: labels of each matching series.
        exemplars: exemplars of a histogram.
    """

    value: float
    count: int
    sum: float
    series: tuple[Mapping[str, str], ...]
    exemplars: tuple[Exemplar, ...]


class Captured:
    """Telemetry recorded by `capture()`; also readable after the block has ended."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []
        self.logs: list[dict[str, Any]] = []
        self.telemetry: Telemetry | None = None

    def span(self, name: str | None = None, **attributes: Any) -> ReadableSpan:
        """Return the only ended span with this name and these attributes.

        Args:
            name: span name; any by default.
            attributes: attribute names with underscores instead of dots, and values.

        Raises:
            AssertionError: no span or several spans match; the message lists all captured spans.
        """
        matches = [
            span for span in self.spans if name in (None, span.name) and _has_items(span.attributes or {}, attributes)
        ]
        return _single_match("span", matches, [f"{span.name} {dict(span.attributes or {})}" for span in self.spans])

    def log(self, message: str | None = None, **fields: Any) -> dict[str, Any]:
        """Return the only log line with this message and these fields.

        Args:
            message: log message; any by default.
            fields: field names with underscores instead of dots, and values.

        Raises:
            AssertionError: no line or several lines match; the message lists all captured lines.
        """
        matches = [line for line in self.logs if message in (None, line.get("message")) and _has_items(line, fields)]
        return _single_match("log line", matches, [str(line) for line in self.logs])

    def metric(self, name: str, **labels: Any) -> MetricValue:
        """Aggregate the series of a metric that have these labels.

        Args:
            name: OpenTelemetry name of the metric.
            labels: label names with underscores instead of dots, and values.

        Raises:
            AssertionError: the metric does not exist; the message lists the metrics that have series.
        """
        snapshots = [] if self.telemetry is None else self.telemetry.metrics.snapshots()
        by_name = {snapshot.metric.name: snapshot for snapshot in snapshots}
        if name not in by_name:
            with_series = sorted(metric for metric, snapshot in by_name.items() if snapshot.series)
            message = f"metric {name!r} does not exist; metrics with series: {', '.join(with_series) or 'none'}"
            raise AssertionError(message)
        return _aggregate(by_name[name], {key: str(value) for key, value in labels.items()})


def _aggregate(snapshot: Snapshot, required_labels: Mapping[str, str]) -> MetricValue:
    names = [prometheus_name(label) for label in snapshot.metric.labels]
    value, count, total = 0.0, 0, 0.0
    series: list[Mapping[str, str]] = []
    exemplars: list[Exemplar] = []
    for values, content in snapshot.series.items():
        labels = {name: label_value for name, label_value in zip(names, values, strict=False) if label_value}
        if any(labels.get(key, "") != expected for key, expected in required_labels.items()):
            continue
        series.append(labels)
        if isinstance(content, HistogramData):
            count += content.count
            total += content.sum
            exemplars += [exemplar for exemplar in content.exemplars if exemplar is not None]
        else:
            value += content
    return MetricValue(value, count, total, tuple(series), tuple(exemplars))


def _has_items(attributes: Mapping[str, Any], required: Mapping[str, Any]) -> bool:
    by_name = {prometheus_name(key): value for key, value in attributes.items()}
    return all(by_name.get(key) == value for key, value in required.items())


def _single_match(kind: str, matches: list[T], descriptions: Iterable[str]) -> T:
    if len(matches) == 1:
        return matches[0]
    captured = "\n  ".join(descriptions) or "nothing"
    message = f"expected one {kind}, found {len(matches)}; captured:\n  {captured}"
    raise AssertionError(message)
