"""What requests of one kind have in common, bound once: method, template, status and error to series, span and line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from opentelemetry.trace import SpanKind

from connectsoft_obs.asgi.row import ROW
from connectsoft_obs.signals.logs import Form
from connectsoft_obs.signals.metrics import Family, Histogram
from connectsoft_obs.signals.tracing import Shared, shared
from connectsoft_obs.telemetry import Telemetry
from connectsoft_obs.vocabulary import (
    ERROR_TYPE,
    HTTP_METHOD,
    HTTP_ROUTE,
    HTTP_STATUS,
    OUTCOME,
    PROTOCOL_VERSION,
    REQUEST_DURATION,
    STREAM_DURATION,
    STREAM_KIND,
    URL_SCHEME,
    ErrorType,
    Outcome,
)

if TYPE_CHECKING:
    from connectsoft_obs.slo.events import Count

_KEPT = 4096

Key: TypeAlias = tuple[str, str, str, int, str, str | None, str, Outcome | None]
"""What makes two requests of one kind: method, scheme, version, status, route, error, stream, outcome.

A status of 0 is none; `stream` is empty for an ordinary response. A plain tuple, because one is made for each request.
"""


class Recorded:
    """The series, the shared span attributes and the line's fields of one kind of request."""

    __slots__ = ("bad", "count", "duration", "fields", "kept", "level", "line", "message", "shared", "title")

    def __init__(self, key: Key, family: Family, telemetry: Telemetry) -> None:
        method, scheme, version, status, route, error, stream, outcome = key
        assert outcome is not None
        verb = "HTTP" if method == ErrorType.OTHER else method
        self.title: str = f"{verb} {route}" if route else verb
        self.message: str = f"{self.title} {status}" if status else self.title
        self.bad: bool = outcome in (Outcome.FAILURE, Outcome.TIMEOUT)
        attributes: dict[str, Any] = {
            HTTP_METHOD: method,
            URL_SCHEME: scheme,
            HTTP_ROUTE: route,
            HTTP_STATUS: status,
            ERROR_TYPE: error,
            PROTOCOL_VERSION: version,
        }
        present = {name: value for name, value in attributes.items() if value}
        given = {name: str(value) for name, value in present.items()}
        given |= {STREAM_KIND: stream, OUTCOME: outcome.value}
        labels = tuple(given.get(label, "") for label in family.metric.labels)
        self.duration: Histogram = family.histogram(*labels)
        self.kept: bool = labels in family.children
        self.count: Count | None = telemetry.promised(family.metric, given, outcome)
        self.line: Form | None = None  # laid out by the access log, when the first line is written
        self.level: int = 0
        if stream:
            present[STREAM_KIND] = stream
        self.shared: Shared = shared(present, self.title, SpanKind.SERVER, ROW)
        aside = (URL_SCHEME, PROTOCOL_VERSION)
        self.fields: dict[str, Any] = {name: value for name, value in present.items() if name not in aside}
        self.fields[OUTCOME] = outcome.value


class Kinds:
    """Kinds of requests seen so far; what does not fit any more is bound anew each time. Thread-safe."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._requests = telemetry.metrics.family(REQUEST_DURATION)
        self._streams = telemetry.metrics.family(STREAM_DURATION)
        self._telemetry = telemetry
        self.known: dict[Key, Recorded] = {}

    def bind(self, key: Key) -> Recorded:
        """The kind with this key, which is not among the known ones."""
        recorded = Recorded(key, self._streams if key[6] else self._requests, self._telemetry)
        if recorded.kept and len(self.known) < _KEPT:  # one beyond the series cap is counted each time
            self.known[key] = recorded
        return recorded
