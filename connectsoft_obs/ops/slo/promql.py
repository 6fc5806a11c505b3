"""Building blocks of PromQL expressions: label matchers, series selectors, string quoting and number formatting."""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal

from connectsoft_obs.slo.model import ServiceSLOs

_REGEX_METACHARACTERS = frozenset(".+*?()|[]{}^$\\")
_MATCHER = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"\s*')


def quote(value: str) -> str:
    """Format a PromQL string literal."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def regex_escape(text: str) -> str:
    """Return a regular expression that matches exactly this text.

    Metacharacters are escaped with brackets, because backslashes would have to be doubled in a PromQL string.
    """
    return "".join(
        f"[{c}]" if c in _REGEX_METACHARACTERS and c not in "^\\" else {"^": r"\^", "\\": r"\\"}.get(c, c) for c in text
    )


def label_matcher(label: str, values: Iterable[str]) -> str:
    """Return a matcher for a label with one of these values."""
    values = tuple(values)
    if len(values) == 1:
        return f"{label}={quote(values[0])}"
    return f"{label}=~{quote('|'.join(regex_escape(value) for value in values))}"


def series_selector(metric: str, *matchers: str) -> str:
    """Return a series selector: `metric{a="1",b="2"}`; empty matchers are omitted."""
    return f"{metric}{{{','.join(matcher for matcher in matchers if matcher)}}}"


def service_selector(service_slos: ServiceSLOs) -> str:
    """Return the label matchers that select the series of a service."""
    selector = service_slos.selector.strip().strip("{}").rstrip(",")
    return selector or f"job=~{quote('(.+/)?' + regex_escape(service_slos.service))}"


def parse_matchers(text: str) -> tuple[tuple[str, str, str], ...] | None:
    """Parse label matchers into label, operator and unquoted value; None if the text is not a list of matchers."""
    matchers, position = [], 0
    while position < len(text):
        match = _MATCHER.match(text, position)
        if match is None:
            return None
        value = re.sub(r"\\(.)", lambda escape: {"n": "\n"}.get(escape[1], escape[1]), match[3])
        matchers.append((match[1], match[2], value))
        position = match.end()
        if position < len(text):
            if text[position] != ",":
                return None
            position += 1
    return tuple(matchers)


def example_series(selector: str) -> str | None:
    """Return a series that a selector matches; None if no value can be derived for a regular expression."""
    metric, _, rest = selector.partition("{")
    matchers = parse_matchers(rest.removesuffix("}"))
    if matchers is None:
        return None
    labels = {}
    for label, operator, value in matchers:
        if operator == "=":
            labels[label] = value
        elif operator == "=~":
            example = re.sub(
                r"\[(.)\]|\\(.)", r"\1\2", value.replace("(.+/)?", "").replace("([.]0)?", "").split("|")[0]
            )
            if not re.fullmatch(value, example):
                return None
            labels[label] = example
    return series_selector(metric, *(f"{label}={quote(value)}" for label, value in labels.items() if value))


def le_matcher(bound: float) -> str:
    """Return the `le` matcher of a bucket; clients expose the bound 5 as `5` or as `5.0`."""
    text = format_number(bound)
    return f'le="{text}"' if "." in text else f'le=~"{text}([.]0)?"'


def format_number(value: float | Decimal) -> str:
    """Format a number in plain decimal notation, without trailing zeros: `0.0144`."""
    text = format(Decimal(repr(value)) if isinstance(value, float) else Decimal(value), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
