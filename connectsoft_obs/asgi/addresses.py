"""Who asked whom for what: client, peer, server, path and query of a request, as span attributes.

Follows the HTTP span conventions of OpenTelemetry semantic conventions 1.44.0.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from connectsoft_obs.asgi.forwarded import NOTHING, Forwarded
from connectsoft_obs.asgi.query import redacted
from connectsoft_obs.settings import Settings
from connectsoft_obs.signals.tracing import Shared, shared
from connectsoft_obs.vocabulary import (
    CLIENT_ADDRESS,
    PEER_ADDRESS,
    PEER_PORT,
    SERVER_ADDRESS,
    SERVER_PORT,
    URL_PATH,
    URL_QUERY,
    USER_AGENT,
)

if TYPE_CHECKING:
    from connectsoft_obs.asgi.exchange import Exchange

_HOST = re.compile(rb"(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._~%!$&'()*+,;=-]+)(?::(\d{1,5}))?")
_KEPT = 1024
_LONGEST = 512
"""Bytes of Host and User-Agent together, beyond which a caller is not remembered."""


class Caller:
    """Who asks whom: what the requests of one connection have in common.

    Args:
        shared: as span attributes.
        line: as fields of an access line, without secrets.
    """

    __slots__ = ("line", "shared")

    def __init__(self, shared: Shared, line: dict[str, Any]) -> None:
        self.shared: Shared = shared
        self.line: dict[str, Any] = line


class Addresses:
    """Reads addresses. Thread-safe; what it remembers of callers is bounded.

    Args:
        settings: proxies that are trusted, query keys that are shown.
        clean: gives fields of a line without secrets.
    """

    def __init__(self, settings: Settings, clean: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self._forwarded = Forwarded(settings.trusted_proxies)
        self._shown_keys = frozenset(settings.query_keys)
        self._clean = clean
        self._callers: dict[tuple[Any, ...], Caller] = {}

    def see(self, exchange: Exchange) -> None:
        """Note what trusted proxies say of the original request; once, when the request begins."""
        original = self._forwarded.original(str(exchange.client), exchange.headers)
        if original is not NOTHING:
            exchange.client = original.client or exchange.client
            exchange.host = original.host
            exchange.scheme = original.scheme or exchange.scheme

    def caller(self, exchange: Exchange) -> Caller:
        """Who asks; the next request of a connection costs one look-up."""
        headers, peer = exchange.headers, exchange.scope.get("client")
        if type(peer) is not tuple:  # ASGI allows any iterable
            peer = tuple(peer or ())
        key = (exchange.host or headers.get(b"host"), headers.get(b"user-agent"), exchange.client, peer)
        return self._callers.get(key) or self._met(key, peer)

    def asked(self, exchange: Exchange) -> dict[str, Any]:
        """What is asked for, as span attributes."""
        scope = exchange.scope
        query = scope.get("query_string")
        if not query:
            return {URL_PATH: scope["path"]}
        return {URL_PATH: scope["path"], URL_QUERY: redacted(query, self._shown_keys)}

    def of_span(self, exchange: Exchange) -> dict[str, Any]:
        """Both, for whoever looks at a span before it ends."""
        return {**self.asked(exchange), **self.caller(exchange).shared.items}

    def _met(self, key: tuple[Any, ...], peer: Any) -> Caller:
        host, agent, client, _ = key
        found: dict[str, Any] = {}
        server = _parsed_host(host or b"")
        if server is not None:
            found[SERVER_ADDRESS] = server[0]
            if server[1] is not None:
                found[SERVER_PORT] = server[1]
        if peer:
            found |= {CLIENT_ADDRESS: client, PEER_ADDRESS: peer[0], PEER_PORT: peer[1]}
        if agent is not None:
            found[USER_AGENT] = agent.decode("latin-1")
        said = {name: found[name] for name in (CLIENT_ADDRESS, USER_AGENT) if found.get(name) is not None}
        line = self._clean(said)
        caller = Caller(shared(found), line)
        # A secret is looked for, and counted, each time.
        if line == said and len(host or b"") + len(agent or b"") <= _LONGEST:
            if len(self._callers) >= _KEPT:
                self._callers.clear()
            self._callers[key] = caller
        return caller


def _parsed_host(host: bytes) -> tuple[str, int | None] | None:
    match = _HOST.fullmatch(host)
    if match is None:
        return None
    port = int(match[2]) if match[2] else None
    return match[1].decode("latin-1").strip("[]"), port if port is None or 0 < port < 65536 else None
