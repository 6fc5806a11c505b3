"""Validates names, labels and buckets of application metrics; the metrics of this package follow the same rules.

An invalid definition raises when it is made, usually at import, with an error that contains a valid alternative.
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
_SEPARATOR = re.compile(r"[._]")
_RESERVED_SUFFIXES = frozenset({"bucket", "count", "created", "info", "sum", "total"})
"""A counter called `books.created` is valid: it is exposed as `books_created_total`."""
_UNIT_NAMES = frozenset(UNIT_WORDS.values()) - {""} | {"second", "millis", "ratio"}
_RESERVED_PREFIXES = ("process_", "python_", "scrape_", "otel_")
_RESERVED_LABELS = frozenset({"job", "instance", "le", "quantile"})
_RESERVED_LABEL_PREFIXES = ("__", "exported_", "otel_scope_", "otel.scope.")
_RESERVED_NAMESPACES = frozenset(
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
"""Namespaces of metrics in OpenTelemetry's semantic conventions, and of this package."""

_FAMILIES = frozenset(metric.family for metric in METRICS)


def check_name(name: str, unit: str, instrument: Instrument) -> None:
    """Validate the name and unit of a metric.

    Raises:
        ConfigurationError: the name or unit is invalid.
    """
    definition = f"{instrument.value}({name!r})"
    if not _NAME.fullmatch(name) or len(name) > 200:
        raise ConfigurationError(
            definition, "a name consists of lower-case words separated by dots or underscores", "Write orders.placed."
        )
    words = _SEPARATOR.split(name)
    last = words[-1]
    namespace, dot, _ = name.partition(".")
    if dot and namespace in _RESERVED_NAMESPACES:
        raise ConfigurationError(
            definition,
            f"the namespace {namespace!r} is reserved for OpenTelemetry's conventions or this package",
            f"Use a namespace of your own, such as shop.{name}.",
        )
    if last in _RESERVED_SUFFIXES and (instrument is not Instrument.COUNTER or last == "total"):
        raise ConfigurationError(definition, f"Prometheus adds {last!r} itself", f"Remove {last!r} from the name.")
    is_ratio = instrument is Instrument.GAUGE and unit == "1" and last == "ratio"
    if (unit_name := next((word for word in words if word in _UNIT_NAMES), None)) and not is_ratio:
        raise ConfigurationError(
            definition,
            f"the unit {unit_name!r} is in the name",
            'Remove it from the name and pass the unit, as unit="s".',
        )
    if instrument is Instrument.GAUGE and unit == "1" and not is_ratio:
        raise ConfigurationError(
            f"{definition} with unit='1'",
            "converters to Prometheus append 'ratio' to the name in different ways",
            "Write the unit in braces, such as {item}, or end the name with .ratio.",
        )
    if not _UNIT.fullmatch(unit):
        raise ConfigurationError(
            f"{definition} with unit={unit!r}", "it is not a UCUM unit", "Write s, By, or {order}."
        )
    family = prometheus_name(name)
    if family in _FAMILIES or family.startswith(_RESERVED_PREFIXES) or family == "up":
        raise ConfigurationError(
            definition, f"the name {family} is already used on /metrics", "Use a namespace of your own."
        )


def check_labels(name: str, labels: Iterable[str]) -> tuple[str, ...]:
    """Validate label names: reject reserved ones, and those of values without a limit (ids).

    Raises:
        ConfigurationError: a label is invalid.
    """
    if isinstance(labels, str):
        raise ConfigurationError(
            f"{name} with labels={labels!r}", "labels must be a tuple of strings", f'Write labels=("{labels}",).'
        )
    label_names = tuple(labels)
    for label in label_names:
        definition = f"{name} with the label {label!r}"
        if not _NAME.fullmatch(label):
            raise ConfigurationError(
                definition, "a label consists of lower-case words separated by dots or underscores", "Write tier."
            )
        if label in _RESERVED_LABELS or label.startswith(_RESERVED_LABEL_PREFIXES):
            raise ConfigurationError(definition, "the label is reserved by Prometheus", "Use another name.")
        if label != TENANT_ID and _SEPARATOR.split(label)[-1] in ("id", "uuid", "guid"):
            raise ConfigurationError(
                definition,
                "the number of ids is unlimited, and each value becomes a series",
                "Add it to spans and log records with obs.bind(); exemplars link metrics to traces.",
            )
        if label.startswith("connectsoft.") and label not in CLOSED_LABELS | UNBOUNDED_LABELS | {TENANT_ID}:
            raise ConfigurationError(definition, "the prefix 'connectsoft.' is reserved for this package", "Rename it.")
    if len({prometheus_name(label) for label in label_names}) < len(label_names):
        raise ConfigurationError(
            f"{name} with labels={label_names!r}", "two labels have the same name in Prometheus", "Rename one."
        )
    return label_names


def check_buckets(name: str, buckets: Sequence[float]) -> tuple[float, ...]:
    """Validate bucket bounds: finite numbers in ascending order.

    Raises:
        ConfigurationError: the bounds are invalid.
    """
    try:
        bounds = tuple(float(bound) for bound in buckets)
    except (TypeError, ValueError):
        bounds = ()
    is_ascending = all(lower < upper for lower, upper in pairwise(bounds))
    if not bounds or not is_ascending or not all(map(math.isfinite, bounds)):
        raise ConfigurationError(
            f"{name} with buckets={buckets!r}",
            "bounds must be finite numbers in ascending order",
            "Write buckets=(0.1, 0.5, 1, 5); the +Inf bucket is added automatically.",
        )
    return bounds
