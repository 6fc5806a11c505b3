"""Metric series, span attributes and log templates that requests of one kind share, created once and reused."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from opentelemetry.trace import SpanKind

from connectsoft_obs.asgi.types import Scope
from connectsoft_obs.export import protobuf
from connectsoft_obs.signals.logs import LineTemplate
from connectsoft_obs.signals.metrics import Family, Histogram, NumberSeries
from connectsoft_obs.signals.tracing import EncodedAttributes, FixedAttributes, encode_common_attributes
from connectsoft_obs.telemetry import Telemetry
from connectsoft_obs.vocabulary import (
    ACTIVE_REQUESTS,
    ERROR_TYPE,
    HTTP_METHOD,
    HTTP_METHODS,
    HTTP_RESPONSE_BODY_SIZE,
    HTTP_ROUTE,
    HTTP_STATUS,
    OUTCOME,
    PROTOCOL_VERSION,
    REQUEST_DURATION,
    STREAM_ACTIVE,
    STREAM_DURATION,
    STREAM_KIND,
    TIME_TO_FIRST_BYTE,
    URL_PATH,
    URL_SCHEME,
    ErrorType,
    Outcome,
)

if TYPE_CHECKING:
    from connectsoft_obs.slo.event_counter import BoundCounter


_ATTRIBUTE = 9
_KEPT = 4096
_path = protobuf.key(_ATTRIBUTE, URL_PATH).texts
_first = protobuf.key(_ATTRIBUTE, TIME_TO_FIRST_BYTE).double
_pack = struct.Struct("<d").pack
_sizes: dict[int, bytes] = {}


def encode(values: tuple[str, float, int]) -> bytes:
    """The attributes on the wire."""
    path, first, size = values
    raw = path.encode("utf-8", "replace")
    length = len(raw)
    before = _path[length] + raw if length < protobuf.SHORT else protobuf.pair(_ATTRIBUTE, URL_PATH, path)
    return b"".join((before, _first, _pack(first), _sizes.get(size) or _size(size)))


def _size(size: int) -> bytes:
    encoded = protobuf.pair(_ATTRIBUTE, HTTP_RESPONSE_BODY_SIZE, size)
    if len(_sizes) < _KEPT:  # a route's answers have a few sizes
        _sizes[size] = encoded
    return encoded


FIXED_ATTRIBUTES: Final = FixedAttributes((URL_PATH, TIME_TO_FIRST_BYTE, HTTP_RESPONSE_BODY_SIZE), encode)


_KEPT = 4096

Key: TypeAlias = tuple[str, str, str, int, str, str | None, str, Outcome | None]
"""What makes two requests of one kind: method, scheme, version, status, route, error, stream, outcome.

A status of 0 is none; `stream` is empty for an ordinary response. A plain tuple, because one is made for each request.
"""


class BoundSeries:
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
        self.count: BoundCounter | None = telemetry.slo_counter(family.metric, given, outcome)
        self.line: LineTemplate | None = None  # laid out by the access log, when the first line is written
        self.level: int = 0
        if stream:
            present[STREAM_KIND] = stream
        self.shared: EncodedAttributes = encode_common_attributes(
            present, self.title, SpanKind.SERVER, FIXED_ATTRIBUTES
        )
        aside = (URL_SCHEME, PROTOCOL_VERSION)
        self.fields: dict[str, Any] = {name: value for name, value in present.items() if name not in aside}
        self.fields[OUTCOME] = outcome.value


class BoundSeriesCache:
    """Kinds of requests seen so far; what does not fit any more is bound anew each time. Thread-safe."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._requests = telemetry.metrics.family(REQUEST_DURATION)
        self._streams = telemetry.metrics.family(STREAM_DURATION)
        self._telemetry = telemetry
        self.known: dict[Key, BoundSeries] = {}

    def bind(self, key: Key) -> BoundSeries:
        """The kind with this key, which is not among the known ones."""
        recorded = BoundSeries(key, self._streams if key[6] else self._requests, self._telemetry)
        if recorded.kept and len(self.known) < _KEPT:  # one beyond the series cap is counted each time
            self.known[key] = recorded
        return recorded


OTHER = ErrorType.OTHER.value
WEBSOCKET = "websocket"
_SCHEMES = frozenset({"http", "https", "ws", "wss"})
_VERSIONS = frozenset({"1.0", "1.1", "2", "3"})


class RequestProtocol:
    """One way to ask. `kinds` are the kinds of requests seen in it, by template and status, as far as these decide."""

    __slots__ = ("active", "kinds", "method", "name", "scheme", "version")

    def __init__(self, method: str, scheme: str, version: str, active: NumberSeries) -> None:
        self.method: str = method
        self.scheme: str = scheme
        self.version: str = version
        self.name: str = "HTTP" if method == OTHER else method
        self.active: NumberSeries = active
        self.kinds: dict[tuple[str, int], BoundSeries] = {}


class RequestProtocolCache:
    """The ways to ask that were met, each bound once: all words are from short lists. Thread-safe."""

    def __init__(self, telemetry: Telemetry) -> None:
        methods = telemetry.settings.known_methods
        self._methods = frozenset(methods) if methods else HTTP_METHODS
        self._active = telemetry.metrics.family(ACTIVE_REQUESTS)
        self._streams = telemetry.metrics.family(STREAM_ACTIVE)
        self._made: dict[tuple[str, str, str, str], RequestProtocol] = {}
        self.known: dict[tuple[Any, Any, Any], RequestProtocol] = {}
        """By method, scheme and version as they stand in the scope, for those that stand there in our words."""
        self._active.number("GET", "http")  # there at zero, before the first request

    def find(self, scope: Scope, scheme: str | None = None) -> RequestProtocol:
        """The manner of a request; `scheme` is the original one where a proxy has told it."""
        given = (scope.get("method"), scope.get("scheme"), scope.get("http_version"))
        method = scope.get("method", "GET")  # a WebSocket's handshake is always a GET
        method = method if method in self._methods else OTHER
        scheme = scheme or scope.get("scheme", "http")
        scheme = scheme if scheme in _SCHEMES else OTHER
        version = scope.get("http_version", "")
        version = version if version in _VERSIONS else ""
        stream = WEBSOCKET if scope["type"] == WEBSOCKET else ""
        key = (stream, method, scheme, version)
        manner = self._made.get(key)
        if manner is None:
            active = self._streams.number(stream) if stream else self._active.number(method, scheme)
            manner = self._made[key] = RequestProtocol(method, scheme, version, active)
        if given == key[1:] and not stream:
            self.known[given] = manner
        return manner
