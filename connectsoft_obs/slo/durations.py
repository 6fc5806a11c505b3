"""Parsing and formatting of durations: `500ms`, `5m`, `1h30m`, `30d`."""

from __future__ import annotations

import re

from connectsoft_obs.errors import ConfigurationError

MINUTE = 60
HOUR = 3600
DAY = 86400
_UNITS = {"ms": 0.001, "s": 1, "m": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_DURATION = re.compile(rf"(?:{_PART.pattern})+")
_EXAMPLE = "Write it as 500ms, 5m, 1h30m or 30d."


def parse_duration(value: str | float, name: str) -> float:
    """Parse a duration into seconds.

    Args:
        value: text such as `5m`, or a number of seconds.
        name: name of the setting, for the error message.

    Raises:
        ConfigurationError: the value is not a duration, or not above zero.
    """
    if isinstance(value, str):
        text = value.replace(" ", "")
        if not _DURATION.fullmatch(text):
            raise ConfigurationError(f"{name}={value!r}", "it is not a duration", _EXAMPLE)
        seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    else:
        seconds = float(value)
    if not 0 < seconds < float("inf"):
        raise ConfigurationError(f"{name}={value!r}", "it is not above zero", _EXAMPLE)
    return round(seconds, 6)


def format_prometheus(duration: float) -> str:
    """Format seconds as a PromQL duration: `5m`, `5m30s`, `30d`. The largest unit is the day."""
    remainder = round(duration * 1000)
    parts = []
    for unit, size in (("d", DAY * 1000), ("h", HOUR * 1000), ("m", MINUTE * 1000), ("s", 1000), ("ms", 1)):
        count, remainder = divmod(remainder, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def format_iso8601(duration: float) -> str:
    """Format seconds as an ISO 8601 duration in hours, minutes and seconds, as Azure expects it: `PT5M`."""
    hours, remainder = divmod(round(duration), HOUR)
    minutes, seconds = divmod(remainder, MINUTE)
    parts = [f"{count}{unit}" for count, unit in ((hours, "H"), (minutes, "M"), (seconds, "S")) if count]
    return "PT" + ("".join(parts) or "0S")


def humanize(duration: float) -> str:
    """Format seconds for people, in the two largest units: `4 min 19 s`, `2 d 2 h`, `850 ms`."""
    if duration < 1:
        return f"{duration * 1000:.3g} ms"
    if duration < MINUTE:
        return f"{duration:.3g} s"
    remainder = round(duration)
    parts: list[str] = []
    for unit, size in (("d", DAY), ("h", HOUR), ("min", MINUTE), ("s", 1)):
        count, remainder = divmod(remainder, size)
        if count or parts:
            parts.append(f"{count} {unit}" if count else "")
    return " ".join(part for part in parts[:2] if part)
