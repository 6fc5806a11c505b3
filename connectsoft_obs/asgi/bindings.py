"""Metric series, span attributes and log template per method, route, status and error, created once and reused."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from opentelemetry.trace import SpanKind

from connectsoft_obs.asgi.types import Scope
from connectsoft_obs.export import protobuf
from connectsoft_obs.signals.logs import LogLineTemplate
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

_ATTRIBUTES_FIELD = 9
"""Number of the field `attributes` in the OTLP message Span."""

_MAX_CACHED_SIZES = 4096
_MAX_CACHED_SERIES = 4096

_path_prefix = protobuf.key_prefix(_ATTRIBUTES_FIELD, URL_PATH).texts
_first_byte_prefix = protobuf.key_prefix(_ATTRIBUTES_FIELD, TIME_TO_FIRST_BYTE).double
_pack_double = struct.Struct("<d").pack
_encoded_sizes: dict[int, bytes] = {}

OTHER = ErrorType.OTHER.value
WEBSOCKET = "websocket"
_SCHEMES = frozenset({"http", "https", "ws", "wss"})
_VERSIONS = frozenset({"1.0", "1.1", "2", "3"})


def encode_fixed_attributes(values: tuple[str, float, int]) -> bytes:
    """Encode path, time to first byte in seconds and response body size as attributes of an OTLP span."""
    path, first_byte, size = values
    raw = path.encode("utf-8", "replace")
    length = len(raw)
    if length < protobuf.MAX_SHORT_TEXT:
        encoded_path = _path_prefix[length] + raw
    else:
        encoded_path = protobuf.key_value(_ATTRIBUTES_FIELD, URL_PATH, path)
    return b"".join(
        (encoded_path, _first_byte_prefix, _pack_double(first_byte), _encoded_sizes.get(size) or _encode_size(size))
    )


def _encode_size(size: int) -> bytes:
    encoded = protobuf.key_value(_ATTRIBUTES_FIELD, HTTP_RESPONSE_BODY_SIZE, size)
    if len(_encoded_sizes) < _MAX_CACHED_SIZES:  # the responses of a route have few different sizes
        _encoded_sizes[size] = encoded
    return encoded


FIXED_ATTRIBUTES: Final = FixedAttributes(
    (URL_PATH, TIME_TO_FIRST_BYTE, HTTP_RESPONSE_BODY_SIZE), encode_fixed_attributes
)
"""The three attributes that almost every request span has, besides those it shares with other requests."""

SeriesKey: TypeAlias = tuple[str, str, str, int, str, str | None, str, Outcome | None]
"""Key of a `BoundSeries`: method, scheme, HTTP version, status, route, error type, stream kind, outcome.

