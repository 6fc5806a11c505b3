"""Who asked whom for what: client, peer, server, path and query of a request, as span attributes.

Follows the HTTP span conventions of OpenTelemetry semantic conventions 1.44.0.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from connectsoft_obs.asgi.forwarded import NOTHING, Forwarded
from connectsoft_obs.asgi.query import redacted
from connectsoft_obs.settings import Settings
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


class Addresses:
    """Reads addresses. Thread-safe; its cache of Host headers stops growing when full."""

    def __init__(self, settings: Settings) -> None:
        self._forwarded = Forwarded(settings.trusted_proxies)
        self._shown_keys = frozenset(settings.query_keys)
        self._hosts: dict[bytes, tuple[str, int | None] | None] = {}

    def see(self, exchange: Exchange) -> None:
        """Note what trusted proxies say of the original request; once, when the request begins."""
        original = self._forwarded.original(str(exchange.client), exchange.headers)
        if original is not NOTHING:
            exchange.client = original.client or exchange.client
            exchange.host = original.host
            exchange.scheme = original.scheme or exchange.scheme

    def of_span(self, exchange: Exchange) -> dict[str, Any]:
        """The attributes that differ from request to request."""
        scope, headers = exchange.scope, exchange.headers
        found: dict[str, Any] = {URL_PATH: scope["path"]}
        if query := scope.get("query_string"):
            found[URL_QUERY] = redacted(query, self._shown_keys)
        server = self._server(exchange.host or headers.get(b"host", b""))
        if server is not None:
            found[SERVER_ADDRESS] = server[0]
            if server[1] is not None:
                found[SERVER_PORT] = server[1]
        peer = scope.get("client")
        if peer:
            found[CLIENT_ADDRESS] = exchange.client
            found[PEER_ADDRESS] = peer[0]
            found[PEER_PORT] = peer[1]
        if (agent := headers.get(b"user-agent")) is not None:
            found[USER_AGENT] = agent.decode("latin-1")
        return found

    def _server(self, host: bytes) -> tuple[str, int | None] | None:
        known = self._hosts.get(host)
        if known is None and host not in self._hosts:
            known = _parsed_host(host)
            if len(self._hosts) < _KEPT and len(host) < 256:
                self._hosts[host] = known
        return known


def _parsed_host(host: bytes) -> tuple[str, int | None] | None:
    match = _HOST.fullmatch(host)
    if match is None:
        return None
    port = int(match[2]) if match[2] else None
    return match[1].decode("latin-1").strip("[]"), port if port is None or 0 < port < 65536 else None
