"""Client, server, path and query attributes of a request.

Follows the HTTP span conventions of OpenTelemetry semantic conventions 1.44.0.
"""

from __future__ import annotations

import re
from typing import Any

from connectsoft_obs.asgi.forwarded import NO_FORWARDED_INFO, ForwardedHeaders, ForwardedInfo
from connectsoft_obs.settings import Settings
from connectsoft_obs.signals.logs import EncodedFields, LogPipeline
from connectsoft_obs.signals.tracing import EncodedAttributes, encode_common_attributes
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

_HOST = re.compile(rb"(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._~%!$&'()*+,;=-]+)(?::(\d{1,5}))?")
_MAX_CACHED_CLIENTS = 1024
_MAX_CACHED_HEADER_SIZE = 512
"""Bytes of Host and User-Agent together, beyond which the attributes of a client are not cached."""


class ClientAttributes:
    """Client and server attributes that the requests of one connection share.

    Args:
        span_attributes: client, peer, server and user agent as encoded span attributes.
        log_fields: client address and user agent as encoded fields of an access log line, sanitized.
    """

    __slots__ = ("log_fields", "span_attributes")

    def __init__(self, span_attributes: EncodedAttributes, log_fields: EncodedFields) -> None:
        self.span_attributes: EncodedAttributes = span_attributes
        self.log_fields: EncodedFields = log_fields


class RequestAttributeCache:
    """Reads the client and URL attributes of requests and caches those of clients, up to a limit. Thread-safe.

    Args:
        settings: has the trusted proxies and the query keys that are not redacted.
        logs: sanitizes and encodes log fields.
    """

    def __init__(self, settings: Settings, logs: LogPipeline) -> None:
        self._forwarded = ForwardedHeaders(settings.trusted_proxies)
        self._redact_query = logs.redaction.redact_query
        self._query_allowlist = frozenset(settings.url_query_allowlist)
        self._logs = logs
        self.clients: dict[tuple[Any, ...], ClientAttributes] = {}
        """By peer, Host and User-Agent; behind a trusted proxy also by the client and host that it reports."""

    def forwarded_info(self, peer: Any, headers: dict[bytes, bytes]) -> ForwardedInfo:
        """Return what trusted proxies report about the original request."""
        return self._forwarded.read(str(peer[0]), headers) if peer else NO_FORWARDED_INFO

    def client(
        self, peer: Any, headers: dict[bytes, bytes], forwarded: ForwardedInfo = NO_FORWARDED_INFO
    ) -> ClientAttributes:
        """Return the client attributes of a request. They are cached for the next requests of the connection."""
        if type(peer) is not tuple:  # ASGI allows any iterable
            peer = tuple(peer or ())
        key: tuple[Any, ...] = (peer, headers.get(b"host"), headers.get(b"user-agent"))
        if forwarded is not NO_FORWARDED_INFO:
            key = (*key, forwarded.client, forwarded.host)
        return self.clients.get(key) or self._create_client(key, forwarded)

    def url_attributes(self, path: str, query: bytes | None) -> dict[str, Any]:
        """Return path and redacted query as span attributes."""
        return {URL_PATH: path, URL_QUERY: self.redact_query(query)} if query else {URL_PATH: path}

    def redact_query(self, query: bytes) -> str:
        """Return a query string with secret values replaced."""
        return self._redact_query(query, self._query_allowlist)

    def _create_client(self, key: tuple[Any, ...], forwarded: ForwardedInfo) -> ClientAttributes:
        peer, host, user_agent = key[:3]
        host = forwarded.host or host or b""
        attributes: dict[str, Any] = {}
        server = _parse_host(host)
        if server is not None:
            attributes[SERVER_ADDRESS] = server[0]
            if server[1] is not None:
                attributes[SERVER_PORT] = server[1]
        if peer:
            attributes |= {CLIENT_ADDRESS: forwarded.client or peer[0], PEER_ADDRESS: peer[0], PEER_PORT: peer[1]}
        if user_agent is not None:
            attributes[USER_AGENT] = user_agent.decode("latin-1")
        logged = {name: attributes[name] for name in (CLIENT_ADDRESS, USER_AGENT) if attributes.get(name) is not None}
        fields = self._logs.sanitize(logged)
        client = ClientAttributes(encode_common_attributes(attributes), self._logs.encode_fields(fields))
        # Fields with a redacted value are not cached, because each redaction is counted.
        if fields == logged and len(host) + len(user_agent or b"") <= _MAX_CACHED_HEADER_SIZE:
            if len(self.clients) >= _MAX_CACHED_CLIENTS:
                self.clients.clear()
            self.clients[key] = client
        return client


def _parse_host(host: bytes) -> tuple[str, int | None] | None:
    match = _HOST.fullmatch(host)
    if match is None:
        return None
    port = int(match[2]) if match[2] else None
    return match[1].decode("latin-1").strip("[]"), port if port is None or 0 < port < 65536 else None
