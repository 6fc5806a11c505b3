"""What a test saw: finished spans, log lines, metrics; and failures that print what was there instead."""

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
    """The series of one metric that matched, added up.

    Args:
        value: sum of counters and gauges.
        count: number of measurements of a histogram.
        sum: total of a histogram.
        series: label values of each series that matched, by label.
        exemplars: exemplars of a histogram.
    """

    value: float
    count: int
    sum: float
    series: tuple[Mapping[str, str], ...]
    exemplars: tuple[Exemplar, ...]


class Captured:
    """Filled while `capture()` is open, and readable after it."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []
        self.logs: list[dict[str, Any]] = []
        self.telemetry: Telemetry | None = None

    def span(self, name: str | None = None, **attributes: Any) -> ReadableSpan:
        """The one finished span with this name and these attributes (dots written as underscores)."""
        found = [span for span in self.spans if name in (None, span.name) and _has(span.attributes or {}, attributes)]
        return _one("span", found, [f"{span.name} {dict(span.attributes or {})}" for span in self.spans])

    def log(self, message: str | None = None, **fields: Any) -> dict[str, Any]:
        """The one line with this message and these fields (dots written as underscores)."""
        found = [line for line in self.logs if message in (None, line.get("message")) and _has(line, fields)]
        return _one("log line", found, [str(line) for line in self.logs])

    def metric(self, name: str, **labels: Any) -> MetricValue:
        """The series of a metric, by its OpenTelemetry name, that have these labels (dots written as underscores).

        Raises:
            AssertionError: there is no such metric.
        """
        snapshots = [] if self.telemetry is None else self.telemetry.metrics.snapshots()
        by_name = {snapshot.metric.name: snapshot for snapshot in snapshots}
        if name not in by_name:
            with_series = sorted(known for known, snapshot in by_name.items() if snapshot.series)
            message = f"no metric {name!r}; there are: {', '.join(with_series) or 'none'}"
            raise AssertionError(message)
        return _measured(by_name[name], {key: str(value) for key, value in labels.items()})


def _measured(snapshot: Snapshot, wanted: Mapping[str, str]) -> MetricValue:
    names = [prometheus_name(label) for label in snapshot.metric.labels]
    value, count, total = 0.0, 0, 0.0
    series: list[Mapping[str, str]] = []
    exemplars: list[Exemplar] = []
    for values, content in snapshot.series.items():
        labels = {name: given for name, given in zip(names, values, strict=False) if given}
        if any(labels.get(key, "") != expected for key, expected in wanted.items()):
            continue
        series.append(labels)
        if isinstance(content, HistogramData):
            count += content.count
            total += content.total
            exemplars += [exemplar for exemplar in content.exemplars if exemplar is not None]
        else:
            value += content
    return MetricValue(value, count, total, tuple(series), tuple(exemplars))


def _has(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    by_name = {prometheus_name(key): value for key, value in found.items()}
    return all(by_name.get(key) == value for key, value in wanted.items())


def _one(kind: str, found: list[T], all_of_them: Iterable[str]) -> T:
    if len(found) == 1:
        return found[0]
    seen = "\n  ".join(all_of_them) or "nothing"
    message = f"expected one {kind}, found {len(found)}; seen:\n  {seen}"
    raise AssertionError(message)
