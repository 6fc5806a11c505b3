"""Public functions to define metrics of the application."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from connectsoft_obs.signals.metrics.instruments import Counter, Gauge, Histogram, register
from connectsoft_obs.telemetry.global_state import resolve
from connectsoft_obs.vocabulary import Instrument


def counter(name: str, *, unit: str = "", labels: Iterable[str] = (), help: str = "") -> Counter:
    """Define a counter: `placed = obs.counter("orders.placed", unit="{order}", labels=("tier",))`.

    It is `orders_placed_total` on /metrics and `orders.placed` over OTLP. It can be defined at import, and again with
    the same arguments.

    Args:
        name: lower-case words separated by dots, without unit and `total`; not in a namespace of OpenTelemetry.
        unit: UCUM unit: `s`, `By`, or the counted item in braces, such as `{order}`.
        labels: all label names. The number of their values is limited, and names of ids are rejected.
        help: one sentence.

    Raises:
        ConfigurationError: a name, unit or label breaks a rule, or the name is in use.
    """
    return Counter(register(Instrument.COUNTER, name, unit, help, labels), resolve)


def gauge(
    name: str,
    *,
    unit: str = "",
    labels: Iterable[str] = (),
    help: str = "",
    merge: Literal["sum", "max", "min", "latest"] = "sum",
) -> Gauge:
    """Define a gauge: `depth = obs.gauge("mail.queue.depth", unit="{message}")`.

    Args:
        name: as for `counter`.
        unit: as for `counter`; `1` only for a name that ends in `.ratio`.
        labels: as for `counter`.
        help: one sentence.
        merge: aggregation over worker processes: `sum`, `max` or `min` of the running workers, or `latest`, the highest
            value that any worker has set, for Unix timestamps.

    Raises:
        ConfigurationError: as for `counter`.
    """
    return Gauge(register(Instrument.GAUGE, name, unit, help, labels, merge=merge), resolve)


def histogram(
    name: str,
    *,
    unit: str = "",
    labels: Iterable[str] = (),
    help: str = "",
    buckets: Sequence[float] | None = None,
) -> Histogram:
    """Define a histogram: `size = obs.histogram("report.size", unit="By", labels=("kind",))`.

    Args:
        name: as for `counter`.
        unit: as for `counter`.
        labels: as for `counter`.
        help: one sentence.
        buckets: upper bounds in its unit, without +Inf; by default those of request durations for `s`, powers
            of four from 256 for `By`, and 1, 2, 5, 10 up to 10,000 for anything else.

    Raises:
        ConfigurationError: as for `counter`, or bounds are not in ascending order.
    """
    return Histogram(register(Instrument.HISTOGRAM, name, unit, help, labels, buckets=buckets), resolve)
