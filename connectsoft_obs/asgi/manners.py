"""What is known of a request by how it is made: its method, scheme and version, in the words that telemetry has for them."""

from __future__ import annotations

from typing import Any

from connectsoft_obs.asgi.recorded import Recorded
from connectsoft_obs.asgi.types import Scope
from connectsoft_obs.signals.metrics import Number
from connectsoft_obs.telemetry import Telemetry
from connectsoft_obs.vocabulary import ACTIVE_REQUESTS, HTTP_METHODS, STREAM_ACTIVE, ErrorType

OTHER = ErrorType.OTHER.value
WEBSOCKET = "websocket"
_SCHEMES = frozenset({"http", "https", "ws", "wss"})
_VERSIONS = frozenset({"1.0", "1.1", "2", "3"})


class Manner:
    """One way to ask. `kinds` are the kinds of requests seen in it, by template and status, as far as these decide."""

    __slots__ = ("active", "kinds", "method", "name", "scheme", "version")

    def __init__(self, method: str, scheme: str, version: str, active: Number) -> None:
        self.method: str = method
        self.scheme: str = scheme
        self.version: str = version
        self.name: str = "HTTP" if method == OTHER else method
        self.active: Number = active
        self.kinds: dict[tuple[str, int], Recorded] = {}


class Manners:
    """The ways to ask that were met, each bound once: all words are from short lists. Thread-safe."""

    def __init__(self, telemetry: Telemetry) -> None:
        methods = telemetry.settings.known_methods
        self._methods = frozenset(methods) if methods else HTTP_METHODS
        self._active = telemetry.metrics.family(ACTIVE_REQUESTS)
        self._streams = telemetry.metrics.family(STREAM_ACTIVE)
        self._made: dict[tuple[str, str, str, str], Manner] = {}
        self.known: dict[tuple[Any, Any, Any], Manner] = {}
        """By method, scheme and version as they stand in the scope, for those that stand there in our words."""
        self._active.number("GET", "http")  # there at zero, before the first request

    def of(self, scope: Scope, scheme: str | None = None) -> Manner:
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
            manner = self._made[key] = Manner(method, scheme, version, active)
        if given == key[1:] and not stream:
            self.known[given] = manner
        return manner
