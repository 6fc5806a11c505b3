"""Checks captured telemetry against the OpenTelemetry semantic conventions and the vocabulary of this package.

Finding codes are those of the live check of OpenTelemetry Weaver 0.25, and of this package `identifier_as_label` and
`missing_namespace`.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind

from connectsoft_obs.context.otel_private import INCUBATING_ATTRIBUTES
from connectsoft_obs.signals.logs.profiles import OTEL
from connectsoft_obs.testing.captured_telemetry import Captured
from connectsoft_obs.vocabulary import (
    DIMENSIONS,
    ERROR_TYPE,
    EVENT_NAME,
    HTTP_METHOD,
    METRICS,
    OWN_LOG_ATTRIBUTES,
    SCOPE,
    URL_PATH,
    URL_SCHEME,
    duration_attribute,
)
from connectsoft_obs.vocabulary import attributes as vocabulary_attributes

_NAME = re.compile(r"[a-z][a-z0-9]*([._][a-z0-9]+)*")
_IDENTIFIER = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{16,}|\d{5,}|[^@\s]+@[^@\s]+\.[a-z]+",
    re.IGNORECASE,
)
_DEPRECATED = frozenset(
    {
        "http.method", "http.status_code", "http.url", "http.target", "http.host", "http.scheme", "http.flavor",
        "http.user_agent", "net.host.name", "net.host.port", "net.peer.name", "net.peer.port", "net.peer.ip",
        "deployment.environment", "error.message", "exception.escaped", "messaging.operation", "db.statement", "db.system",
    }
)  # fmt: skip
_LINE_KEYS = frozenset(OTEL.leading_keys) | {EVENT_NAME}
_TYPES = {"http.response.status_code": int, "server.port": int, "network.peer.port": int, "client.port": int}
_REQUIRED = {SpanKind.SERVER: (HTTP_METHOD, URL_PATH, URL_SCHEME)}
_METHODS = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE", "QUERY", "_OTHER"}
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One violation of the naming conventions.

    Args:
        code: identifier of the rule, as in the live check of OpenTelemetry Weaver.
        subject: the span, log line or metric.
        message: the name or value, and what is wrong with it.
    """

    code: str
    subject: str
    message: str

    def __str__(self) -> str:
        return f"{self.code}: {self.subject}: {self.message}"


def assert_conventions(captured: Captured, *, namespaces: tuple[str, ...] = ()) -> None:
    """Assert that names, types and required attributes follow the conventions.

    Args:
        captured: telemetry recorded by `capture()`.
        namespaces: attribute namespaces of the application (`"orders"` allows `orders.placed`).

    Raises:
        AssertionError: telemetry violates the conventions; the message has one line for each finding.
    """
    violations = findings(captured, namespaces=namespaces)
    assert not violations, "\n".join(
        ["telemetry violates the naming conventions:", *(f"  {finding}" for finding in violations)]
    )


def findings(captured: Captured, *, namespaces: tuple[str, ...] = ()) -> list[Finding]:
    """Return the violations of the conventions, without duplicates; the arguments are those of `assert_conventions`."""
    violations = [finding for span in captured.spans for finding in _check_span(span, namespaces)]
    violations += [finding for line in captured.logs for finding in _check_line(line, namespaces)]
    snapshots = [] if captured.telemetry is None else captured.telemetry.metrics.snapshots()
    for snapshot in snapshots:
        metric = snapshot.metric
        if not _NAME.fullmatch(metric.name):
            violations.append(
                Finding("invalid_format", f"metric {metric.name}", "names are lower-case words joined by dots")
            )
        for values in snapshot.series:
            for label, value in zip(metric.labels, values, strict=False):
                if label in DIMENSIONS.values() or (value and _IDENTIFIER.fullmatch(value)):
                    message = f"{label}={value!r} looks like an identifier; record it on spans and log lines"
                    violations.append(Finding("identifier_as_label", f"metric {metric.name}", message))
    return list(dict.fromkeys(violations))


