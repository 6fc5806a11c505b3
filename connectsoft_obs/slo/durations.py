"""Lengths of time as people and Prometheus write them: `500ms`, `5m`, `1h30m`, `30d`."""

from __future__ import annotations

import re

from connectsoft_obs.errors import ConfigurationError

MINUTE = 60
HOUR = 3600
DAY = 86400
_UNITS = {"ms": 0.001, "s": 1, "m": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY}
_PARTS = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_WHOLE = re.compile(rf"(?:{_PARTS.pattern})+")


def seconds(value: str | float, name: str) -> float:
    """A length of time in seconds, from text such as `5m` or from a number of seconds.

    Args:
        value: what was given.
        name: what it was given for, for the error.

    Raises:
        ConfigurationError: it is not a length of time, or not above zero.
    """
    if isinstance(value, str):
        text = value.replace(" ", "")
        if not _WHOLE.fullmatch(text):
            raise ConfigurationError(
                f"{name}={value!r}", "it is not a length of time", "Write it as 500ms, 5m, 1h30m or 30d."
            )
        found = sum(float(number) * _UNITS[unit] for number, unit in _PARTS.findall(text))
    else:
        found = float(value)
    if not 0 < found < float("inf"):
        raise ConfigurationError(f"{name}={value!r}", "it is not above zero", "Write it as 500ms, 5m, 1h30m or 30d.")
    return round(found, 6)


def prometheus(length: float) -> str:
    """A length as PromQL has it: `5m`, `5m30s`, `30d`; the largest units first, weeks as days."""
    left = round(length * 1000)
    parts = []
    for unit, size in (("d", DAY * 1000), ("h", HOUR * 1000), ("m", MINUTE * 1000), ("s", 1000), ("ms", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def iso(length: float) -> str:
    """A length as ISO 8601 and Azure have it, in hours, minutes and seconds: `PT5M`."""
    hours, left = divmod(round(length), HOUR)
    minutes, left = divmod(left, MINUTE)
    parts = [f"{count}{unit}" for count, unit in ((hours, "H"), (minutes, "M"), (left, "S")) if count]
    return "PT" + ("".join(parts) or "0S")


def humanize(length: float) -> str:
    """A length as one says it, in its two largest units: `4 min 19 s`, `2 d 2 h`, `850 ms`."""
    if length < 1:
        return f"{length * 1000:.3g} ms"
    if length < MINUTE:
        return f"{length:.3g} s"
    left = round(length)
    parts: list[str] = []
    for unit, size in (("d", DAY), ("h", HOUR), ("min", MINUTE), ("s", 1)):
        count, left = divmod(left, size)
        if count or parts:
            parts.append(f"{count} {unit}" if count else "")
    return " ".join(part for part in parts[:2] if part)
