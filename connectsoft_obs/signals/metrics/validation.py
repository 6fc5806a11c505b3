"""What a metric of a user may be called, and what its labels: the rules that our own names keep too.

A name that breaks one is refused where it is written, at import, with what to write instead.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from itertools import pairwise

from connectsoft_obs.errors import ConfigurationError
from connectsoft_obs.vocabulary import (
    CLOSED_LABELS,
    METRICS,
    TENANT_ID,
    UNBOUNDED_LABELS,
    UNIT_WORDS,
    Instrument,
    prometheus_name,
)

_NAME = re.compile(r"[a-z][a-z0-9]*(?:[._][a-z0-9]+)*")
_UNIT = re.compile(r"[!-~]{0,63}")
_WORD = re.compile(r"[._]")
_ENDINGS = frozenset({"bucket", "count", "created", "info", "sum", "total"})
_UNIT_NAMES = frozenset(UNIT_WORDS.values()) - {""} | {"second", "millis", "ratio"}
_PROMETHEUS = ("process_", "python_", "scrape_", "otel_")
_RESERVED_LABELS = frozenset({"job", "instance", "le", "quantile"})
_RESERVED_LABEL_STARTS = ("__", "exported_", "otel_scope_", "otel.scope.")
_NAMESPACES = frozenset(
    [
        "aspnetcore",
        "azure",
        "cicd",
        "connectsoft",
        "container",
        "cpu",
        "cpython",
        "db",
        "dns",
        "dotnet",
        "faas",
        "gen_ai",
        "go",
        "http",
        "hw",
        "jvm",
        "k8s",
        "kestrel",
        "mcp",
        "messaging",
        "network",
        "nfs",
        "nodejs",
        "openshift",
        "otel",
        "process",
        "rpc",
        "signalr",
        "system",
        "v8js",
        "vcs",
    ]
)
"""First words of the metrics of OpenTelemetry's conventions, which nobody else may add to, and ours."""

_FAMILIES = frozenset(metric.family for metric in METRICS)


def check_name(name: str, unit: str, instrument: Instrument) -> None:
    """Refuse a metric's name or unit.

    Raises:
        ConfigurationError: it breaks a rule.
    """
    given = f"{instrument.value}({name!r})"
    if not _NAME.fullmatch(name) or len(name) > 200:
        raise ConfigurationError(
            given, "a name is lower-case words between dots or underscores", "Write orders.placed."
        )
    words = _WORD.split(name)
    first, last = words[0], words[-1]
    if name.partition(".")[0] in _NAMESPACES and "." in name:
        raise ConfigurationError(
            given,
            f"names that begin with {first!r} belong to OpenTelemetry's conventions or to this package",
            f"Begin with a word of your own, such as shop.{name}.",
        )
    if last in _ENDINGS:
        raise ConfigurationError(given, f"Prometheus adds {last!r} itself", f"Leave the {last!r} away.")
    ratio = instrument is Instrument.GAUGE and unit == "1" and last == "ratio"
    if (word := next((word for word in words if word in _UNIT_NAMES), None)) and not ratio:
        raise ConfigurationError(given, f"the unit {word!r} is in the name", 'Give it as unit="s" or the like.')
    if instrument is Instrument.GAUGE and unit == "1" and not ratio:
        raise ConfigurationError(
            f"{given} with unit='1'",
            "translators call such a gauge a ratio, each in its own way",
            "Give the unit in braces, such as {item}, or end the name in .ratio.",
        )
    if not _UNIT.fullmatch(unit):
        raise ConfigurationError(f"{given} with unit={unit!r}", "that is no UCUM unit", "Write s, By, or {order}.")
    family = prometheus_name(name)
    if family in _FAMILIES or family.startswith(_PROMETHEUS) or family == "up":
        raise ConfigurationError(given, f"{family} on /metrics is taken", "Begin with a word of your own.")


def check_labels(name: str, labels: Iterable[str]) -> tuple[str, ...]:
    """Refuse labels whose values nobody can count, or that mean something else to Prometheus.

    Raises:
        ConfigurationError: one breaks a rule.
    """
    if isinstance(labels, str):
        raise ConfigurationError(f"{name} with labels={labels!r}", "that is text", f'Write labels=("{labels}",).')
    given = tuple(labels)
    for label in given:
        where = f"{name} with the label {label!r}"
        if not _NAME.fullmatch(label):
            raise ConfigurationError(where, "a label is lower-case words between dots or underscores", "Write tier.")
        if label in _RESERVED_LABELS or label.startswith(_RESERVED_LABEL_STARTS):
            raise ConfigurationError(where, "Prometheus uses that label itself", "Choose another word.")
        if label != TENANT_ID and _WORD.split(label)[-1] in ("id", "uuid", "guid"):
            raise ConfigurationError(
                where,
                "an id has as many values as there are things, and each becomes a series",
                "Put it on spans and log lines with obs.bind(); exemplars lead from a metric to its traces.",
            )
        if label.startswith("connectsoft.") and label not in CLOSED_LABELS | UNBOUNDED_LABELS | {TENANT_ID}:
            raise ConfigurationError(where, "labels that begin with connectsoft belong to this package", "Rename it.")
    if len({prometheus_name(label) for label in given}) < len(given):
        raise ConfigurationError(f"{name} with labels={given!r}", "two of them are one to Prometheus", "Rename one.")
    return given


def check_buckets(name: str, buckets: Sequence[float]) -> tuple[float, ...]:
    """Refuse bounds that are not finite numbers in order.

    Raises:
        ConfigurationError: they are not.
    """
    try:
        bounds = tuple(float(bound) for bound in buckets)
    except (TypeError, ValueError):
        bounds = ()
    ordered = all(low < high for low, high in pairwise(bounds))
    if not bounds or not ordered or not all(map(math.isfinite, bounds)):
        raise ConfigurationError(
            f"{name} with buckets={buckets!r}",
            "bounds are finite numbers, each above the one before",
            "Write buckets=(0.1, 0.5, 1, 5); the infinite one comes by itself.",
        )
    return bounds