def _check_span(span: ReadableSpan, own_namespaces: tuple[str, ...]) -> Iterator[Finding]:
    subject = f"span {span.name}"
    attributes: Mapping[str, Any] = span.attributes or {}
    for name, value in attributes.items():
        yield from _check_attribute(subject, name, value, own_namespaces)
    if HTTP_METHOD in attributes:
        for name in _REQUIRED.get(span.kind, ()):
            if name not in attributes:
                yield Finding("required_attribute_not_present", subject, name)
    if span.status.status_code.name == "ERROR" and ERROR_TYPE not in attributes:
        yield Finding("conditionally_required_attribute_not_present", subject, f"{ERROR_TYPE} on a failed span")
    if any(event.name == "exception" for event in span.events):
        yield Finding("deprecated", subject, "record exceptions as log records instead of span events")


def _check_line(line: Mapping[str, Any], own_namespaces: tuple[str, ...]) -> Iterator[Finding]:
    subject = f"log line {line.get('message')!r}"
    is_own = str(line.get("logger", "")).partition(".")[0] == SCOPE
    for name, value in line.items():
        if name in _LINE_KEYS:
            continue
        if is_own and "." not in name:
            yield Finding("missing_namespace", subject, f"{name}: own lines have names with a namespace")
        elif "." in name:  # an application names its own fields without a namespace as it likes
            yield from _check_attribute(subject, name, value, own_namespaces)


def _check_attribute(subject: str, name: str, value: Any, own_namespaces: tuple[str, ...]) -> Iterator[Finding]:
    root = name.partition(".")[0]
    if name in _DEPRECATED:
        yield Finding("deprecated", subject, name)
    elif not _NAME.fullmatch(re.sub(r"^(http\.(request|response)\.header\.).*", r"\1x", name)):
        yield Finding("invalid_format", subject, f"{name!r}: names are lower-case words joined by dots")
    elif (
        "." in name
        and name not in _semantic_convention_names()
        and root in _semantic_convention_namespaces()
        and ".header." not in name
    ):
        yield Finding("extends_namespace", subject, f"{name}: the namespace {root}.* is reserved for OpenTelemetry")
    elif "." in name and root not in _semantic_convention_namespaces() and root not in ("connectsoft", *own_namespaces):
        yield Finding(
            "illegal_namespace",
            subject,
            f"{name}: the namespace is neither standard, nor connectsoft.*, nor declared by the application",
        )
    elif root == "connectsoft" and name not in _vocabulary_names():
        yield Finding("missing_attribute", subject, f"{name} is not in the vocabulary")
    expected_type = _TYPES.get(name)
    if expected_type is not None and type(value) is not expected_type:
        yield Finding("type_mismatch", subject, f"{name} is {type(value).__name__}, not {expected_type.__name__}")
    if name == HTTP_METHOD and value not in _METHODS:
        yield Finding("undefined_enum_variant", subject, f"{name}={value!r}")


@cache
def _semantic_convention_names() -> frozenset[str]:
    """Return all attribute names of the installed OpenTelemetry semantic conventions."""
    names: set[str] = set()
    for package in ("opentelemetry.semconv.attributes", INCUBATING_ATTRIBUTES):
        module = importlib.import_module(package)
        for info in pkgutil.iter_modules(module.__path__, f"{package}."):
            submodule = importlib.import_module(info.name)
            names |= {value for value in vars(submodule).values() if isinstance(value, str) and "." in value}
    return frozenset(names)


@cache
def _semantic_convention_namespaces() -> frozenset[str]:
    return frozenset(name.partition(".")[0] for name in _semantic_convention_names())


@cache
def _vocabulary_names() -> frozenset[str]:
    names = {value for value in vars(vocabulary_attributes).values() if isinstance(value, str)}
    durations = {duration_attribute(metric.name) for metric in METRICS}
    return frozenset(names | set(DIMENSIONS.values()) | set(OWN_LOG_ATTRIBUTES.values()) | durations)
