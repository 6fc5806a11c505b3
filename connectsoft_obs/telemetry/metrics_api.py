"""The functions with which applications define metrics of their own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from connectsoft_obs.signals.metrics.instruments import Counter, Gauge, Histogram, register
from connectsoft_obs.telemetry.global_state import resolve
from connectsoft_obs.vocabulary import Instrument


def counter(name: str, *, unit: str = "", labels: Iterable[str] = (), help: str = "") -> Counter:
    """Define a counter: `placed = obs.counter("orders.placed", unit="{order}", labels=("tier",))`.

    It is `orders_placed_total` on /metrics and `orders.placed` over OTLP. Defining it again the same way, or making it
    at import, is fine.

    Args:
        name: lower-case words between dots, without unit and without `total`; not in a namespace of OpenTelemetry.
        unit: UCUM unit: `s`, `By`, or what is counted in braces.
        labels: the only labels it may have; their values are capped, and ids are refused.
        help: one sentence.

    Raises:
        ConfigurationError: a name, unit or label that breaks a rule, or a name that is taken.
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
        merge: what several workers add up to: the sum, the highest or the lowest of the living, or `latest`, the highest
            that was ever set, for moments in Unix time.

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
        buckets: upper bounds in its unit, without the infinite one; by default those of request durations for `s`, powers
            of four from 256 for `By`, and 1, 2, 5, 10 up to 10,000 for anything else.

    Raises:
        ConfigurationError: as for `counter`, or bounds that are not in order.
    """
    return Histogram(register(Instrument.HISTOGRAM, name, unit, help, labels, buckets=buckets), resolve)
