"""PromQL as text: matchers, quoting, and the spellings of numbers that rules compare with."""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal

from connectsoft_obs.slo.model import ServiceSLOs

_SPECIAL = frozenset(".+*?()|[]{}^$\\")
_MATCHER = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"\s*')


def quoted(value: str) -> str:
    """A string of PromQL."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def regex_escape(text: str) -> str:
    """A regular expression that matches just this text; brackets instead of backslashes, which would need doubling."""
    return "".join(f"[{c}]" if c in _SPECIAL and c not in "^\\" else {"^": r"\^", "\\": r"\\"}.get(c, c) for c in text)


def one_of(label: str, values: Iterable[str]) -> str:
    """A matcher for a label that has one of these values."""
    given = tuple(values)
    if len(given) == 1:
        return f"{label}={quoted(given[0])}"
    return f"{label}=~{quoted('|'.join(regex_escape(value) for value in given))}"


def series(metric: str, *matchers: str) -> str:
    """A selector: `metric{a="1",b="2"}`; empty matchers are left out."""
    return f"{metric}{{{','.join(matcher for matcher in matchers if matcher)}}}"


def service_selector(promises: ServiceSLOs) -> str:
    """The matchers that tell a service's series from those of others."""
    return (
        promises.selector.strip().strip("{}").rstrip(",") or f"job=~{quoted('(.+/)?' + regex_escape(promises.service))}"
    )


def parsed(matchers: str) -> tuple[tuple[str, str, str], ...] | None:
    """Label, operator and unquoted value of each matcher in a selector's text; None when it is not one."""
    found, position = [], 0
    while position < len(matchers):
        match = _MATCHER.match(matchers, position)
        if match is None:
            return None
        value = re.sub(r"\\(.)", lambda escape: {"n": "\n"}.get(escape[1], escape[1]), match[3])
        found.append((match[1], match[2], value))
        position = match.end()
        if position < len(matchers):
            if matchers[position] != ",":
                return None
            position += 1
    return tuple(found)


def example_series(selector: str) -> str | None:
    """A series that a selector finds, written out; None where its regular expressions are beyond guessing."""
    metric, _, rest = selector.partition("{")
    matchers = parsed(rest.removesuffix("}"))
    if matchers is None:
        return None
    labels = {}
    for label, operator, value in matchers:
        if operator == "=":
            labels[label] = value
        elif operator == "=~":
            guess = re.sub(r"\[(.)\]|\\(.)", r"\1\2", value.replace("(.+/)?", "").replace("([.]0)?", "").split("|")[0])
            if not re.fullmatch(value, guess):
                return None
            labels[label] = guess
    return series(metric, *(f"{label}={quoted(value)}" for label, value in labels.items() if value))


def le_matcher(bound: float) -> str:
    """The matcher of a bucket: clients write the bound 5 as `5` or as `5.0`."""
    text = number(bound)
    return f'le="{text}"' if "." in text else f'le=~"{text}([.]0)?"'


def number(value: float | Decimal) -> str:
    """A number without the noise of binary fractions: `0.0144`."""
    text = format(Decimal(repr(value)) if isinstance(value, float) else Decimal(value), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
