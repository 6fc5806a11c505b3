"""Parsers of setting values: environment variables are text, arguments can have any type."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias
from urllib.parse import unquote, urlsplit

from connectsoft_obs.settings.parser_descriptions import Reader, describe_values, shorten

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off", ""})
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+=[\t\x20-\x7e\x80-\xff]*")


@describe_values("a string")
def text(value: Any) -> str:
    """Text without surrounding white space."""
    if not isinstance(value, str):
        raise ValueError(f"its type is {type(value).__name__}, not str")
    return value.strip()


@describe_values("true or false")
def boolean(value: Any) -> bool:
    """`true` or `false` (also 1/0, yes/no, on/off), in any case."""
    if isinstance(value, bool):
        return value
    word = value.strip().lower() if isinstance(value, str) else None
    if word not in _TRUE and word not in _FALSE:
        raise ValueError("it is neither true nor false")
    return word in _TRUE


@describe_values("true or false")
def otel_boolean(value: Any) -> bool:
    """Only `true` in a variable, in any case, enables the setting, as OpenTelemetry specifies."""
    if isinstance(value, bool):
        return value
    word = value.strip().lower() if isinstance(value, str) else None
    if word not in ("true", "false"):
        raise ValueError("it is neither true nor false")
    return word == "true"


def number(*, low: float = 0.0, high: float = math.inf, unit: str = "") -> Reader:
    """A finite number within bounds."""
    bounds = f"from {low:g} to {high:g}" if math.isfinite(high) else f"of at least {low:g}"

    @describe_values(f"a number of {unit}, at least {low:g}" if unit else f"a number {bounds}", unit=unit)
    def read(value: Any) -> float:
        result = _float(value)
        if not math.isfinite(result) or not low <= result <= high:
            raise ValueError(f"it is not a number {bounds}")
        return result

    return read


def _float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("it is not a number")
    try:
        return float(value)
    except (ValueError, OverflowError):  # no number, or an integer of hundreds of digits
        raise ValueError("it is not a number") from None


def seconds(low: float = 0.0) -> Reader:
    """A number of seconds."""
    return number(low=low, unit="seconds")


@describe_values("a number of milliseconds above 0", argument="a number of seconds above 0", unit="milliseconds")
def milliseconds(value: Any) -> float:
    """Milliseconds in a variable, as in OpenTelemetry; seconds in an argument. The value is in seconds."""
    result = _float(value)
    if not math.isfinite(result) or result <= 0:
        raise ValueError("it is not above 0")
    return result / 1000 if isinstance(value, str) else result


def integer(*, low: int = 0, high: int = 2**31) -> Reader:
    """A whole number within bounds."""

    @describe_values(f"a whole number from {low} to {high}")
    def read(value: Any) -> int:
        result = _float(value)
        if not result.is_integer() or not low <= result <= high:
            raise ValueError(f"it is not a whole number from {low} to {high}")
        return int(result)

    return read


def one_of(*words: str) -> Reader:
    """One of the given values, in any case."""

    @describe_values(f"one of {', '.join(words)}")
    def read(value: Any) -> str:
        word = text(value).lower()
        if word not in words:
            raise ValueError(f"it is not one of {', '.join(words)}")
        return word

    return read


@describe_values("values separated by commas", argument="values separated by commas, or a list of strings")
def string_list(value: Any) -> tuple[str, ...]:
    """Text separated by commas, or a sequence of strings."""
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, Iterable) or isinstance(value, bytes):
        raise ValueError("it is not a list of strings")
    items = list(value)
    for position, item in enumerate(items, 1):
        if not isinstance(item, str):
            raise ValueError(f"the type of its entry {position} is {type(item).__name__}, not str")
    return tuple(word for word in (text(item) for item in items) if word)


def any_of(*allowed: str) -> Reader:
    """One or more of the allowed values, separated by commas."""
    parse_one = one_of(*allowed)

    @describe_values(f"one or more of {', '.join(allowed)}, separated by commas", is_list=True)
    def read(value: Any) -> tuple[str, ...]:
        return tuple(dict.fromkeys(parse_one(word) for word in string_list(value)))

    return read


@describe_values("key=value pairs separated by commas", is_list=True)
def key_values(value: Any) -> Mapping[str, str]:
    """`key=value` pairs separated by commas, percent-decoded as OpenTelemetry specifies, or a mapping."""
    if isinstance(value, Mapping):
        return {text(key): str(item) for key, item in value.items()}
    pairs = {}
    items = string_list(value)
    for position, item in enumerate(items, 1):
        key, equals, content = item.partition("=")
        if not equals or not key.strip():
            entry = f"entry {position}" if len(items) > 1 else "it"
            raise ValueError(f"{entry} is not a key=value pair")  # not quoted: it may be a secret
        pairs[key.strip()] = unquote(content.strip())
    return pairs


@describe_values("key=value pairs separated by commas", is_list=True)
def headers(value: Any) -> Mapping[str, str]:
    """Pairs as of `key_values`; those of a variable must be valid HTTP headers, so that one typo does not fail exports."""
    pairs = key_values(value)
    if isinstance(value, str) and not all(_HEADER.fullmatch(f"{name}={content}") for name, content in pairs.items()):
        raise ValueError("a name or value has characters that HTTP headers cannot contain")
    return pairs


@describe_values("the names of installed propagators separated by commas", is_list=True)
def propagators(value: Any) -> tuple[str, ...]:
    """Names of installed propagators, in the case in which OpenTelemetry looks them up."""
    return tuple(dict.fromkeys(_propagator(word) for word in string_list(value)))


def _propagator(word: str) -> str:
    if word.lower() in ("tracecontext", "baggage", "none"):
        return word.lower()
    from importlib.metadata import entry_points  # slow to import, and rarely needed

    if match := {word, word.lower()} & entry_points(group="opentelemetry_propagator").names:
        return match.pop()
    raise ValueError(f"the propagator {shorten(word)} is not installed")


_LEVELS = one_of("debug", "info", "warning", "error", "critical")
_LEVEL_ALIASES = {
    "trace": "debug", "verbose": "debug", "information": "info", "notice": "info", "warn": "warning", "err": "error",
    "fatal": "critical", "10": "debug", "20": "info", "30": "warning", "40": "error", "50": "critical",
}  # fmt: skip


@describe_values("one of debug, info, warning, error, critical")
def level(value: Any) -> str:
    """A log level, in any case; also the names of other languages (warn, fatal, trace) and the numbers of `logging`."""
    word = text(value).lower()
    return str(_LEVELS(_LEVEL_ALIASES.get(word, word)))


@describe_values("cumulative")
def temporality(value: Any) -> str:
    """`cumulative`; the other values of the specification are rejected with an alternative."""
    if text(value).lower() != "cumulative":
        raise ValueError(
            "/metrics and totals over worker processes need cumulative temporality; for a backend that needs deltas, use "
            "the cumulativetodelta processor of the collector"
        )
    return "cumulative"


@describe_values("logger=level pairs separated by commas")
def levels(value: Any) -> Mapping[str, str]:
    """`logger=level` pairs separated by commas, or a mapping."""
    return {name: level(word) for name, word in key_values(value).items()}


@describe_values("a regular expression that does not match the empty string")
def pattern(value: Any) -> re.Pattern[str]:
    """A regular expression that does not match the empty string."""
    try:
        compiled = value if isinstance(value, re.Pattern) else re.compile(text(value))
        empty = compiled.search("")
    except (re.error, TypeError) as error:
        raise ValueError(f"it is not a regular expression: {error}") from None
    if empty is not None:
        raise ValueError("it matches the empty string, so it would redact every text")
    return compiled


@describe_values("IP networks such as 10.0.0.0/8, separated by commas")
def networks(value: Any) -> tuple[Network, ...]:
    """IP networks or addresses separated by commas; `*` is every network."""
    result: list[Network] = []
    for word in string_list(value):
        if word == "*":
            result += [ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")]
            continue
        try:
            result.append(ipaddress.ip_network(word, strict=False))
        except ValueError:
            raise ValueError(f"{shorten(word)!r} is not an IP network such as 10.0.0.0/8") from None
    return tuple(result)


@describe_values(
    "a path that starts with /", argument='a path that starts with /, or to "", which disables the endpoint'
)
def path(value: Any) -> str:
    """An absolute URL path, or "" for a disabled endpoint."""
    result = text(value)
    if result and not result.startswith("/"):
        raise ValueError("it does not start with /")
    return result


@describe_values("a URL such as http://collector:4318")
def url(value: Any) -> str:
    """An `http://`, `https://`, `grpc://` or `grpcs://` address, or a bare host:port for gRPC."""
    result = text(value)
    if not result:
        return result
    scheme, separator, rest = result.partition("://")
    if separator and (scheme not in ("http", "https", "grpc", "grpcs") or not rest.strip("/")):
        raise ValueError("it is not an address such as http://collector:4318")
    try:
        parts = urlsplit(result if separator else f"//{result}")
        is_valid = parts.port != 0 and "@" not in result.rpartition(parts.netloc)[2]
    except ValueError:  # its text may repeat a part of a password
        is_valid = False
    if not is_valid:
        raise ValueError("its host or port is invalid; encode / ? # in a password as %2F %3F %23")
    if not parts.hostname:
        raise ValueError("it has no host name")
    return result


@describe_values("a URL such as http://pushgateway:9091")
def http_url(value: Any) -> str:
    """An `http://` or `https://` address."""
    result = url(value)
    if result and urlsplit(result).scheme not in ("http", "https"):
        raise ValueError("it does not start with http:// or https://")
    return result


@describe_values("an object with a should_sample method")
def sampler(value: Any) -> Any:
    """An object with the interface of an OpenTelemetry sampler."""
    if not callable(getattr(value, "should_sample", None)):
        raise ValueError("it has no should_sample method")
    return value


@describe_values("SLO objects of connectsoft_obs.slo")
def objectives(value: Any) -> tuple[Any, ...]:
    """One or several SLO objects."""
    return tuple(value) if isinstance(value, list | tuple) else (value,)


@describe_values("a mapping from the names of signals to mappings of settings")
def signal_mappings(value: Any) -> Mapping[str, Mapping[str, Any]]:
    """A mapping of mappings."""
    if not isinstance(value, Mapping) or not all(isinstance(item, Mapping) for item in value.values()):
        raise ValueError("it is not a mapping of mappings")
    return value
