"""Who asked whom for what: client, peer, server, path and query of a request, as span attributes.

Follows the HTTP span conventions of OpenTelemetry semantic conventions 1.44.0.
"""

from __future__ import annotations

import re
from typing import Any

from connectsoft_obs.asgi.forwarded import NOTHING, Forwarded, ForwardedInfo
from connectsoft_obs.asgi.types import Scope
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
_KEPT = 1024
_LONGEST = 512
"""Bytes of Host and User-Agent together, beyond which a caller is not remembered."""


class ClientAttributes:
    """Who asks whom: what the requests of one connection have in common.

    Args:
        shared: as span attributes.
        line: as fields of an access line, without secrets.
    """

    __slots__ = ("line", "shared")

    def __init__(self, shared: EncodedAttributes, line: EncodedFields) -> None:
        self.shared: EncodedAttributes = shared
        self.line: EncodedFields = line


class RequestAttributeCache:
    """Reads addresses. Thread-safe; what it remembers of callers is bounded.

    Args:
        settings: proxies that are trusted, query keys that are shown.
        logs: cleans fields of a line and lays them out.
    """

    def __init__(self, settings: Settings, logs: LogPipeline) -> None:
        self._forwarded = Forwarded(settings.trusted_proxies)
        self._redact_query = logs.redaction.redact_query
        self._shown_keys = frozenset(settings.url_query_allowlist)
        self._logs = logs
        self.known: dict[tuple[Any, ...], ClientAttributes] = {}
        """Callers by peer, Host and User-Agent, and by what proxies said of them where they did."""

    def original(self, peer: Any, headers: dict[bytes, bytes]) -> ForwardedInfo:
        """What trusted proxies say of the request as the client made it."""
        return self._forwarded.original(str(peer[0]), headers) if peer else NOTHING

    def caller(self, peer: Any, headers: dict[bytes, bytes], said: ForwardedInfo = NOTHING) -> ClientAttributes:
        """Who asks; the next request of a connection costs one look-up."""
        if type(peer) is not tuple:  # ASGI allows any iterable
            peer = tuple(peer or ())
        key: tuple[Any, ...] = (peer, headers.get(b"host"), headers.get(b"user-agent"))
        if said is not NOTHING:
            key = (*key, said.client, said.host)
        return self.known.get(key) or self._met(key, said)

    def url_attributes(self, scope: Scope) -> dict[str, Any]:
        """What is asked for, as span attributes."""
        query = scope.get("query_string")
        return {URL_PATH: scope["path"], URL_QUERY: self.query(query)} if query else {URL_PATH: scope["path"]}

    def query(self, raw: bytes) -> str:
        """A query without secrets."""
        return self._redact_query(raw, self._shown_keys)

    def _met(self, key: tuple[Any, ...], said: ForwardedInfo) -> ClientAttributes:
        peer, host, agent = key[:3]
        host = said.host or host or b""
        found: dict[str, Any] = {}
        server = _parsed_host(host)
        if server is not None:
            found[SERVER_ADDRESS] = server[0]
            if server[1] is not None:
                found[SERVER_PORT] = server[1]
        if peer:
            found |= {CLIENT_ADDRESS: said.client or peer[0], PEER_ADDRESS: peer[0], PEER_PORT: peer[1]}
        if agent is not None:
            found[USER_AGENT] = agent.decode("latin-1")
        shown = {name: found[name] for name in (CLIENT_ADDRESS, USER_AGENT) if found.get(name) is not None}
        line = self._logs.clean(shown)
        caller = ClientAttributes(encode_common_attributes(found), self._logs.fragment(line))
        # A secret is looked for, and counted, each time.
        if line == shown and len(host) + len(agent or b"") <= _LONGEST:
            if len(self.known) >= _KEPT:
                self.known.clear()
            self.known[key] = caller
        return caller


def _parsed_host(host: bytes) -> tuple[str, int | None] | None:
    match = _HOST.fullmatch(host)
    if match is None:
        return None
    port = int(match[2]) if match[2] else None
    return match[1].decode("latin-1").strip("[]"), port if port is None or 0 < port < 65536 else None
