"""How Prometheus spells what OpenTelemetry names: UnderscoreEscapingWithSuffixes, and OpenMetrics' words for units."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

_FOREIGN = re.compile(r"[^a-zA-Z0-9]+")
_ANNOTATION = re.compile(r"\{[^}]*\}")

UNIT_WORDS: Final = {
    "d": "days", "h": "hours", "min": "minutes", "s": "seconds", "ms": "milliseconds", "us": "microseconds",
    "ns": "nanoseconds", "By": "bytes", "KiBy": "kibibytes", "MiBy": "mebibytes", "GiBy": "gibibytes",
    "TiBy": "tibibytes", "KBy": "kilobytes", "MBy": "megabytes", "GBy": "gigabytes", "TBy": "terabytes",
    "m": "meters", "V": "volts", "A": "amperes", "J": "joules", "W": "watts", "g": "grams", "Cel": "celsius",
    "Hz": "hertz", "1": "", "%": "percent",
}  # fmt: skip
"""UCUM units and the words that end a Prometheus name; annotations such as `{request}` have none."""

_PER: Final = {"s": "second", "min": "minute", "h": "hour", "d": "day"}


@lru_cache(4096)
def prometheus_name(name: str) -> str:
    """The Prometheus spelling of an OpenTelemetry attribute or metric name."""
    spelled = _FOREIGN.sub("_", name)
    return f"_{spelled}" if spelled[:1].isdigit() else spelled


@lru_cache(256)
def unit_word(unit: str) -> str:
    """The word of a UCUM unit, "" for none: `s` is seconds, `By/s` is bytes_per_second, `{request}` is nothing."""
    bare = _ANNOTATION.sub("", unit)
    if bare in UNIT_WORDS:
        return UNIT_WORDS[bare]
    above, per, below = bare.partition("/")
    if per and below:
        top = UNIT_WORDS.get(above, prometheus_name(above)).strip("_")
        bottom = _PER.get(below, prometheus_name(below)).strip("_")
        return f"{top}_per_{bottom}" if top else f"per_{bottom}"
    return prometheus_name(bare).strip("_")