The status is 0 if there is none; the stream kind of an ordinary response is empty. A plain tuple is cheaper to create
than a named one.
"""


class BoundSeries:
    """Metric series, shared span attributes and log fields of all requests with one `SeriesKey`.

    `has_own_series` is False beyond the cardinality limit, where requests share the overflow series. `log_template` and
    `log_level` are set by the access log when it writes the first line.
    """

    __slots__ = (
        "duration",
        "has_own_series",
        "is_error",
        "log_fields",
        "log_level",
        "log_message",
        "log_template",
        "slo_counter",
        "span_attributes",
        "span_name",
    )

    def __init__(self, key: SeriesKey, family: Family, telemetry: Telemetry) -> None:
        method, scheme, version, status, route, error_type, stream_kind, outcome = key
        assert outcome is not None
        method_name = "HTTP" if method == ErrorType.OTHER else method
        self.span_name: str = f"{method_name} {route}" if route else method_name
        self.log_message: str = f"{self.span_name} {status}" if status else self.span_name
        self.is_error: bool = outcome in (Outcome.FAILURE, Outcome.TIMEOUT)
        values: dict[str, Any] = {
            HTTP_METHOD: method,
            URL_SCHEME: scheme,
            HTTP_ROUTE: route,
            HTTP_STATUS: status,
            ERROR_TYPE: error_type,
            PROTOCOL_VERSION: version,
        }
        attributes = {name: value for name, value in values.items() if value}
        label_values = {name: str(value) for name, value in attributes.items()}
        label_values |= {STREAM_KIND: stream_kind, OUTCOME: outcome.value}
        labels = tuple(label_values.get(label, "") for label in family.metric.labels)
        self.duration: Histogram = family.histogram_series(*labels)
        self.has_own_series: bool = labels in family.children
        self.slo_counter: BoundCounter | None = telemetry.slo_counter(family.metric, label_values, outcome)
        self.log_template: LogLineTemplate | None = None
        self.log_level: int = 0
        if stream_kind:
            attributes[STREAM_KIND] = stream_kind
        self.span_attributes: EncodedAttributes = encode_common_attributes(
            attributes, self.span_name, SpanKind.SERVER, FIXED_ATTRIBUTES
        )
        not_logged = (URL_SCHEME, PROTOCOL_VERSION)
        self.log_fields: dict[str, Any] = {key: value for key, value in attributes.items() if key not in not_logged}
        self.log_fields[OUTCOME] = outcome.value


class BoundSeriesCache:
    """Cache of `BoundSeries` by key. Keys that do not fit are bound again for each request. Thread-safe."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._requests = telemetry.metrics.family(REQUEST_DURATION)
        self._streams = telemetry.metrics.family(STREAM_DURATION)
        self._telemetry = telemetry
        self.by_key: dict[SeriesKey, BoundSeries] = {}

    def bind(self, key: SeriesKey) -> BoundSeries:
        """Create the `BoundSeries` of a key that is not in the cache."""
        stream_kind = key[6]
        series = BoundSeries(key, self._streams if stream_kind else self._requests, self._telemetry)
        # The metric counts each overflow beyond its cardinality limit, so such a series is not cached.
        if series.has_own_series and len(self.by_key) < _MAX_CACHED_SERIES:
            self.by_key[key] = series
        return series


class RequestProtocol:
    """Method, scheme and HTTP version of a request as telemetry attributes, and what such requests share.

    `series_by_route` caches the `BoundSeries` by route and status, for requests without error type or stream kind.
    """

    __slots__ = ("active_series", "method", "scheme", "series_by_route", "span_name", "version")

    def __init__(self, method: str, scheme: str, version: str, active_series: NumberSeries) -> None:
        self.method: str = method
        self.scheme: str = scheme
        self.version: str = version
        self.span_name: str = "HTTP" if method == OTHER else method
        self.active_series: NumberSeries = active_series
        self.series_by_route: dict[tuple[str, int], BoundSeries] = {}


class RequestProtocolCache:
    """Cache of `RequestProtocol`. Bounded, because the attribute values come from fixed lists. Thread-safe."""

    def __init__(self, telemetry: Telemetry) -> None:
        methods = telemetry.settings.known_methods
        self._methods = frozenset(methods) if methods else HTTP_METHODS
        self._active_requests = telemetry.metrics.family(ACTIVE_REQUESTS)
        self._active_streams = telemetry.metrics.family(STREAM_ACTIVE)
        self._by_attributes: dict[tuple[str, str, str, str], RequestProtocol] = {}
        self.by_scope: dict[tuple[Any, Any, Any], RequestProtocol] = {}
        """By method, scheme and version of the ASGI scope, for those that equal the attribute values."""
        self._active_requests.number_series("GET", "http")  # the series exists with value 0 before the first request

    def find(self, scope: Scope, scheme: str | None = None) -> RequestProtocol:
        """Return the protocol of a request; `scheme` is the one that a trusted proxy has reported, if any."""
        scope_key = (scope.get("method"), scope.get("scheme"), scope.get("http_version"))
        method = scope.get("method", "GET")  # a WebSocket handshake is always a GET
        method = method if method in self._methods else OTHER
        scheme = scheme or scope.get("scheme", "http")
        scheme = scheme if scheme in _SCHEMES else OTHER
        version = scope.get("http_version", "")
        version = version if version in _VERSIONS else ""
        stream_kind = WEBSOCKET if scope["type"] == WEBSOCKET else ""
        key = (stream_kind, method, scheme, version)
        protocol = self._by_attributes.get(key)
        if protocol is None:
            if stream_kind:
                active_series = self._active_streams.number_series(stream_kind)
            else:
                active_series = self._active_requests.number_series(method, scheme)
            protocol = self._by_attributes[key] = RequestProtocol(method, scheme, version, active_series)
        if scope_key == key[1:] and not stream_kind:
            self.by_scope[scope_key] = protocol
        return protocol
