"""Translates OpenTelemetry names and units to Prometheus: UnderscoreEscapingWithSuffixes, and the unit words of OpenMetrics."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

_INVALID_CHARACTERS = re.compile(r"[^a-zA-Z0-9]+")
_ANNOTATION = re.compile(r"\{[^}]*\}")

UNIT_WORDS: Final = {
    "d": "days", "h": "hours", "min": "minutes", "s": "seconds", "ms": "milliseconds", "us": "microseconds",
    "ns": "nanoseconds", "By": "bytes", "KiBy": "kibibytes", "MiBy": "mebibytes", "GiBy": "gibibytes",
    "TiBy": "tibibytes", "KBy": "kilobytes", "MBy": "megabytes", "GBy": "gigabytes", "TBy": "terabytes",
    "m": "meters", "V": "volts", "A": "amperes", "J": "joules", "W": "watts", "g": "grams", "Cel": "celsius",
    "Hz": "hertz", "1": "", "%": "percent",
}  # fmt: skip
"""UCUM unit -> suffix of a Prometheus name. Annotations such as `{request}` have no suffix."""

_PER: Final = {"s": "second", "min": "minute", "h": "hour", "d": "day"}


@lru_cache(4096)
def prometheus_name(name: str) -> str:
    """Translate an OpenTelemetry attribute or metric name to a Prometheus name."""
    escaped = _INVALID_CHARACTERS.sub("_", name)
    return f"_{escaped}" if escaped[:1].isdigit() else escaped


@lru_cache(256)
def unit_word(unit: str) -> str:
    """Suffix of a UCUM unit: `s` gives `seconds`, `By/s` gives `bytes_per_second`, `{request}` gives ""."""
    bare = _ANNOTATION.sub("", unit)
    if bare in UNIT_WORDS:
        return UNIT_WORDS[bare]
    numerator, slash, denominator = bare.partition("/")
    if slash and denominator:
        top = UNIT_WORDS.get(numerator, prometheus_name(numerator)).strip("_")
        bottom = _PER.get(denominator, prometheus_name(denominator)).strip("_")
        return f"{top}_per_{bottom}" if top else f"per_{bottom}"
    return prometheus_name(bare).strip("_")
