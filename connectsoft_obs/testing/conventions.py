"""Are the names right? Checks what a test saw against OpenTelemetry's registry and our vocabulary.

Findings have the names that OpenTelemetry's own live check uses (weaver 0.25), and one of ours: `identifier_as_label`.
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
from connectsoft_obs.testing.captured_telemetry import Captured
from connectsoft_obs.vocabulary import DIMENSIONS, ERROR_TYPE, HTTP_METHOD, URL_PATH, URL_SCHEME, attributes

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
_TYPES = {"http.response.status_code": int, "server.port": int, "network.peer.port": int, "client.port": int}
_REQUIRED = {SpanKind.SERVER: (HTTP_METHOD, URL_PATH, URL_SCHEME)}
_METHODS = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE", "QUERY", "_OTHER"}
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as the conventions have it.

    Args:
        what: name of the finding, as OpenTelemetry's live check calls it.
        where: span, metric or line.
        detail: the name or value, and what is wrong with it.
    """

    what: str
    where: str
    detail: str

    def __str__(self) -> str:
        return f"{self.what}: {self.where}: {self.detail}"


def assert_conventions(seen: Captured, *, own: tuple[str, ...] = ()) -> None:
    """Fail with every finding when a name, type or required attribute is not as the conventions have it.

    Args:
        seen: what `capture()` saw.
        own: more namespaces that are the application's (`"orders"` allows `orders.placed`).

    Raises:
        AssertionError: one finding a line.
    """
    found = findings(seen, own=own)
    assert not found, "\n".join(["the conventions are not kept:", *(f"  {finding}" for finding in found)])


def findings(seen: Captured, *, own: tuple[str, ...] = ()) -> list[Finding]:
    """What is not as the conventions have it; empty when all is."""
    found = [finding for span in seen.spans for finding in _span(span, own)]
    snapshots = [] if seen.telemetry is None else seen.telemetry.metrics.snapshots()
    for snapshot in snapshots:
        metric = snapshot.metric
        if not _NAME.fullmatch(metric.name):
            found.append(
                Finding("invalid_format", f"metric {metric.name}", "names are lower case words joined by dots")
            )
        for values in snapshot.series:
            for label, value in zip(metric.labels, values, strict=False):
                if label in DIMENSIONS.values() or (value and _IDENTIFIER.fullmatch(value)):
                    detail = f"{label}={value!r} looks like an id; ids belong on spans and lines"
                    found.append(Finding("identifier_as_label", f"metric {metric.name}", detail))
    return list(dict.fromkeys(found))


def _span(span: ReadableSpan, own: tuple[str, ...]) -> Iterator[Finding]:
    where = f"span {span.name}"
    given: Mapping[str, Any] = span.attributes or {}
    for name, value in given.items():
        yield from _attribute(where, name, value, own)
    if HTTP_METHOD in given:
        for name in _REQUIRED.get(span.kind, ()):
            if name not in given:
                yield Finding("required_attribute_not_present", where, name)
    if span.status.status_code.name == "ERROR" and ERROR_TYPE not in given:
        yield Finding("conditionally_required_attribute_not_present", where, f"{ERROR_TYPE} on a span that failed")
    if any(event.name == "exception" for event in span.events):
        yield Finding("deprecated", where, "exception events are log records now")


def _attribute(where: str, name: str, value: Any, own: tuple[str, ...]) -> Iterator[Finding]:
    root = name.partition(".")[0]
    if name in _DEPRECATED:
        yield Finding("deprecated", where, name)
    elif not _NAME.fullmatch(re.sub(r"^(http\.(request|response)\.header\.).*", r"\1x", name)):
        yield Finding("invalid_format", where, f"{name!r}: names are lower case words joined by dots")
    elif "." in name and name not in _known() and root in _namespaces() and ".header." not in name:
        yield Finding("extends_namespace", where, f"{name}: {root}.* belongs to OpenTelemetry")
    elif "." in name and root not in _namespaces() and root not in ("connectsoft", *own):
        yield Finding("illegal_namespace", where, f"{name}: neither standard nor connectsoft.* nor the application's")
    elif root == "connectsoft" and name not in _ours():
        yield Finding("missing_attribute", where, f"{name} is not in the vocabulary")
    wanted = _TYPES.get(name)
    if wanted is not None and type(value) is not wanted:
        yield Finding("type_mismatch", where, f"{name} is {type(value).__name__}, not {wanted.__name__}")
    if name == HTTP_METHOD and value not in _METHODS:
        yield Finding("undefined_enum_variant", where, f"{name}={value!r}")


@cache
def _known() -> frozenset[str]:
    """Every attribute name of the installed OpenTelemetry semantic conventions."""
    names: set[str] = set()
    for package in ("opentelemetry.semconv.attributes", INCUBATING_ATTRIBUTES):
        module = importlib.import_module(package)
        for info in pkgutil.iter_modules(module.__path__, f"{package}."):
            part = importlib.import_module(info.name)
            names |= {value for value in vars(part).values() if isinstance(value, str) and "." in value}
    return frozenset(names)


@cache
def _namespaces() -> frozenset[str]:
    return frozenset(name.partition(".")[0] for name in _known())


@cache
def _ours() -> frozenset[str]:
    names = {value for value in vars(attributes).values() if isinstance(value, str)}
    return frozenset(names | set(DIMENSIONS.values()))
